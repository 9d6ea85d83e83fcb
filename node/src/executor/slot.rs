//! A replica in the executor: the wanted state, the instances that were begun, and the next step.

use std::collections::BTreeMap;
use std::sync::Arc;

use shoal_protocol::model::{Digest, InstanceState, ReplicaId, Spec};
use shoal_protocol::node::Report;
use shoal_runtimes::{InstanceId, Launch, Runtime};

/// The state that the core ordered.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Wanted {
    Run { generation: Digest, spec: Spec, launch: Box<Launch> },
    Stop,
}

/// A call to the runtime.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Step {
    /// The launch lacks the secrets and configs that the spec uses: they are read at the start.
    Start {
        spec: Spec,
        launch: Box<Launch>,
    },
    Stop(InstanceId),
}

/// An instance that was begun and not yet stopped.
#[derive(Clone)]
pub(super) struct Begun {
    pub generation: Digest,
    /// The runtime that it was started with.
    pub runtime: Arc<dyn Runtime>,
    /// It has answered requests.
    pub has_run: bool,
}

pub(super) struct Slot {
    pub wanted: Wanted,
    /// The last generation that was ordered; the report of its end names it.
    pub generation: Digest,
    /// A `Run` order came for which no start was called yet.
    pub start_due: bool,
    /// A step is under way.
    pub busy: bool,
    pub begun: BTreeMap<InstanceId, Begun>,
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

    pub(super) fn run(&mut self, generation: Digest, spec: Spec, launch: Launch) {
        self.generation = generation;
        self.start_due = true;
        self.wanted = Wanted::Run { generation, spec, launch: Box::new(launch) };
    }

    pub(super) fn stop(&mut self) {
        self.start_due = false;
        self.wanted = Wanted::Stop;
    }

    /// The next call towards the wanted state; `None` when it is reached, or a call is under way.
    pub(super) fn next(
        &self,
        state: impl Fn(&InstanceId) -> Option<InstanceState>,
    ) -> Option<Step> {
        if self.busy {
            return None;
        }
        match &self.wanted {
            Wanted::Stop => self.begun.keys().next().cloned().map(Step::Stop),
            Wanted::Run { spec, launch, .. } if self.start_due => match self.in_the_way() {
                Some(old) => Some(Step::Stop(old.clone())),
                None => Some(Step::Start { spec: spec.clone(), launch: launch.clone() }),
            },
            Wanted::Run { launch, .. } => {
                // An old one answers until the new one does, also while the new one fails. One that
                // never answered would only take room.
                let is_replaced = state(&launch.id).is_some_and(|state| state.is_running());
                let is_over = |id: &InstanceId, begun: &Begun| {
                    is_replaced || !begun.has_run || state(id).is_some_and(|state| state.ended())
                };
                let mut old = self.begun.iter().filter(|(id, _)| **id != launch.id);
                old.find(|(id, begun)| is_over(id, begun)).map(|(id, _)| Step::Stop(id.clone()))
            }
        }
    }

    /// An instance that must end before the wanted one starts: two on one volume could destroy it,
    /// and only one gets a port or a device.
    pub(super) fn in_the_way(&self) -> Option<&InstanceId> {
        let Wanted::Run { launch, .. } = &self.wanted else { return None };
        let is_in_the_way = |id: &&InstanceId| **id != launch.id;
        self.begun.keys().find(is_in_the_way).filter(|_| self.start_due && launch.is_exclusive())
    }

    /// An instance answers requests.
    pub(super) fn runs(&mut self, id: &InstanceId) {
        if let Some(begun) = self.begun.get_mut(id) {
            begun.has_run = true;
        }
    }

    /// The wanted instance lacks a secret or a config, so nothing of it was begun.
    pub(super) fn waits(&mut self, id: &InstanceId) {
        if self.begun.get(id).is_some_and(|begun| !begun.has_run) {
            self.begun.remove(id);
        }
    }

    /// The wanted instance is to be started again, if it is not being started.
    pub(super) fn start_again(&mut self) {
        self.start_due |= matches!(self.wanted, Wanted::Run { .. });
    }

    /// Whether no instance is left, and none wanted.
    pub(super) fn gone(&self) -> bool {
        self.wanted == Wanted::Stop && self.begun.is_empty() && !self.busy
    }

    /// The report for the wanted instance in `state`; `None` for any other instance.
    pub(super) fn report(
        &self,
        replica: ReplicaId,
        instance: &InstanceId,
        state: InstanceState,
    ) -> Option<Report> {
        let Wanted::Run { generation, launch, .. } = &self.wanted else { return None };
        if launch.id != *instance {
            // The one that is to be replaced: news only if it has ended before that.
            let generation = self.begun.get(instance)?.generation;
            let reason = match state {
                InstanceState::Failed { reason, .. } => reason,
                InstanceState::Stopped if launch.is_exclusive() => {
                    "stopped: its replacement needs its volume, port or device".into()
                }
                InstanceState::Stopped => "it was stopped from outside".into(),
                InstanceState::Starting
                | InstanceState::Waiting { .. }
                | InstanceState::Running => return None,
            };
            let state = InstanceState::Failed { reason, retryable: true };
            return Some(Report { replica, generation, state });
        }
        if self.start_due {
            return None;
        }
        let state = match state {
            // A slot that was ordered to stop reports when its instances are gone. This one was
            // not, so another program stopped it.
            InstanceState::Stopped => InstanceState::Failed {
                reason: "it was stopped from outside".into(),
                retryable: true,
            },
            state => state,
        };
        Some(Report { replica, generation: *generation, state })
    }
}
