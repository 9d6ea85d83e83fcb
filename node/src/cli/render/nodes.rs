//! `nodes`: one line per node.

use shoal_protocol::model::DISK;
use shoal_protocol::model::view::NodeView;

use super::short;
use super::table::table;
use crate::manifest::quantity::{show_cpu, show_size};

/// A line per node, with the programs that it can run now; `wide` adds architecture, version,
/// incarnation, allowances and addresses.
pub fn nodes(views: &[NodeView], wide: bool) -> String {
    let mut heads =
        vec!["NAME", "ID", "STATE", ">REPLICAS", ">MEMORY", ">CPU", ">RTT", "RUNS", "LABELS"];
    if wide {
        heads.extend(["RESOURCES", "ARCH", "VERSION", ">INCARNATION", "ALLOWS", "ADDRESSES"]);
    }
    heads.push("NOTE");
    let rows: Vec<Vec<String>> = views.iter().map(|view| row(view, wide)).collect();
    table(&heads, &rows)
}

fn row(view: &NodeView, wide: bool) -> Vec<String> {
    let mut cells = vec![
        view.name.clone(),
        short(&view.id),
        state(view),
        view.replicas.to_string(),
        format!("{} / {}", show_size(view.memory_used), show_size(view.memory)),
        format!("{} / {}", show_cpu(view.cpu_used), show_cpu(view.cpu)),
        view.rtt_us.map_or("-".into(), rtt),
        list(&view.runtimes),
        labels(view),
    ];
    if wide {
        cells.extend([
            resources(view),
            view.arch.clone(),
            view.version.clone(),
            view.incarnation.to_string(),
            list(&view.allows),
            list(&view.addresses),
        ]);
    }
    cells.push(note(view, wide));
    cells
}

/// Whether it is up, and takes work.
fn state(view: &NodeView) -> String {
    match (view.drained, view.cordoned) {
        (true, _) => format!("{},drained", view.state),
        (false, true) => format!("{},cordoned", view.state),
        (false, false) => view.state.clone(),
    }
}

fn note(view: &NodeView, wide: bool) -> String {
    let mut notes = Vec::new();
    if view.me {
        notes.push("this node".to_owned());
    }
    if view.state == "up" && !view.ready {
        notes.push("not in step yet".to_owned());
    }
    notes.extend(view.reason.clone());
    notes.extend(view.path.clone());
    if wide {
        notes.extend(
            view.answered_by.iter().map(|(address, who)| format!("at {address} answers {who}")),
        );
    }
    if !view.taints.is_empty() {
        let taints = view.taints.iter().map(|(name, value)| match value.is_empty() {
            true => name.clone(),
            false => format!("{name}={value}"),
        });
        notes.push(format!("taints: {}", taints.collect::<Vec<_>>().join(",")));
    }
    if !view.no_way_to.is_empty() {
        notes.push(format!("no way to {}", view.no_way_to.join(", ")));
    }
    notes.join("; ")
}

/// The node's offers beside memory and CPU, as used / offered.
fn resources(view: &NodeView) -> String {
    let one = |(name, offered): (&str, u64)| {
        let amount = |amount: u64| match name {
            DISK => show_size(amount),
            _ => amount.to_string(),
        };
        format!("{name} {} / {}", amount(view.resources_used.of(name)), amount(offered))
    };
    // A resource that is used and not offered any more is shown, too.
    let gone = view.resources_used.iter().filter(|(name, _)| view.resources.of(name) == 0);
    let all: Vec<String> =
        view.resources.iter().map(one).chain(gone.map(|(name, _)| one((name, 0)))).collect();
    list(&all)
}

fn labels(view: &NodeView) -> String {
    let labels: Vec<String> =
        view.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    list(&labels)
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "-".into() } else { items.join(",") }
}

/// Microseconds as `0.3 ms`.
fn rtt(micros: u64) -> String {
    let tenths = micros.div_ceil(100);
    format!("{}.{} ms", tenths / 10, tenths % 10)
}
