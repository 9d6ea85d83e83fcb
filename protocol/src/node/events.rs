//! Events, for people.

use crate::model::view::EventView;
use crate::model::{Label, NodeId, Time, WorkloadName};

use super::Node;
use super::contract::Action;

/// The severity of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Level {
    Info,
    Warning,
}

/// The subject of an event.
#[derive(Default)]
pub(super) struct About {
    /// The workload or replica, by name.
    pub subject: Option<String>,
    /// The namespace of the subject.
    pub namespace: Option<Label>,
    /// The node.
    pub node: Option<NodeId>,
}

impl About {
    pub(super) fn workload(name: &WorkloadName) -> About {
        let (subject, namespace) = (Some(name.to_string()), Some(name.namespace.clone()));
        About { subject, namespace, node: None }
    }
}

impl Node {
    /// Shows an event to people; `subject` is a replica.
    pub(super) fn emit_event(
        &mut self,
        now: Time,
        level: Level,
        kind: &str,
        subject: Option<String>,
        node: Option<NodeId>,
        message: String,
    ) {
        // A replica's name ends with its place.
        let workload = subject.as_deref().and_then(|it| it.rsplit_once('/'));
        let workload = workload.and_then(|(name, _)| name.parse::<WorkloadName>().ok());
        let about = About { namespace: workload.map(|name| name.namespace), subject, node };
        self.emit_of(now, level, kind, about, message);
    }

    /// Shows an event whose subject need not be a replica.
    pub(super) fn emit_of(
        &mut self,
        now: Time,
        level: Level,
        kind: &str,
        About { subject, namespace, node }: About,
        message: String,
    ) {
        self.shown.events += 1;
        let event = EventView {
            seq: self.shown.events,
            at: self.wall(now).to_string(),
            level: match level {
                Level::Info => "info".into(),
                Level::Warning => "warning".into(),
            },
            kind: kind.into(),
            subject,
            namespace: namespace.map(|it| it.to_string()),
            node: node.map(|node| self.name_of(&node)),
            message,
        };
        self.outbox.push(Action::Notify(event));
    }
}
