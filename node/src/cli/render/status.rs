//! `status`: the answering node and the cluster in short.

use super::short;
use crate::api::StatusBody;

/// A few lines; the warnings come last.
pub fn status(body: &StatusBody, wide: bool) -> String {
    let view = &body.view;
    let mut text = String::new();
    let mut line = |name: &str, value: String| text.push_str(&format!("{name:<10} {value}\n"));
    line(
        "cluster",
        format!("{}, {} of {} nodes up", short(&view.cluster), view.nodes_up, view.nodes),
    );
    let ready = if view.ready { "ready" } else { "not in step yet" };
    line(
        "node",
        format!("{} ({}), {ready}, {}", view.name, short(&view.node), count(view.links, "link")),
    );
    line(
        "workloads",
        format!("{}, {} of {} replicas healthy", view.workloads, view.healthy, view.replicas),
    );
    line("mesh", body.mesh.clone());
    line("http", body.http.clone());
    if wide {
        line("pid", body.pid.to_string());
        view.counters
            .iter()
            .for_each(|(name, value)| text.push_str(&format!("  {name:<24} {value}\n")));
    }
    if let Some(why) = &view.read_only {
        text.push_str(&format!("warning: this node takes no writes: {why}\n"));
    }
    view.warnings.iter().for_each(|warning| text.push_str(&format!("warning: {warning}\n")));
    text
}

fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
