//! A replica in the executor: the wanted state, the instances that were begun, and the next step.

use std::collections::BTreeMap;
use std::sync::Arc;

use shoal_protocol::model::spec::Order;
use shoal_protocol::model::{Digest, InstanceState, ReplicaId, Spec};
use shoal_protocol::node::Report;
use shoal_runtimes::{InstanceId, Launch, Runtime, Status};

use super::health::{Permits, Prober, Probes, Verdict, Verdicts};

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
        generation: Digest,
        spec: Spec,
        launch: Box<Launch>,
    },
    Stop(InstanceId),
}

/// An instance that was begun and not yet stopped.
pub(super) struct Begun {
    pub generation: Digest,
    /// The runtime that it was started with.
    pub runtime: Arc<dyn Runtime>,
    /// It has answered requests.
    pub has_run: bool,
    /// Its number among all instances that were begun: verdicts on an earlier life do not count.
    pub life: u64,
    /// The spec that it was started from.
    pub spec: Spec,
    /// The probes of its spec, or those that it brings with it once it is up; none if there are
    /// none.
    pub probes: Option<Probes>,
    /// Asks it, while its program runs.
    pub prober: Option<Prober>,
    /// The last word of its probes.
    pub verdict: Option<Verdict>,
}

impl Begun {
    /// Its state with what its probes say: it is ready when they say so, and has failed when they
    /// do.
    fn judged(&self, state: InstanceState) -> InstanceState {
        match (&self.verdict, state) {
            (Some(Verdict::Failed(reason)), _) => {
                InstanceState::Failed { reason: reason.clone(), retryable: true }
            }
            (Some(Verdict::NotReady(reason)), InstanceState::Running) => {
                InstanceState::Waiting { reason: reason.clone() }
            }
            (None, InstanceState::Running) if self.probes.is_some() => InstanceState::Starting,
            (_, state) => state,
        }
    }

    /// Ends its probes. Unless they condemned it, they begin anew.
    pub(super) fn end_probes(&mut self) {
        self.prober = None;
        if !self.is_condemned() {
            self.verdict = None;
        }
    }

    /// Its probes found that it is to be restarted.
    fn is_condemned(&self) -> bool {
        matches!(self.verdict, Some(Verdict::Failed(_)))
    }
}

/// The instance that served before the wanted one, with all that it takes to start it again.
#[derive(Clone)]
pub(super) struct Former {
    pub generation: Digest,
    spec: Spec,
    launch: Box<Launch>,
}

pub(super) struct Slot {
    pub wanted: Wanted,
    /// The last generation that was ordered; the report of its end names it.
    pub generation: Digest,
    /// A `Run` order came for which no start was called yet.
    pub start_due: bool,
    /// A step is under way.
    pub busy: bool,
    /// That step is a start: what the runtime still says of an earlier life does not count.
    pub is_starting: bool,
    pub begun: BTreeMap<InstanceId, Begun>,
    /// The instance that is to serve until the wanted one does.
    former: Option<Former>,
    /// An order came to start that again, for which no start was called yet.
    is_former_due: bool,
}

impl Slot {
    pub(super) fn new(generation: Digest) -> Self {
        Slot {
            wanted: Wanted::Stop,
            generation,
            start_due: false,
            busy: false,
            is_starting: false,
            begun: BTreeMap::new(),
            former: None,
            is_former_due: false,
        }
    }

    pub(super) fn run(&mut self, generation: Digest, spec: Spec, launch: Launch) {
        if let Wanted::Run { generation, spec, launch: before } = &self.wanted
            && before.id != launch.id
            && self.begun.get(&before.id).is_some_and(|begun| begun.has_run)
        {
            let (spec, launch) = (spec.clone(), before.clone());
            self.former = Some(Former { generation: *generation, spec, launch });
        }
        self.former.take_if(|former| former.launch.id == launch.id);
        self.generation = generation;
        self.start_due = true;
        self.wanted = Wanted::Run { generation, spec, launch: Box::new(launch) };
    }

    pub(super) fn stop(&mut self) {
        self.start_due = false;
        self.wanted = Wanted::Stop;
        self.forget_former();
    }

    /// The instance that served before the wanted one is to be started again, when it has ended.
    /// Returns whether it can be.
    pub(super) fn run_again(&mut self, generation: Digest) -> bool {
        let Wanted::Run { launch, spec, .. } = &self.wanted else { return false };
        let is_known = self.former.as_ref().is_some_and(|it| it.generation == generation);
        self.is_former_due = is_known && !needs_alone(launch, spec) && !is_stop_first(spec);
        self.is_former_due
    }

    fn forget_former(&mut self) {
        (self.former, self.is_former_due) = (None, false);
    }

    /// A start of this instance is called. Returns whether it is the one before the wanted one.
    pub(super) fn starts(&mut self, id: &InstanceId) -> bool {
        let is_former = !matches!(&self.wanted, Wanted::Run { launch, .. } if launch.id == *id);
        match is_former {
            true => self.is_former_due = false,
            false => (self.start_due, self.is_starting) = (false, true),
        }
        is_former
    }

    /// The generation of an instance that is to serve until the wanted one does.
    pub(super) fn former(&self, id: &InstanceId) -> Option<Digest> {
        self.former.as_ref().filter(|it| it.launch.id == *id).map(|it| it.generation)
    }

    /// The next call towards the wanted state; `None` when it is reached, or a call is under way.
    pub(super) fn next(
        &self,
        state: impl Fn(&InstanceId) -> Option<InstanceState>,
    ) -> Option<Step> {
        if self.busy {
            return None;
        }
        if let Some((id, _)) = self.begun.iter().find(|(_, begun)| begun.is_condemned()) {
            return Some(Step::Stop(id.clone()));
        }
        let state = |id: &InstanceId| Some(self.judged(id, state(id)?));
        match &self.wanted {
            Wanted::Stop => self.begun.keys().next().cloned().map(Step::Stop),
            Wanted::Run { spec, launch, generation } if self.start_due => match self.in_the_way() {
                Some(old) => Some(Step::Stop(old.clone())),
                None => {
                    let (generation, spec) = (*generation, spec.clone());
                    Some(Step::Start { generation, spec, launch: launch.clone() })
                }
            },
            Wanted::Run { launch, .. } => {
                // An old one answers until the new one does, also while the new one fails. One that
                // never answered would only take room.
                let is_replaced = state(&launch.id).is_some_and(|state| state.is_running());
                let is_over = |id: &InstanceId, begun: &Begun| {
                    is_replaced || !begun.has_run || state(id).is_some_and(|state| state.ended())
                };
                let mut old = self.begun.iter().filter(|(id, _)| **id != launch.id);
                let ended = old.find(|(id, begun)| is_over(id, begun));
                if let Some((id, _)) = ended {
                    return Some(Step::Stop(id.clone()));
                }
                let former = self.former.as_ref().filter(|_| self.is_former_due && !is_replaced)?;
                let Former { generation, spec, launch } = former.clone();
                let is_there = self.begun.contains_key(&launch.id);
                (!is_there).then_some(Step::Start { generation, spec, launch })
            }
        }
    }

    /// An instance that must end before the wanted one starts: two on one volume could destroy it,
    /// only one gets a port or a device, or the workload asks for it.
    pub(super) fn in_the_way(&self) -> Option<&InstanceId> {
        let Wanted::Run { launch, spec, .. } = &self.wanted else { return None };
        let is_in_the_way = |id: &&InstanceId| **id != launch.id;
        let stops_first = needs_alone(launch, spec) || is_stop_first(spec);
        self.begun.keys().find(is_in_the_way).filter(|_| self.start_due && stops_first)
    }

    /// The state of an instance with what its probes say.
    fn judged(&self, id: &InstanceId, state: InstanceState) -> InstanceState {
        match self.begun.get(id) {
            Some(begun) => begun.judged(state),
            None => state,
        }
    }

    /// The runtime says how an instance is: its probes begin or end. Returns its state with what
    /// they say.
    pub(super) fn observe(
        &mut self,
        status: &Status,
        permits: &Permits,
        verdicts: &Verdicts,
    ) -> InstanceState {
        let Some(begun) = self.begun.get_mut(&status.id) else { return status.state.clone() };
        if status.is_up && begun.probes.is_none() {
            begun.probes = Probes::brought(&begun.runtime, &status.id, &begun.spec);
        }
        if !status.is_up {
            begun.end_probes();
        } else if let (None, Some(probes)) = (&begun.prober, &begun.probes)
            && !matches!(begun.verdict, Some(Verdict::Failed(_)))
        {
            begun.prober = Some(probes.start(permits.clone(), verdicts.clone(), begun.life));
        }
        let state = begun.judged(status.state.clone());
        begun.has_run |= state.is_running();
        let is_wanted = |launch: &Launch| launch.id == status.id;
        if state.is_running()
            && matches!(&self.wanted, Wanted::Run { launch, .. } if is_wanted(launch))
        {
            self.forget_former();
        }
        state
    }

    /// The probes of an instance have a new verdict. False if it is about an earlier life.
    pub(super) fn judge(&mut self, id: &InstanceId, life: u64, verdict: Verdict) -> bool {
        let Some(begun) = self.begun.get_mut(id).filter(|it| it.life == life) else { return false };
        // It was paused or is being stopped meanwhile, or is to be restarted.
        if begun.prober.is_none() {
            return false;
        }
        begun.verdict = Some(verdict);
        if begun.is_condemned() {
            begun.prober = None;
        }
        true
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
        let Wanted::Run { generation, launch, spec } = &self.wanted else { return None };
        if launch.id != *instance {
            // The one that is to be replaced serves until then.
            let generation = self.begun.get(instance)?.generation;
            let (reason, retryable) = match state {
                InstanceState::Failed { reason, retryable } => (reason, retryable),
                InstanceState::Done { exit_code, .. } => {
                    (format!("it ended with exit code {exit_code}"), true)
                }
                InstanceState::Stopped if needs_alone(launch, spec) => {
                    ("stopped: its replacement needs its volume, port or device".into(), false)
                }
                InstanceState::Stopped if is_stop_first(spec) => (
                    "stopped: its replacement starts when it is gone, as its update says".into(),
                    false,
                ),
                InstanceState::Stopped => ("it was stopped from outside".into(), true),
                InstanceState::Waiting { .. } | InstanceState::Running => {
                    return Some(Report { replica, generation, state });
                }
                InstanceState::Starting => return None,
            };
            let state = InstanceState::Failed { reason, retryable };
            return Some(Report { replica, generation, state });
        }
        if self.start_due {
            return None;
        }
        // Its probes had it stopped, or that is from before its start.
        let is_expected = self.is_starting || !self.begun.contains_key(instance);
        if is_expected && state == InstanceState::Stopped {
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

/// Whether it needs something that no other instance of its replica may have at the same time.
fn needs_alone(launch: &Launch, spec: &Spec) -> bool {
    launch.is_exclusive() || spec.later.uses.devices().next().is_some()
}

/// Whether the old instance stops before the new one starts, as the workload's update says.
fn is_stop_first(spec: &Spec) -> bool {
    spec.rollout().is_some_and(|rollout| rollout.order == Order::StopFirst)
}
