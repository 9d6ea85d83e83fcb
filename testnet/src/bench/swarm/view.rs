//! A manager's view of the Swarm.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use serde_json::Value;

/// Nodes by their ids. Managers that agree have equal views.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct View {
    /// Nodes that are ready to run tasks and reachable as managers.
    pub(super) sound: BTreeSet<String>,
    /// The leader, when there is one.
    pub(super) leader: Option<String>,
    /// The node of each task that is to run; none while it does not run.
    pub(super) tasks: Vec<Option<String>>,
}

impl View {
    /// Reads the answers to `/nodes` and `/tasks`.
    pub(super) fn of(nodes: &Value, tasks: &Value) -> Result<Self> {
        let mut view = View { sound: BTreeSet::new(), leader: None, tasks: Vec::new() };
        for node in nodes.as_array().context("/nodes gave no list")? {
            let id = node["ID"].as_str().context("/nodes gave a node without an id")?;
            if node["Status"]["State"] == "ready"
                && node["ManagerStatus"]["Reachability"] == "reachable"
            {
                view.sound.insert(id.to_owned());
            }
            if node["ManagerStatus"]["Leader"] == true {
                view.leader = Some(id.to_owned());
            }
        }
        // Other tasks are to end, or have ended.
        let wanted = tasks.as_array().context("/tasks gave no list")?.iter();
        for task in wanted.filter(|task| task["DesiredState"] == "running") {
            let runs = task["Status"]["State"] == "running";
            view.tasks.push(task["NodeID"].as_str().filter(|_| runs).map(str::to_owned));
        }
        Ok(view)
    }

    /// The node that runs the only replica and the one that leads, when `size` managers are sound.
    pub(super) fn whole(&self, size: usize) -> Option<(&str, &str)> {
        let ([Some(holder)], Some(leader)) = (&self.tasks[..], &self.leader) else { return None };
        (self.sound.len() == size && self.sound.contains(holder)).then_some((holder, leader))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(id: &str, state: &str, reached: &str, leader: bool) -> Value {
        let mut manager = json!({ "Reachability": reached, "Addr": "198.18.7.11:2377" });
        if leader {
            manager["Leader"] = json!(true);
        }
        json!({ "ID": id, "Status": { "State": state }, "ManagerStatus": manager })
    }

    fn task(node: &str, wanted: &str, state: &str) -> Value {
        json!({ "NodeID": node, "DesiredState": wanted, "Status": { "State": state } })
    }

    /// A second task still runs and is to be shut down: it does not count.
    #[test]
    fn holder_runs_the_only_desired_task() {
        let nodes = json!([
            node("a", "ready", "reachable", false),
            node("b", "ready", "reachable", true),
            node("c", "ready", "reachable", false),
        ]);
        let tasks = json!([task("a", "shutdown", "running"), task("c", "running", "running")]);
        let view = View::of(&nodes, &tasks).unwrap();
        assert_eq!(view.whole(3), Some(("c", "b")));
        // A fourth node is missing.
        assert_eq!(view.whole(4), None);
    }

    /// No task, one that starts, two that run, a manager that is down or not reached, no leader:
    /// none of these may be measured.
    #[test]
    fn changing_swarm_has_no_holder() {
        let sound =
            json!([node("a", "ready", "reachable", true), node("b", "ready", "reachable", false)]);
        let seen = |nodes: &Value, tasks: Value| {
            View::of(nodes, &tasks).unwrap().whole(2).map(|(holder, _)| holder.to_owned())
        };
        let runs = || json!([task("a", "running", "running")]);
        assert_eq!(seen(&sound, runs()).as_deref(), Some("a"));
        assert_eq!(seen(&sound, json!([])), None);
        assert_eq!(seen(&sound, json!([task("a", "running", "starting")])), None);
        assert_eq!(
            seen(&sound, json!([task("a", "running", "running"), task("b", "running", "running")])),
            None
        );
        // A task without a node has no such field.
        assert_eq!(
            seen(&sound, json!([{ "DesiredState": "running", "Status": { "State": "pending" } }])),
            None
        );
        for (state, reached) in
            [("down", "reachable"), ("ready", "unreachable"), ("unknown", "reachable")]
        {
            assert_eq!(
                seen(
                    &json!([
                        node("a", "ready", "reachable", true),
                        node("b", state, reached, false)
                    ]),
                    runs()
                ),
                None
            );
        }
        let leaderless =
            json!([node("a", "ready", "reachable", false), node("b", "ready", "reachable", false)]);
        assert_eq!(seen(&leaderless, runs()), None);
    }

    #[test]
    fn api_refusal_is_an_error() {
        assert!(
            View::of(&json!({ "message": "The swarm does not have a leader" }), &json!([]))
                .is_err()
        );
        assert!(View::of(&json!([{}]), &json!([])).is_err());
    }
}
