//! The history, who changed what: a note of each change that this node took as new, for the driver
//! to keep.

use crate::model::view::ChangeView;
use crate::model::{
    Change, Digest, Grant, Key, NodeId, NodePolicy, Role, Time, Value, WorkloadName,
};

use super::events::About;
use super::{Level, Node};

/// Notes that wait for the driver, which takes them after each input. Beyond it the oldest go.
const MAX_WAITING: usize = 4_096;

/// A workload before a change, as far as the difference is told.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Before {
    uid: Digest,
    generation: Digest,
    replicas: u32,
}

impl Node {
    /// Takes the next note. The driver adds from whom this node heard of the change.
    pub fn poll_history(&mut self) -> Option<ChangeView> {
        self.shown.history.pop_front()
    }

    /// The state that a change of `key` is compared with.
    pub(super) fn before(&self, key: &Key) -> Option<Before> {
        let Key::Workload(name) = key else { return None };
        let workload = self.desired.workload(name)?;
        let (uid, generation) = (workload.uid, workload.generation);
        Some(Before { uid, generation, replicas: workload.spec.replicas() })
    }

    /// Notes a change that is new here. `is_own`: it was submitted at this node.
    pub(super) fn note_change(
        &mut self,
        now: Time,
        change: &Change,
        before: Option<Before>,
        effective: bool,
        is_own: bool,
    ) {
        let key = &change.signed.key;
        let Some((kind, name)) = self.subject(key, change) else { return };
        let what = match effective {
            true => self.what(change, before),
            false => "written, and a later change counts".into(),
        };
        // Members that come and go have events of their own, and a newcomer hears all at once.
        if !matches!(key, Key::Member(_) | Key::Revocation(_)) && self.readiness.is_ready() {
            let (by, short) = (self.author(change), change.signed.by().short());
            let message = match key {
                Key::Workload(_) => format!("{what} by {by} (key {short})"),
                _ => format!("{kind} {name}: {what} by {by} (key {short})"),
            };
            let about = match key {
                Key::Workload(name) => About::workload(name),
                Key::Secret(WorkloadName { namespace, .. })
                | Key::Config(WorkloadName { namespace, .. })
                | Key::Quota(namespace) => {
                    About { namespace: Some(namespace.clone()), ..About::default() }
                }
                _ => About::default(),
            };
            self.emit_of(now, Level::Info, "changed", about, message);
        }
        if self.shown.history.len() >= MAX_WAITING {
            self.shown.history.pop_front();
        }
        self.shown.history.push_back(ChangeView {
            at: self.wall(now).to_string(),
            kind: kind.into(),
            name,
            what,
            by: self.author(change),
            key: change.signed.by().to_string(),
            through: is_own.then(|| self.name_of(&self.me)),
            heard_from: None,
            spec: match key {
                Key::Workload(name) if effective => {
                    self.desired.workload(name).map(|it| it.spec.without_previous())
                }
                _ => None,
            },
        });
    }

    /// The name of the author: a member that admits a device by its ticket, or an operator.
    pub(super) fn author(&self, change: &Change) -> String {
        match change.chain.peek() {
            None => "root".into(),
            Some(Grant { role: Role::Admits(_), .. }) => {
                self.name_of(&NodeId(change.signed.by().0))
            }
            Some(grant) => grant.name,
        }
    }

    /// The kind and the name of what a change is about. None for kinds of newer programs.
    fn subject(&self, key: &Key, change: &Change) -> Option<(&'static str, String)> {
        let full = |name: &crate::model::WorkloadName| format!("{}/{}", name.namespace, name.name);
        Some(match key {
            Key::Workload(name) => ("workload", full(name)),
            Key::Secret(name) => ("secret", full(name)),
            Key::Config(name) => ("config", full(name)),
            Key::Quota(namespace) => ("quota", namespace.to_string()),
            Key::Member(node) => ("node", self.name_of(node)),
            Key::Policy(node) => ("policy", self.name_of(node)),
            Key::Operator(of) => {
                let Value::Operator(chain) = &change.signed.value else {
                    return Some(("operator", of.short()));
                };
                ("operator", chain.peek().map_or_else(|| of.short(), |grant| grant.name))
            }
            Key::Revocation(of) => {
                let node = NodeId(of.0);
                let own = |it: &Change| match &it.signed.value {
                    Value::Operator(chain) => chain.peek().filter(|own| own.subject == *of),
                    _ => None,
                };
                let named = self.desired.operators().find_map(own);
                match named {
                    Some(grant) => ("operator", grant.name),
                    None if self.desired.effective(&Self::member_key(node)).is_some() => {
                        ("node", self.name_of(&node))
                    }
                    None => ("key", of.short()),
                }
            }
            Key::Other(..) => return None,
        })
    }

    fn what(&self, change: &Change, before: Option<Before>) -> String {
        match (&change.signed.key, &change.signed.value) {
            (Key::Member(_), _) => "admitted".into(),
            (Key::Revocation(_), Value::Revoked(it)) if it.why.is_empty() => "revoked".into(),
            (Key::Revocation(_), Value::Revoked(it)) => format!("revoked: {}", it.why),
            (Key::Operator(_), Value::Operator(chain)) => {
                let role = chain.peek().map_or("operator", |grant| grant.role.name());
                format!("given the role {role}")
            }
            (Key::Workload(_), _) => match (before, self.before(&change.signed.key)) {
                (None, Some(_)) => "created".into(),
                (Some(before), Some(after)) if before.uid != after.uid => "created anew".into(),
                (Some(before), Some(after))
                    if before.generation == after.generation
                        && before.replicas != after.replicas =>
                {
                    format!("scaled from {} to {}", before.replicas, after.replicas)
                }
                (_, Some(_)) => "changed".into(),
                (_, None) => "removed".into(),
            },
            (_, Value::Policy(policy)) => shown_policy(policy),
            (_, Value::Tombstone) => "removed".into(),
            _ => "set".into(),
        }
    }
}

/// A policy in words.
fn shown_policy(policy: &NodePolicy) -> String {
    let mut words = Vec::new();
    if policy.drained {
        words.push("drained".to_owned());
    } else if policy.cordoned {
        words.push("cordoned".to_owned());
    }
    words.extend(policy.labels.iter().map(|(name, value)| match value {
        Some(value) => format!("label {name}={value}"),
        None => format!("no label {name}"),
    }));
    words.extend(policy.taints.iter().map(|(name, value)| match value.is_empty() {
        true => format!("taint {name}"),
        false => format!("taint {name}={value}"),
    }));
    match words.is_empty() {
        true => "uncordoned".into(),
        false => words.join(", "),
    }
}
