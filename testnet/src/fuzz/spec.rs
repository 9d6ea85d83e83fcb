//! Targets: specs of every form, and the texts that people and programs type.

use std::collections::BTreeMap;

use shoal_protocol::fuzzing::Target;
use shoal_protocol::model::spec::{Allowance, SPEC_VERSION, is_label_text, is_plain_path};
use shoal_protocol::model::view::SpecBody;
use shoal_protocol::model::{
    Digest, Facts, Label, NodeId, ReplicaName, Resources, Spec, Value, WorkloadName, codec,
};
use shoal_protocol::trust::Invite;

use super::core::real::Real;

/// A spec; the first byte says of which form.
pub const SPEC: Target = Target { name: "spec", run, seeds, most: 8_192 };
/// A text.
pub const TEXT: Target = Target { name: "text", run: run_text, seeds: texts, most: 512 };

fn run(data: &[u8]) {
    let Some((form, bytes)) = data.split_first() else { return };
    let version = u16::from(form % 5);
    let value = Value::Workload { version, bytes: bytes.to_vec() };
    let checked = value.check();
    let Some(spec) = value.spec() else {
        // The form of a newer program is kept and passed on.
        assert!(checked.is_err() || version > SPEC_VERSION, "it is good, and cannot be read");
        return;
    };
    assert_eq!(checked, Ok(()));
    let again = Value::workload(&spec);
    assert_eq!(again.spec().as_ref(), Some(&spec), "it is another one after a journey");
    let known: Vec<Digest> = spec.program.artifacts().map(|it| it.digest).collect();
    assert!(value.artifacts().iter().all(|it| known.contains(it)), "artifacts of nobody");
    if let Ok(back) = Spec::try_from(SpecBody::from(&spec)) {
        assert_eq!(back.revision(), spec.revision(), "it would run anew after a journey as JSON");
    }
    let facts = Facts {
        arch: "x86_64".into(),
        capacity: Resources { memory: 1 << 30, cpu: 4_000 },
        labels: BTreeMap::from([("zone".into(), "shop".into())]),
        ..crate::sim::world::facts()
    };
    _ = (facts.fits(&spec), spec.scaled(3), spec.reservation(), spec.host_ports());
    _ = spec.later.options();
}

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for spec in &Real::get().specs {
        if let Value::Workload { version, bytes } = Value::workload(spec) {
            for form in [version, 2, SPEC_VERSION] {
                let form = u8::try_from(form).expect("there are three forms");
                seeds.push([&[form], bytes.as_slice()].concat());
            }
        }
    }
    // Form 1, field by field: name, runtime, artifact, replicas, resources, env, labels.
    let name: WorkloadName = "shop/web".parse().expect("two labels");
    let maps = [("A", "b")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let maps = (BTreeMap::from(maps), BTreeMap::<String, String>::new());
    let form = codec::encode(&(name, 0u32, Digest([3; 32]), 9u64, 4u32, 64u64 << 20, 250u32, maps));
    seeds.push([&[1], form.as_slice()].concat());
    seeds
}

/// Text that can be read is shown so that it can be read again.
fn run_text(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    again::<NodeId>(&text);
    again::<Digest>(&text);
    again::<Label>(&text);
    again::<WorkloadName>(&text);
    again::<ReplicaName>(&text);
    again::<Allowance>(&text);
    _ = (text.parse::<Invite>(), is_label_text(&text), is_plain_path(&text));
}

fn again<T: std::str::FromStr + std::fmt::Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let shown = value.to_string();
        assert!(shown.parse::<T>().is_ok_and(|again| again == value), "`{text}` is `{shown}`");
    }
}

fn texts() -> Vec<Vec<u8>> {
    let texts = [
        "shop/web/12",
        "web",
        "privileged",
        "cap=NET_ADMIN",
        "device=/dev/ttyUSB0/",
        "security=seccomp=unconfined",
        "host-network",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
        "shoal1:abcdefghijklmnopqrstuvwxyz234567@10.0.0.5:7700,[::1]:7700",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}
