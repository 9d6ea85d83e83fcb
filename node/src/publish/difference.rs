//! The changes of a publish, field by field.

use std::collections::BTreeMap;
use std::fmt;

use shoal_protocol::model::Spec;

use crate::manifest::quantity::{show_cpu, show_size};

/// A field that differs. `None` on one side: it was added or removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The field's name, as in `replicas` or `env GREETING`.
    pub field: String,
    /// The old value.
    pub from: Option<String>,
    /// The new value.
    pub to: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) => write!(f, "{} {from} -> {to}", self.field),
            (None, Some(to)) => write!(f, "{} {to} (new)", self.field),
            (Some(from), None) => write!(f, "{} {from} (removed)", self.field),
            (None, None) => write!(f, "{}", self.field),
        }
    }
}

/// The fields in which `new` differs from `old`; empty when the specs are equal.
pub fn differences(old: &Spec, new: &Spec) -> Vec<Difference> {
    let mut all = Vec::new();
    let mut note = |field: &str, from: String, to: String| {
        if from != to {
            all.push(Difference { field: field.to_owned(), from: Some(from), to: Some(to) });
        }
    };
    let artifacts = |spec: &Spec| {
        let all = spec.program.artifacts().map(|artifact| artifact.digest.short());
        all.collect::<Vec<_>>().join(", ")
    };
    note("artifact", artifacts(old), artifacts(new));
    note("replicas", old.replicas().to_string(), new.replicas().to_string());
    note("memory", show_size(old.reservation().memory), show_size(new.reservation().memory));
    note("cpu", show_cpu(old.reservation().cpu), show_cpu(new.reservation().cpu));
    note("runtime", old.program.kind().to_string(), new.program.kind().to_string());
    maps("env", old.env(), new.env(), &mut all);
    maps("require", &old.placement.require, &new.placement.require, &mut all);
    // Two sizes may have the same text and still differ.
    if all.is_empty() && old != new {
        all.push(Difference { field: "details".into(), from: None, to: None });
    }
    all
}

fn maps(
    what: &str,
    old: &BTreeMap<String, String>,
    new: &BTreeMap<String, String>,
    all: &mut Vec<Difference>,
) {
    let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for name in names {
        let (from, to) = (old.get(name), new.get(name));
        if from != to {
            all.push(Difference {
                field: format!("{what} {name}"),
                from: from.cloned(),
                to: to.cloned(),
            });
        }
    }
}
