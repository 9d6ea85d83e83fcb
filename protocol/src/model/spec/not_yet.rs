//! The parts of a spec that this version does not support yet: fields by their names, for readers
//! of text, and values in a form.

use super::{Exposure, InvalidSpec, Program, RestartPolicy, SpecForm, UpdatePolicy, World};

/// Fields that people may expect in a text: each will have a meaning, so none may be taken for a
/// slip.
const FIELDS: [&str; 4] = ["allow", "hosts", "restart", "update"];

impl InvalidSpec {
    /// The refusal of a field of a text, if a later version will have it. `None` for any other
    /// name. The manifest and the API's JSON both ask here, so that both refuse the same names.
    pub fn not_yet(field: &str) -> Option<InvalidSpec> {
        FIELDS.into_iter().find(|name| *name == field).map(InvalidSpec::NotSupported)
    }
}

/// The first part of a spec that this version does not act on. Accepting it would promise what does
/// not happen.
pub(super) fn unsupported(form: &SpecForm) -> Option<&'static str> {
    let Exposure { hosts, ports: _ } = &form.exposure;
    let rest = [
        (form.update != UpdatePolicy::default(), "update"),
        (form.restart != RestartPolicy::default(), "restart"),
        (!hosts.is_empty(), "hosts"),
    ];
    unsupported_program(form)
        .into_iter()
        .chain(rest)
        .find_map(|(is_used, field)| is_used.then_some(field))
}

fn unsupported_program(form: &SpecForm) -> Vec<(bool, &'static str)> {
    match &form.program {
        Program::Wasm(component) => vec![
            (
                component.world == World::Http && !component.args.is_empty(),
                "args of a component that answers requests",
            ),
            (!component.allow.is_empty(), "allow"),
            (form.resources.limit != form.resources.reservation, "a limit above the reservation"),
            (!form.exposure.ports.is_empty(), "ports of a component"),
        ],
        Program::Containers(containers) => {
            let is_alone = containers.len() == 1;
            let has_limit = containers.iter().any(|it| it.limit.is_some());
            vec![(is_alone && has_limit, "a limit of its own of a container that is alone")]
        }
    }
}
