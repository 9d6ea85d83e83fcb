//! One replica as the executor sees it: what is wanted, what was begun, and so what to do next.

use std::collections::BTreeMap;

use shoal_protocol::model::{Digest, ReplicaId};
use shoal_protocol::node::{ReplicaState, Report};
use shoal_runtimes::{InstanceId, Launch, State};

/// What the core wants of a replica.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Wanted {
    Run { generation: Digest, launch: Box<Launch> },
    Stop,
}

/// One call to the runtime.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Step {
    Start(Box<Launch>),
    Stop(InstanceId),
}

#[derive(Debug)]
pub(super) struct Slot {
    pub wanted: Wanted,
    /// The last generation that was wanted: what a report of the end speaks of.
    pub generation: Digest,
    /// A `Run` came that no start has answered yet.
    pub start_due: bool,
    /// A step is under way.
    pub busy: bool,
    /// Instances that were begun and not yet stopped, each with its generation.
    pub begun: BTreeMap<InstanceId, Digest>,
}

impl Slot {
    pub(super) fn new(generation: Digest) -> Self {
        Slot {
            wanted: Wanted::Stop,
            generation,
            start_due: false,
            busy: false,
            begun: BTreeMap::new(),
        }
    }

    pub(super) fn run(&mut self, generation: Digest, launch: Launch) {
        self.generation = generation;
        self.start_due = true;
        self.wanted = Wanted::Run { generation, launch: Box::new(launch) };
    }

    pub(super) fn stop(&mut self) {
        self.start_due = false;
        self.wanted = Wanted::Stop;
    }

    /// The call that brings this slot nearer to what is wanted; none when it is there, or when a
    /// call is under way.
    pub(super) fn next(&self, state: impl Fn(&InstanceId) -> Option<State>) -> Option<Step> {
        if self.busy {
            return None;
        }
        match &self.wanted {
            Wanted::Stop => self.begun.keys().next().cloned().map(Step::Stop),
            Wanted::Run { launch, .. } if self.start_due => Some(Step::Start(launch.clone())),
            Wanted::Run { launch, .. } => {
                // An old one answers until the new one does, also while the new one fails.
                let is_replaced = state(&launch.id) == Some(State::Running);
                let is_over = |id: &InstanceId| is_replaced || has_ended(state(id).as_ref());
                let mut old = self.begun.keys().filter(|id| **id != launch.id);
                old.find(|id| is_over(id)).cloned().map(Step::Stop)
            }
        }
    }

    /// Whether nothing of this replica is left, and nothing wanted.
    pub(super) fn gone(&self) -> bool {
        self.wanted == Wanted::Stop && self.begun.is_empty() && !self.busy
    }

    /// What to tell the core about the wanted instance being in `state`.
    pub(super) fn report(
        &self,
        replica: ReplicaId,
        instance: &InstanceId,
        state: State,
    ) -> Option<Report> {
        let Wanted::Run { generation, launch } = &self.wanted else { return None };
        if launch.id != *instance {
            // The one that is to be replaced: news only if it has ended before that.
            let generation = *self.begun.get(instance)?;
            let reason = match state {
                State::Failed { reason, .. } => reason,
                State::Stopped => "it was stopped from outside".into(),
                State::Starting | State::Running => return None,
            };
            let state = ReplicaState::Failed { reason, retryable: true };
            return Some(Report { replica, generation, state });
        }
        if self.start_due {
            return None;
        }
        let state = match state {
            State::Starting => ReplicaState::Starting,
            State::Running => ReplicaState::Healthy,
            State::Failed { reason, retryable } => ReplicaState::Failed { reason, retryable },
            // Under its own order to stop a slot reports when it is gone; this one was stopped by
            // somebody else.
            State::Stopped => ReplicaState::Failed {
                reason: "it was stopped from outside".into(),
                retryable: true,
            },
        };
        Some(Report { replica, generation: *generation, state })
    }
}

fn has_ended(state: Option<&State>) -> bool {
    matches!(state, Some(State::Failed { .. } | State::Stopped))
}
