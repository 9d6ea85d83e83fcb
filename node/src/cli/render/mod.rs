//! Views as text: pure functions of a view and the time, so that tests can compare the text.

mod describe;
mod explain;
mod images;
mod nodes;
mod operators;
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
pub use quotas::quotas;
pub use stats::stats;
pub use status::status;
pub use time::{now, seconds};
pub use workloads::{is_forgotten, replicas, url, workloads};

use shoal_protocol::model::view::{ChangeView, EventView};

/// A line per change: when, what, who, and how this node knows.
pub fn history(all: &[ChangeView]) -> String {
    let row = |it: &ChangeView| {
        let name = match it.kind.as_str() {
            "workload" => it.name.strip_prefix("default/").unwrap_or(&it.name).to_owned(),
            kind => format!("{kind} {}", it.name),
        };
        let how = match (&it.through, &it.heard_from) {
            (Some(node), _) => format!("through {node}"),
            (None, Some(node)) => format!("heard from {node}"),
            (None, None) => "-".into(),
        };
        vec![it.at.clone(), name, it.what.clone(), it.by.clone(), short(&it.key), how]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    table::table(&["AT", "NAME", "WHAT", "BY", "KEY", "HOW"], &rows)
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
