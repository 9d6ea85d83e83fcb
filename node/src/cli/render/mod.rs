//! Views as text: pure functions of a view and the time, so that tests can compare the text.

mod describe;
mod explain;
mod images;
mod nodes;
mod operators;
mod plan;
mod quotas;
mod stats;
mod status;
mod table;
mod time;
pub mod values;
mod workloads;

pub use describe::describe;
pub use explain::explain;
pub use images::{freed, images};
pub use nodes::nodes;
pub use operators::operators;
pub use plan::{plan, plan_body};
pub use quotas::quotas;
pub use stats::stats;
pub use status::status;
pub use time::{now, seconds};
pub use workloads::{is_forgotten, no_replicas, replicas, updating, url, workloads};

use shoal_protocol::model::Spec;
use shoal_protocol::model::view::{ChangeView, EventView};

use super::versions::Noted;
use crate::publish::differences;

/// A line per change: when, what, who, and how this node knows.
pub fn history(all: &[ChangeView]) -> String {
    let row = |it: &ChangeView| {
        let name = match it.kind.as_str() {
            "workload" => it.name.strip_prefix("default/").unwrap_or(&it.name).to_owned(),
            kind => format!("{kind} {}", it.name),
        };
        let how = how_known(it);
        vec![it.at.clone(), name, it.what.clone(), it.by.clone(), short(&it.key), how]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    table::table(&["AT", "NAME", "WHAT", "BY", "KEY", "HOW"], &rows)
}

/// The changes of one workload, with its versions; `diff`: and what each of them changed.
pub fn versions(all: &[ChangeView], diff: bool) -> String {
    let versions = crate::cli::versions::versions(all);
    let mut rows = Vec::new();
    let mut found = versions.iter().peekable();
    let mut before: Option<&Noted> = None;
    let mut changes: Vec<Vec<String>> = Vec::new();
    for change in all {
        let is_same = |spec: &Spec| before.is_some_and(|before| before.spec == *spec);
        let is_new = change.spec.as_ref().is_some_and(|spec| !is_same(spec));
        let (version, differences) = match found.next_if(|_| is_new) {
            Some(noted) => {
                let old = before.replace(noted);
                let all = old.map(|old| differences(&old.spec, &noted.spec)).unwrap_or_default();
                (format!("{} ({})", noted.number, noted.name), all)
            }
            None if change.spec.is_some() => ("the same".to_owned(), Vec::new()),
            None => ("-".to_owned(), Vec::new()),
        };
        let how = how_known(change);
        rows.push(vec![change.at.clone(), version, change.what.clone(), change.by.clone(), how]);
        changes.push(differences.iter().map(ToString::to_string).collect());
    }
    let text = table::table(&["AT", "VERSION", "WHAT", "BY", "HOW"], &rows);
    if !diff {
        return text;
    }
    let mut lines = text.lines();
    let mut out = format!("{}\n", lines.next().unwrap_or_default());
    for (line, differences) in lines.zip(changes) {
        out.push_str(&format!("{line}\n"));
        differences.iter().for_each(|it| out.push_str(&format!("    {it}\n")));
    }
    out
}

fn how_known(change: &ChangeView) -> String {
    match (&change.through, &change.heard_from) {
        (Some(node), _) => format!("through {node}"),
        (None, Some(node)) => format!("heard from {node}"),
        (None, None) => "-".into(),
    }
}

/// The contexts, a row each.
pub fn contexts(rows: &[Vec<String>]) -> String {
    table::table(&["", "NAME", "AS", "CLUSTER", "VIA"], rows)
}

/// A line per volume: its name, its node, the node's state, and whether its replica runs there.
pub fn volumes<'a>(all: impl Iterator<Item = [&'a str; 4]>) -> String {
    let rows: Vec<Vec<String>> = all.map(|cells| cells.map(str::to_owned).into()).collect();
    table::table(&["VOLUME", "NODE", "STATE", "USED"], &rows)
}

/// The first eight digits of an id.
pub fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

/// An event in one line: time, level, kind and message.
pub fn event(event: &EventView) -> String {
    let at = event
        .at
        .split_once('.')
        .map_or(event.at.as_str(), |(seconds, _)| seconds)
        .replace('T', " ");
    let level = if event.level == "info" { "" } else { event.level.as_str() };
    format!("{at}  {level:<7}  {:<18}  {}", event.kind, with_subject(event))
}

/// The event's message, with its subject in front.
pub fn with_subject(event: &EventView) -> String {
    match event.subject.as_ref().or(event.node.as_ref()) {
        Some(subject) => format!("{subject}: {}", event.message),
        None => event.message.clone(),
    }
}

#[cfg(test)]
mod tests;
