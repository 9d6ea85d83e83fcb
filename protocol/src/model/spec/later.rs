//! The parts of a spec that came after form 2 was frozen. A spec that uses none of them is written
//! in form 2, so that older programs run it; with one of them it is of form 3, which they keep and
//! relay, and do not act on.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::super::codec::{self, Malformed};
use super::{InvalidSpec, Program, Spec, SpecForm};

/// The form with [`Later`] behind all that form 2 has.
pub(super) const FORM: u16 = 3;
/// TCP ports of an image that count: far more than a program listens on.
pub const MAX_EXPOSED: usize = 32;

/// What came after form 2. Each default means what form 2 means.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Later {
    /// The standard input of the container's program stays open: `attach` writes to it.
    pub stdin: bool,
    /// The program has a terminal.
    pub tty: bool,
    /// TCP ports that the image names as its program's, besides those that the workload names:
    /// other workloads reach them by its name. In order, and each once.
    pub exposed: Vec<u16>,
}

impl Later {
    /// The part whose change needs a restart; none for the defaults.
    pub(super) fn revised(&self) -> Option<(bool, bool)> {
        let Later { stdin, tty, exposed: _ } = self;
        (*stdin || *tty).then_some((*stdin, *tty))
    }

    /// Its parts in words, by the names that a manifest has for them.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        let Later { stdin, tty, exposed } = self;
        let ports = exposed.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
        [
            ("stdin", stdin.then(|| "true".to_owned())),
            ("tty", tty.then(|| "true".to_owned())),
            ("exposed", (!ports.is_empty()).then_some(ports)),
        ]
        .into_iter()
        .filter_map(|(name, text)| Some((name, text?)))
        .collect()
    }
}

/// Checks the later parts of a form.
pub(super) fn check(form: &SpecForm) -> Result<(), InvalidSpec> {
    let Later { stdin, tty, exposed } = &form.later;
    if let Program::Wasm(_) = &form.program
        && (*stdin || *tty || !exposed.is_empty())
    {
        return Err(InvalidSpec::NotSupported("stdin, tty and exposed ports of a component"));
    }
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

/// The spec in the oldest form that has all its parts, and that form.
pub(in crate::model) fn encode(spec: &Spec) -> (u16, Vec<u8>) {
    let mut bytes = codec::encode(spec);
    if spec.later == Later::default() {
        return (2, bytes);
    }
    bytes.extend(codec::encode(&spec.later));
    (FORM, bytes)
}

/// Reads form 3.
pub(super) fn decode(bytes: &[u8]) -> Result<Spec, Malformed> {
    let (form, rest) = codec::decode_rest::<SpecForm>(bytes)?;
    let later = codec::decode::<Later>(rest)?;
    let form = SpecForm { later, ..form };
    form.try_into().map_err(|invalid: InvalidSpec| Malformed(invalid.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::{Container, Image};
    use super::*;
    use crate::model::{Resources, Value};

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
        let later = Later { stdin: true, tty: false, exposed: vec![80, 5432] };
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

    #[test]
    fn ports_out_of_order_are_refused() {
        for exposed in [vec![0], vec![2, 1], vec![1, 1], (1..=33).collect()] {
            let later = Later { exposed, ..Later::default() };
            assert!(Spec::try_from(form(later)).is_err());
        }
    }
}
