//! One replica as the executor sees it: what is wanted, what was begun, and so what to do next.

use std::collections::BTreeSet;

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
    /// Instances that were begun, or found, and not yet seen off.
    pub begun: BTreeSet<InstanceId>,
}

impl Slot {
    pub(super) fn new(generation: Digest) -> Self {
        Slot {
            wanted: Wanted::Stop,
            generation,
            start_due: false,
            busy: false,
            begun: BTreeSet::new(),
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
            Wanted::Stop => self.begun.first().cloned().map(Step::Stop),
            Wanted::Run { launch, .. } if self.start_due => Some(Step::Start(launch.clone())),
            Wanted::Run { launch, .. } => {
                let old = self.begun.iter().find(|id| **id != launch.id)?;
                // The old one answers until the new one does, or has failed to.
                let is_decided = !matches!(state(&launch.id), Some(State::Starting));
                is_decided.then(|| Step::Stop(old.clone()))
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
        if launch.id != *instance || self.start_due {
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
