//! The trace of a history, and the report of a failure.

use std::collections::VecDeque;
use std::fmt::Write as _;

use super::world::World;

/// Trace lines in a report.
const EVENTS: usize = 200;
/// Nodes that a report lists.
const NODES: usize = 16;

/// Trace lines: world time, device and text, for events that nodes report and faults.
pub struct Trace {
    events: VecDeque<(u64, usize, String)>,
    most: usize,
}

impl Default for Trace {
    fn default() -> Self {
        Trace { events: VecDeque::new(), most: EVENTS }
    }
}

impl World {
    /// Keeps all lines from now on, instead of the last [`EVENTS`].
    pub fn keep_whole_trace(&mut self) {
        self.trace.most = usize::MAX;
    }

    /// Adds a line about a device to the trace.
    pub fn log(&mut self, device: usize, what: impl AsRef<str>) {
        let trace = &mut self.trace;
        while trace.events.len() >= trace.most {
            trace.events.pop_front();
        }
        trace.events.push_back((self.now, device, what.as_ref().to_owned()));
    }

    /// The trace as text, one line each: seconds, device, text.
    pub fn trace(&self) -> String {
        self.lines(|_| true)
    }

    fn lines(&self, about: impl Fn(usize) -> bool) -> String {
        let mut text = String::new();
        for (at, device, what) in self.trace.events.iter().filter(|(_, device, _)| about(*device)) {
            let _ = writeln!(text, "  {:>10.3} n{device}: {what}", *at as f64 / 1e6);
        }
        text
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
        text.push_str(&self.lines(|other| other == device));
        let _ = writeln!(text, "  said of {name} by others:");
        let events = self
            .trace
            .events
            .iter()
            .filter(|(_, by, what)| *by != device && what.contains(name.as_str()));
        for (at, by, what) in events {
            let _ = writeln!(text, "  {:>10.3} n{by}: {what}", *at as f64 / 1e6);
        }
        text
    }
}
