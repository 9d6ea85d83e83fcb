//! Objects of Kubernetes as workloads of shoal.
//!
//! ```text
//!   texts ─▶ stream ─▶ objects ─▶ table judges each field: notes, problems
//!                         │
//!                         ├─▶ values (ConfigMap, Secret)      ─┐
//!                         ├─▶ claims, priority classes         ├─▶ world
//!                         └─▶ drafts (pods, kinds)            ─┘
//!                                │ services, ingresses, scaling, hooks, relations
//!                                └─▶ build ─▶ Bundle
//! ```
//!
//! **No field is dropped without a word**: the table names each, and what it does not name is
//! refused. Nothing is published of files of which a part is refused.

mod build;
mod container;
mod env;
mod hooks;
mod objects;
mod own_names;
mod placement;
mod pod;
mod probe;
mod quantity;
#[cfg(test)]
mod reference;
mod rows;
mod scalar;
mod scale;
mod schedule;
mod served;
mod services;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod values;
mod workloads;

use std::collections::BTreeMap;

use shoal_protocol::model::Label;
use shoal_protocol::model::spec::{After, Kind, MAX_AFTER, Until};

use super::bundle::{Bundle, Refusal};
use super::tree::{Problem, Sources};
use super::verdict::Judged;
use build::World;
use objects::{AFTER, BEFORE, Object, objects};
use values::Values;
use workloads::{Draft, claimed, draft};

/// Reads files, each with its name and its text. `namespace` is that of objects that name none.
///
/// # Errors
/// All reasons against them at once.
pub fn load(texts: Vec<(String, String)>, namespace: Option<Label>) -> Result<Bundle, Refusal> {
    let mut sources = Sources::default();
    let mut all = Judged::default();
    let objects = objects(&texts, namespace, &mut sources, &mut all);
    let mut values = Values::default();
    let mut world = World::default();
    for object in &objects {
        let mut out = Judged::default();
        values.add(object, &mut out);
        of_world(object, &mut world, &mut out);
        object.tell(out, &mut all);
    }
    let mut drafts: Vec<Draft> = Vec::new();
    let mut renamed = Vec::new();
    for object in &objects {
        let mut out = Judged::default();
        if let Some(draft) = draft(object, &values, &mut out) {
            if let Some(other) = drafts.iter().find(|other| other.name == draft.name) {
                let why =
                    format!("it becomes the workload `{}`, as {} does", draft.name, other.shown);
                let problem = Problem::new(draft.at, why).field("metadata.name");
                out.refuse(problem.hint("Rename one of them."));
            }
            if draft.name.name.as_str() != object.name {
                renamed.push((draft.shown.clone(), draft.name.name.to_string()));
            }
            drafts.push(draft);
        }
        object.tell(out, &mut all);
    }
    services::expose(&objects, &mut drafts, &mut all);
    scale::scale(&objects, &mut drafts, &mut all);
    wait_for_hooks(&mut drafts);
    world.pods = drafts.iter().map(|it| (it.name.clone(), it.pod.labels.clone())).collect();
    let mut workloads = Vec::new();
    for draft in &drafts {
        let mut out = Judged::default();
        workloads.extend(build::build(draft, &mut world, &mut out));
        draft.tell(out, &mut all);
    }
    let Judged { mut notes, mut problems } = all;
    // A field counts less by its value than the table says: the later word stands.
    notes.sort_by(|a, b| (a.at, &a.field).cmp(&(b.at, &b.field)));
    notes.dedup_by(|later, earlier| {
        let is_same = later.at == earlier.at && later.field == earlier.field;
        if is_same {
            std::mem::swap(later, earlier);
        }
        is_same
    });
    if !problems.is_empty() {
        problems.sort_by_key(|it| (it.at, it.field.clone()));
        problems.dedup();
        return Err(Refusal { problems, notes, sources });
    }
    renamed.extend(values.renamed);
    Ok(Bundle { workloads, values: values.given, notes, renamed, sources })
}

/// What an object says about others.
fn of_world(object: &Object, world: &mut World, out: &mut Judged) {
    let root = object.root();
    match object.kind {
        "PersistentVolumeClaim" => {
            let key = (object.namespace.clone(), object.name.clone());
            world.claims.insert(key, claimed(&root, out));
        }
        "PriorityClass" => {
            let value = root.get("value").int(-2_147_483_648..=1_000_000_000, out).unwrap_or(0);
            if root.get("globalDefault").is_true(out) {
                world.priority = Some(value);
            }
            world.classes.insert(object.name.clone(), value);
        }
        _ => {}
    }
}

/// Has what Helm runs before all else, or after it, run so: each in the order of its weight.
fn wait_for_hooks(drafts: &mut [Draft]) {
    let is = |draft: &Draft, phase: &str| {
        let phases = draft.hook.as_ref().filter(|_| matches!(draft.kind, Kind::Job(_)));
        phases.filter(|(phases, _)| phases.iter().any(|it| it == phase)).map(|(_, weight)| *weight)
    };
    let mut before: Vec<(i64, Label, Label)> = drafts
        .iter()
        .filter_map(|it| Some((is(it, BEFORE)?, it.name.namespace.clone(), it.name.name.clone())))
        .collect();
    before.sort();
    let running: BTreeMap<Label, Vec<Label>> = drafts
        .iter()
        .filter(|it| it.hook.is_none() && it.kind.job().is_none())
        .fold(BTreeMap::new(), |mut all, it| {
            let here: &mut Vec<Label> = all.entry(it.name.namespace.clone()).or_default();
            here.push(it.name.name.clone());
            all
        });
    for draft in drafts {
        let own = is(draft, BEFORE);
        let (namespace, name) = (draft.name.namespace.clone(), draft.name.name.clone());
        let jobs = before.iter().filter(|(weight, of, job)| {
            *of == namespace && *job != name && own.is_none_or(|own| *weight < own)
        });
        let done = jobs.map(|(.., job)| After { workload: job.clone(), until: Until::Done });
        let mut after: Vec<After> = done.collect();
        if own.is_none() && is(draft, AFTER).is_some() {
            let ready = running.get(&namespace).into_iter().flatten();
            after.extend(ready.map(|it| After { workload: it.clone(), until: Until::Ready }));
        }
        after.truncate(MAX_AFTER);
        draft.after = after;
    }
}
