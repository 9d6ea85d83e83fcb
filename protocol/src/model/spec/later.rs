//! The parts of a spec that came after form 2 was frozen: [`Later`], and the pieces of images. A
//! spec that uses none of them, and no probes, is written in form 2, so that older programs run
//! it; with one of them it is of form 3, which they keep and relay, and do not act on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::super::codec::{self, Malformed};
use super::super::name::Label;
use super::super::resources::{Amounts, DISK};
use super::{
    After, Artifact, Autoscale, InvalidSpec, Kind, Mount, Program, Rollout, Rule, Spec, SpecForm,
    ValueKind, ValueUse, VolumeSource, World, counted, devices,
};
use super::{after, container_checks, extra, group, hooks, placement};

/// The form with [`Later`] behind all that form 2 has.
pub(super) const FORM: u16 = 3;
/// TCP ports of an image that count: far more than a program listens on.
pub const MAX_EXPOSED: usize = 32;

/// The fields that came after form 2. Each default means what form 2 means.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Later {
    /// The standard input of the container's program stays open: `attach` writes to it.
    pub stdin: bool,
    /// The program has a terminal.
    pub tty: bool,
    /// TCP ports that the image names as its program's, besides those that the workload names:
    /// other workloads reach them by its name. In order, and each once.
    pub exposed: Vec<u16>,
    /// The secrets and configs that replicas get.
    pub values: Vec<ValueUse>,
    /// What a node must fulfil besides the labels of [`Placement::require`](super::Placement).
    pub require: Vec<Rule>,
    /// The set of workloads that it was published with: what leaves the set's files can be found
    /// and removed.
    pub set: Option<Label>,
    /// Raised to replace all replicas without another change.
    pub restarts: u64,
    /// How replicas get a new revision; none: all at once.
    pub rollout: Option<Rollout>,
    /// The spec to go back to when the update fails, without a previous one of its own.
    #[serde(with = "nested")]
    pub previous: Option<Spec>,
    /// The number of replicas follows from their load.
    pub autoscale: Option<Autoscale>,
    /// What each replica takes of its node beside memory and CPU: devices by name, and disk.
    pub uses: Amounts,
    /// Nothing of its memory and CPU is reserved: it takes what others leave.
    pub best_effort: bool,
    /// A greater one goes first where there is no room for all; 0 for most.
    pub priority: i32,
    /// The places of a component's volumes: folders that it finds at these paths. Those of a
    /// container stand in it.
    pub mounts: Vec<Mount>,
    /// Workloads of its namespace that it waits for before it is placed for the first time.
    pub after: Vec<After>,
    /// The health check that the container's image names does not count.
    pub no_healthcheck: bool,
}

impl Later {
    /// The part whose change needs a restart, encoded; nothing for the defaults.
    pub(super) fn revised(&self) -> Vec<u8> {
        let Later { stdin, tty, exposed: _, values, require: _, set: _, restarts, .. } = self;
        let Later { uses, best_effort, mounts, no_healthcheck, .. } = self;
        let mut bytes = Vec::new();
        // Each part is there if it or one behind it is.
        let has_mounts = !mounts.is_empty();
        let was_restarted = *restarts != 0 || has_mounts;
        let has_values = !values.is_empty() || was_restarted;
        if *stdin || *tty || has_values {
            bytes.extend(codec::encode(&(*stdin, *tty)));
        }
        if has_values {
            bytes.extend(codec::encode(values));
        }
        if was_restarted {
            bytes.extend(codec::encode(restarts));
        }
        if has_mounts {
            bytes.extend(codec::encode(mounts));
        }
        // The word keeps them apart from the numbers before, which may be missing.
        if !uses.is_empty() {
            bytes.extend(codec::encode(&("uses", uses)));
        }
        if *best_effort {
            bytes.extend(codec::encode(&"best effort"));
        }
        if *no_healthcheck {
            bytes.extend(codec::encode(&"no health check"));
        }
        bytes
    }

    /// Its parts in words, by the names that a manifest has for them.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        let Later { stdin, tty, exposed, values, require, set, restarts, .. } = self;
        let Later { rollout, previous: _, autoscale, uses, best_effort, priority, .. } = self;
        let mounts: Vec<String> = self.mounts.iter().map(Mount::to_string).collect();
        let after: Vec<String> = self.after.iter().map(After::to_string).collect();
        let disk = uses.of(DISK);
        let of = |kind: ValueKind| {
            let all = values.iter().filter(|it| it.kind == kind).map(ValueUse::shown);
            Some(all.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty())
        };
        let ports = exposed.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        [
            ("stdin", stdin.then(|| "true".to_owned())),
            ("tty", tty.then(|| "true".to_owned())),
            ("exposed", (!ports.is_empty()).then_some(ports)),
            ("volumes", (!mounts.is_empty()).then(|| mounts.join(", "))),
            ("secrets", of(ValueKind::Secret)),
            ("configs", of(ValueKind::Config)),
            ("require", Some(placement::listed(require)).filter(|text| !text.is_empty())),
            ("after", (!after.is_empty()).then(|| after.join(", "))),
            ("update", rollout.as_ref().map(Rollout::to_string)),
            ("autoscale", autoscale.as_ref().map(Autoscale::to_string)),
            ("set", set.as_ref().map(Label::to_string)),
            ("resources", Some(devices(uses)).filter(|text| !text.is_empty())),
            ("disk", (disk > 0).then(|| counted(DISK, disk))),
            ("reserve", best_effort.then(|| "none".to_owned())),
            ("priority", (*priority != 0).then(|| priority.to_string())),
            ("restarts", (*restarts != 0).then(|| restarts.to_string())),
            ("health", self.no_healthcheck.then(|| "none".to_owned())),
        ]
        .into_iter()
        .filter_map(|(name, text)| Some((name, text?)))
        .collect()
    }
}

/// Checks the later parts of a form.
pub(super) fn check(form: &SpecForm) -> Result<(), InvalidSpec> {
    let Later { stdin, tty, exposed, .. } = &form.later;
    if let Program::Wasm(_) = &form.program
        && (*stdin || *tty || !exposed.is_empty())
    {
        return Err(InvalidSpec::NotSupported("stdin, tty and exposed ports of a component"));
    }
    if form.later.no_healthcheck {
        let why = match &form.program {
            Program::Wasm(_) => {
                Some("a component has no health check to switch off: leave it away")
            }
            Program::Containers(_) if form.probes().next().is_some() => {
                Some("probes are there as well, and then that of the image counts for nothing")
            }
            Program::Containers(_) => None,
        };
        if let Some(why) = why {
            return Err(InvalidSpec::Health { probe: "none", why: why.into() });
        }
    }
    match &form.program {
        Program::Wasm(_) => container_checks::check_folders(&form.later.mounts, &form.storage)?,
        Program::Containers(_) if !form.later.mounts.is_empty() => {
            let why = "those of a container stand in it".to_owned();
            return Err(InvalidSpec::Container { field: "volumes", why });
        }
        Program::Containers(_) => {}
    }
    after::check(form)?;
    let wrong = |why: String| Err(InvalidSpec::Container { field: "exposed", why });
    if exposed.len() > MAX_EXPOSED {
        return wrong(format!("{} ports, at most {MAX_EXPOSED} are allowed", exposed.len()));
    }
    let ordered: BTreeSet<&u16> = exposed.iter().collect();
    if exposed.contains(&0) || !exposed.iter().eq(ordered) {
        return wrong("ports from 1 on are expected, in order and each once".into());
    }
    Ok(())
}

/// A spec inside another one, in the oldest form that has all its parts.
mod nested {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::super::super::codec::Bytes;
    use super::super::{Spec, decode};
    use super::encode;

    pub fn serialize<S: Serializer>(spec: &Option<Spec>, to: S) -> Result<S::Ok, S::Error> {
        let form = |spec: &Spec| {
            let (version, bytes) = encode(spec);
            (version, Bytes(bytes))
        };
        spec.as_ref().map(form).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Spec>, D::Error> {
        let form = Option::<(u16, Bytes)>::deserialize(from)?;
        let read = |(version, Bytes(bytes)): (u16, Bytes)| decode(version, &bytes);
        form.map(read).transpose().map_err(D::Error::custom)
    }
}

/// The spec in the oldest form that has all its parts, and that form.
pub(in crate::model) fn encode(spec: &Spec) -> (u16, Vec<u8>) {
    let mut bytes = codec::encode(spec);
    let pieces: Vec<_> = spec.program.platforms(None).map(|platform| platform.pieces).collect();
    let is_service = matches!(spec.kind, Kind::Service { .. });
    let is_command =
        matches!(&spec.program, Program::Wasm(component) if component.world == World::Command);
    let has_folders = matches!(&spec.program, Program::Wasm(_)) && !spec.storage.is_empty();
    let has_scratch = spec.storage.iter().any(|it| it.source == VolumeSource::Scratch);
    let is_plain = is_service
        && !has_scratch
        && !is_command
        && !has_folders
        && spec.health.is_empty()
        && spec.later == Later::default()
        && spec.placement.is_plain();
    let members = group::members(&spec.program);
    let extras = extra::extras(&spec.program);
    let hooks = hooks::hooks(&spec.program);
    let is_plain = is_plain && members.is_none() && extras.is_none() && hooks.is_none();
    if is_plain && pieces.iter().all(Option::is_none) {
        return (2, bytes);
    }
    bytes.extend(codec::encode(&spec.later));
    bytes.extend(codec::encode(&pieces));
    // Only then: a spec of one container has the bytes that it always had.
    if let Some(members) = members {
        bytes.extend(codec::encode(&members));
    }
    match (extras, hooks) {
        (None, None) => {}
        (Some(extras), None) => bytes.extend(codec::encode(&extras)),
        // Hooks stand behind the others, which stand there then in any case.
        (_, Some(hooks)) => {
            let extras: Vec<_> = spec.program.containers().iter().map(|it| &it.extra).collect();
            bytes.extend(codec::encode(&(extras, hooks)));
        }
    }
    (FORM, bytes)
}

/// Reads form 3.
pub(super) fn decode(bytes: &[u8]) -> Result<Spec, Malformed> {
    let (form, rest) = codec::decode_rest::<SpecForm>(bytes)?;
    let (later, rest) = codec::decode_rest::<Later>(rest)?;
    let (pieces, rest) = codec::decode_rest::<Vec<Option<Artifact>>>(rest)?;
    let mut form = SpecForm { later, ..form };
    if pieces.len() != form.program.platforms(None).count() {
        return Err(Malformed(format!("pieces of {} platforms", pieces.len())));
    }
    for (platform, pieces) in form.program.platforms_mut().zip(pieces) {
        platform.pieces = pieces;
    }
    let rest = group::read(&mut form.program, rest)?;
    let rest = extra::read(&mut form.program, rest)?;
    hooks::read(&mut form.program, rest)?;
    form.try_into().map_err(|invalid: InvalidSpec| Malformed(invalid.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::{Container, Image, PlatformImage};
    use super::*;
    use crate::model::{Digest, Resources, Value};

    /// An image with a layer of four pieces.
    fn image(pieces: Option<Artifact>) -> Spec {
        let part = |n: u8| Artifact { digest: Digest([n; 32]), size: 2 << 20 };
        let (config, layers) = (part(1), vec![part(2)]);
        let platform = PlatformImage { arch: "x86_64".into(), config, layers, pieces };
        let image = Image { platforms: vec![platform], ..Image::named("redis:7") };
        let mut container = Container::of("db", image);
        container.http = Some(8080);
        let size = Resources { memory: 64 << 20, cpu: 100 };
        let name = "db".parse().unwrap();
        SpecForm::container_service(name, container, 2, size).try_into().unwrap()
    }

    /// A new revision replaces every running replica, so an upgrade of shoal makes none: pieces are
    /// a way to carry an image, and no part of it.
    #[test]
    fn pieces_are_kept_and_are_no_new_revision() {
        let plain = image(None);
        let Value::Workload { version, bytes } = Value::workload(&plain) else { panic!() };
        assert_eq!((version, codec::decode::<Spec>(&bytes)), (2, Ok(plain.clone())));
        let old = "b1999290dd3a5f9d28c847a0689c2679c7ef09f8f1b3714864cf6afc84dbf47d";
        assert_eq!(plain.revision().to_string(), old, "as the program of form 2 had it");
        let in_pieces = image(Some(Artifact { digest: Digest([9; 32]), size: 4 * 32 }));
        let value = Value::workload(&in_pieces);
        assert!(matches!(&value, Value::Workload { version: 3, .. }));
        assert_eq!(value.spec(), Some(in_pieces.clone()));
        assert_eq!(in_pieces.revision(), plain.revision());
    }

    fn form(later: Later) -> SpecForm {
        let size = Resources { memory: 64 << 20, cpu: 100 };
        let container = Container::of("main", Image::named("db:1"));
        let form = SpecForm::container_service("db".parse().unwrap(), container, 1, size);
        SpecForm { later, ..form }
    }

    fn spec(later: Later) -> Spec {
        form(later).try_into().unwrap()
    }

    /// A spec without them has the bytes that older programs read; with them it says that they
    /// cannot.
    #[test]
    fn only_a_spec_that_uses_later_parts_is_of_form_3() {
        let plain = spec(Later::default());
        let Value::Workload { version, bytes } = Value::workload(&plain) else { panic!() };
        assert_eq!((version, codec::decode::<Spec>(&bytes)), (2, Ok(plain)));
        let later = Later { stdin: true, exposed: vec![80, 5432], ..Later::default() };
        let used = spec(later);
        let value = Value::workload(&used);
        assert!(matches!(&value, Value::Workload { version: 3, .. }));
        assert_eq!(value.spec(), Some(used));
        assert_eq!(value.check(), Ok(()));
    }

    /// Ports that an image names lead to it by name, and are no reason to restart it.
    #[test]
    fn exposed_ports_restart_nothing_and_are_reached_by_name() {
        let plain = spec(Later::default());
        let exposed = spec(Later { exposed: vec![5432], ..Later::default() });
        assert_eq!(exposed.revision(), plain.revision());
        assert_eq!(exposed.ports(), [(5432, 5432)].into());
        let stdin = spec(Later { stdin: true, ..Later::default() });
        assert_ne!(stdin.revision(), plain.revision());
    }

    /// Where it may run is no reason to restart it. A program that does not know the rules would
    /// run it anywhere, so it must not read them.
    #[test]
    fn rules_are_of_form_3_and_restart_nothing() {
        let plain = spec(Later::default());
        let with = |change: fn(&mut SpecForm)| {
            let mut form = form(Later::default());
            change(&mut form);
            Spec::try_from(form).unwrap()
        };
        let labels = with(|form| form.add_required("zone = front".parse().unwrap()));
        assert!(matches!(Value::workload(&labels), Value::Workload { version: 2, .. }));
        let ruled = with(|form| form.add_required("zone != back".parse().unwrap()));
        let tolerant = with(|form| form.placement.tolerate.push("edge".parse().unwrap()));
        for spec in [ruled, tolerant] {
            let value = Value::workload(&spec);
            let Value::Workload { version, bytes } = &value else { panic!() };
            assert_eq!((*version, value.spec()), (3, Some(spec.clone())));
            assert!(super::super::older::decode(2, bytes).is_err());
            assert_eq!(spec.revision(), plain.revision());
        }
    }

    /// A mark of its set is no reason to restart it; a restart is one, and has no other effect.
    #[test]
    fn set_restarts_nothing_and_restarts_replace_replicas() {
        let plain = spec(Later::default());
        let marked = spec(Later { set: "shop".parse().ok(), ..Later::default() });
        assert_eq!(marked.revision(), plain.revision());
        let again = |restarts| spec(Later { restarts, ..Later::default() });
        assert_ne!(again(1).revision(), plain.revision());
        assert_ne!(again(2).revision(), again(1).revision());
        for spec in [marked, again(1)] {
            let value = Value::workload(&spec);
            assert!(matches!(&value, Value::Workload { version: 3, .. }));
            assert_eq!(value.spec(), Some(spec));
        }
    }

    /// A component's volume is a reason to restart it; older programs do not run it without.
    #[test]
    fn volumes_of_a_component_are_of_form_3() {
        use super::super::{OnLoss, Volume, VolumeSource};
        let with = |source: VolumeSource, mounts: &[(&str, &str)]| {
            let artifact = Artifact { digest: Digest([1; 32]), size: 9 };
            let size = Resources { memory: 64 << 20, cpu: 100 };
            let mut form = SpecForm::wasm_service("db".parse().unwrap(), artifact, 1, size);
            let name = "data".to_owned();
            form.storage = vec![Volume { name, source, on_loss: OnLoss::Wait }];
            let mount = |(volume, path): &(&str, &str)| Mount {
                volume: (*volume).into(),
                path: (*path).into(),
                read_only: false,
            };
            form.later.mounts = mounts.iter().map(mount).collect();
            Spec::try_from(form).map_err(|error| error.to_string())
        };
        let kept = |mounts: &[(&str, &str)]| with(VolumeSource::Kept, mounts);
        let spec = kept(&[("data", "/data")]).unwrap();
        let value = Value::workload(&spec);
        assert!(matches!(&value, Value::Workload { version: 3, .. }));
        assert_eq!(value.spec(), Some(spec.clone()));
        assert_eq!(spec.kept().count(), 1);
        assert_ne!(spec.revision(), kept(&[("data", "/other")]).unwrap().revision());
        assert!(spec.later.options().contains(&("volumes", "data:/data".into())));
        for (mounts, why) in [
            (&[("other", "/data")][..], "there is no volume `other`"),
            (&[("data", "data")], "`data`"),
            (&[("data", "/a"), ("data", "/a")], "two are mounted at /a"),
            (&[], "`data` has no place in it"),
        ] {
            let refused = kept(mounts).unwrap_err();
            assert!(refused.contains(why), "{refused}");
        }
        let device = with(VolumeSource::Device("/srv".into()), &[("data", "/data")]);
        assert!(device.unwrap_err().contains("a path of the device"));
    }

    /// An older program would run a check that is switched off. Without the part nothing changed.
    #[test]
    fn health_check_that_is_off_is_of_form_3() {
        let plain = spec(Later::default());
        let off = spec(Later { no_healthcheck: true, ..Later::default() });
        let value = Value::workload(&off);
        assert!(matches!(&value, Value::Workload { version: 3, .. }));
        assert_eq!(value.spec(), Some(off.clone()));
        assert_ne!(off.revision(), plain.revision(), "it is started without the check");
        assert!(off.later.options().contains(&("health", "none".into())));
        let artifact = Artifact { digest: Digest([1; 32]), size: 9 };
        let size = Resources { memory: 64 << 20, cpu: 100 };
        let mut form = SpecForm::wasm_service("web".parse().unwrap(), artifact, 1, size);
        form.later.no_healthcheck = true;
        let refused = Spec::try_from(form).unwrap_err().to_string();
        assert!(refused.starts_with("health: none: a component has no health check"), "{refused}");
    }

    #[test]
    fn ports_out_of_order_are_refused() {
        for exposed in [vec![0], vec![2, 1], vec![1, 1], (1..=33).collect()] {
            let later = Later { exposed, ..Later::default() };
            assert!(Spec::try_from(form(later)).is_err());
        }
    }
}
