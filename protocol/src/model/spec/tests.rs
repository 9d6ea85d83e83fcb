use std::time::Duration;

use super::*;
use crate::model::Digest;

fn form() -> SpecForm {
    let artifact = Artifact { digest: Digest([1; 32]), size: 1 };
    let resources = Resources { memory: 64 << 20, cpu: 100 };
    SpecForm::wasm_service("web".parse().unwrap(), artifact, 1, resources)
}

fn refused(change: impl FnOnce(&mut SpecForm)) -> String {
    let mut form = form();
    change(&mut form);
    Spec::try_from(form).unwrap_err().to_string()
}

/// A spec that this version accepts must do all that it says: the rest is refused by its name.
#[test]
fn unsupported_parts_are_refused_by_name() {
    let component = |change: fn(&mut Component)| {
        move |form: &mut SpecForm| {
            let Program::Wasm(component) = &mut form.program else { unreachable!() };
            change(component);
        }
    };
    let probe = Probe {
        check: Check::Tcp { port: 80 },
        every: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        failures: 3,
    };
    let words = [
        refused(|form| form.program = Program::Containers(Vec::new())),
        refused(component(|it| it.world = World::Command)),
        refused(component(|it| it.args = vec!["-v".into()])),
        refused(component(|it| it.allow = vec![Permission::Connect("db:5432".into())])),
        refused(|form| form.kind = Kind::Daemon),
        refused(|form| form.kind = Kind::Cron { schedule: "* * * * *".into() }),
        refused(|form| form.resources.limit.memory += 1),
        refused(|form| form.placement.spread = Some("zone".into())),
        refused(|form| form.placement.tolerate = vec!["edge".into()]),
        refused(|form| form.health.liveness = Some(probe)),
        refused(|form| form.update.roll_back = true),
        refused(|form| form.restart = RestartPolicy::Never),
        refused(|form| form.exposure.hosts = vec!["shop.example".into()]),
        refused(|form| {
            form.storage = vec![Volume {
                name: "data".into(),
                path: "/data".into(),
                read_only: false,
                source: VolumeSource::Kept,
            }];
        }),
    ];
    let names: Vec<&str> = words.iter().map(|text| text.split(':').next().unwrap()).collect();
    assert_eq!(
        names,
        [
            "containers",
            "world command",
            "args",
            "allow",
            "daemon",
            "cron",
            "a limit above the reservation",
            "spread",
            "tolerate",
            "health",
            "update",
            "restart",
            "hosts",
            "storage",
        ]
    );
    // A text with such a field is refused with the same words.
    let kinds_and_values = ["world command", "daemon", "cron", "a limit above the reservation"];
    for (name, words) in names.iter().zip(&words) {
        let by_name = InvalidSpec::not_yet(name).map(|refusal| refusal.to_string());
        let expected = (!kinds_and_values.contains(name)).then(|| words.clone());
        assert_eq!(by_name, expected, "{name}");
    }
    assert_eq!(InvalidSpec::not_yet("replicas"), None);
    assert!(words[0].ends_with("not supported yet by this version of shoal"), "{}", words[0]);
}

/// Another number of replicas, or other nodes, must not restart a replica.
#[test]
fn only_what_needs_a_restart_changes_the_revision() {
    let revision = |form: SpecForm| Spec::try_from(form).unwrap().revision();
    let base = revision(form());
    let mut moved = form();
    moved.placement.require.insert("zone".into(), "shop".into());
    assert_eq!(revision(moved), base);
    assert_eq!(revision(SpecForm { kind: Kind::Service { replicas: 7 }, ..form() }), base);
    assert_ne!(revision(form().with_env([("A".into(), "b".into())].into())), base);
    let more = Resources { memory: 65 << 20, cpu: 100 };
    assert_ne!(revision(SpecForm { resources: more.into(), ..form() }), base);
}
