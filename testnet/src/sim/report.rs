//! The trace as text, and the report of a failure.

use std::fmt::Write as _;

use super::world::World;

/// Nodes that a report lists.
const NODES: usize = 16;

impl World {
    /// Keeps all lines from now on, instead of the last `LAST`.
    pub fn keep_whole_trace(&mut self) {
        self.trace.keep_all();
    }

    /// The trace as text, one line each: seconds, device, text.
    pub fn trace(&self) -> String {
        self.trace.text(|_, _| true)
    }

    /// The trace and the state of the nodes, to look for a cause.
    pub fn report(&self) -> String {
        let mut text = format!("at {:.3} s, step {}\n", self.now as f64 / 1e6, self.steps);
        text.push_str(&self.trace());
        for (index, device) in self.devices.iter().enumerate().take(NODES) {
            if let Some(node) = &device.node {
                let (waits, status) = (node.poll_timeout(), node.status());
                let links: Vec<String> =
                    device.links.keys().map(|peer| format!("n{peer}")).collect();
                let _ = writeln!(
                    text,
                    "  {} ({}) at {:?}: {} of {} nodes up, ready: {}, links: {}, waits for \
                        {waits:?}",
                    device.name,
                    device.id.short(),
                    self.local_time(index),
                    status.nodes_up,
                    status.nodes,
                    status.ready,
                    links.join(" ")
                );
            }
        }
        text
    }

    /// As [`World::report`], for one device: its own lines, and the others' lines that name it.
    pub fn report_on(&self, device: usize) -> String {
        let name = &self.devices[device].name;
        let mut text = format!("at {:.3} s, step {}\n", self.now as f64 / 1e6, self.steps);
        text.push_str(&self.trace.text(|other, _| other == device));
        let _ = writeln!(text, "  said of {name} by others:");
        text.push_str(&self.trace.text(|by, line| by != device && line.contains(name.as_str())));
        text
    }
}
