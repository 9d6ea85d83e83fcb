//! The task that owns the slots.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::model::{Digest, InstanceState, ReplicaId};
use shoal_protocol::node::{Order, Report};
use shoal_runtimes::{InstanceId, Runtime, StartError, Status};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep, timeout};
use tracing::{debug, warn};

use super::health::{Permits, Probes, Verdict, Verdicts};
use super::mailbox::{Directory, Inbox, Outbox};
use super::slot::{Begun, Slot, Step, Wanted};
use super::{Ending, GRACE, Host, launch};
use crate::runtimes::{RuntimeSet, Watches};
use crate::secrets::{NoValues, Values};

/// Calls to a runtime at one time. More would only queue inside the runtime, and each holds memory.
const CALLS: usize = 32;
/// A start only accepts the order; a runtime that takes longer hangs.
const START_WITHIN: Duration = Duration::from_secs(30);
/// Time for a stop beyond its grace.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Pause between a stop that failed and the next try.
const STOP_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Time for an order to claim an instance that ran before the start.
const FOUND_WAITS: Duration = Duration::from_secs(10);
/// Pause before a start that lacks a secret or a config looks for it again. A new value comes with
/// an order of its own, so this is for what other nodes have to pass on.
const VALUES_AGAIN_AFTER: Duration = Duration::from_secs(3);
/// Pause between looks for such instances when the last one found none.
const STRAYS_EVERY: Duration = Duration::from_secs(60);

pub(super) struct Task {
    host: Host,
    runtimes: RuntimeSet,
    inbox: Inbox,
    outbox: Outbox,
    directory: Directory,
    slots: BTreeMap<ReplicaId, Slot>,
    by_instance: BTreeMap<InstanceId, ReplicaId>,
    verdicts: Verdicts,
    permits: Permits,
    /// The number of instances that were begun.
    lives: u64,
    calls: Calls,
    steps: JoinSet<(ReplicaId, Done)>,
    /// The step of each task, so that a panic in an adapter frees the slot.
    step_of: BTreeMap<Id, (ReplicaId, Step)>,
    values: Arc<dyn Values>,
    /// Replicas whose start waits for a secret or a config; at most one for each slot.
    waiting: BTreeSet<ReplicaId>,
    again: Interval,
}

/// The executor's ends of its mailboxes.
pub(super) struct Ends {
    pub inbox: Inbox,
    pub outbox: Outbox,
    pub directory: Directory,
}

/// How a step ended.
enum Done {
    Started(InstanceId),
    Refused {
        id: InstanceId,
        reason: String,
        retryable: bool,
    },
    /// A secret or a config is not there, or cannot be read here yet.
    Waits {
        id: InstanceId,
        reason: String,
    },
    Stopped(InstanceId),
    NotStopped,
}

impl Task {
    pub(super) fn new(
        host: Host,
        runtimes: RuntimeSet,
        values: Arc<dyn Values>,
        ends: Ends,
    ) -> Self {
        let Ends { inbox, outbox, directory } = ends;
        let mut again = interval(VALUES_AGAIN_AFTER);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Task {
            calls: Calls::of(&runtimes),
            host,
            runtimes,
            inbox,
            outbox,
            directory,
            slots: BTreeMap::new(),
            by_instance: BTreeMap::new(),
            verdicts: Verdicts::default(),
            permits: Permits::default(),
            lives: 0,
            steps: JoinSet::new(),
            step_of: BTreeMap::new(),
            values,
            waiting: BTreeSet::new(),
            again,
        }
    }

    pub(super) async fn run(mut self, mut stopped: oneshot::Receiver<Ending>) {
        let mut watch = self.runtimes.watch();
        let mut strays = JoinSet::new();
        for runtime in self.runtimes.all() {
            strays.spawn(stop_strays(runtime.clone(), self.directory.clone()));
        }
        // A sender that is gone without a word leaves what can be left.
        let ending = loop {
            tokio::select! {
                biased;
                ending = &mut stopped => break ending.unwrap_or(Ending::LeaveRunning),
                () = self.turn(&mut watch) => {}
            }
        };
        drop(strays);
        self.end(ending).await;
    }

    /// Handles one event. Cancelling it loses nothing: each branch waits first, then acts without
    /// awaiting.
    async fn turn(&mut self, watch: &mut Watches) {
        tokio::select! {
            orders = self.inbox.take() => {
                orders.into_iter().for_each(|(replica, order)| self.on_order(replica, order))
            }
            Some(step) = self.steps.join_next_with_id() => self.on_step(step),
            statuses = watch.next() => {
                statuses.into_iter().for_each(|status| self.on_status(status))
            }
            verdicts = self.verdicts.take() => {
                verdicts.into_iter().for_each(|(id, (life, verdict))| {
                    self.on_verdict(id, life, verdict);
                });
            }
            _ = self.again.tick(), if !self.waiting.is_empty() => self.start_waiting(),
        }
    }

    fn on_order(&mut self, replica: ReplicaId, order: Order) {
        match order {
            Order::Run { name, generation, spec, .. } => {
                let launch = launch(&self.host, &name, &replica, &generation, &spec);
                self.directory.began(replica, launch.id.clone());
                self.by_instance.insert(launch.id.clone(), replica);
                self.slots
                    .entry(replica)
                    .or_insert_with(|| Slot::new(generation))
                    .run(generation, spec, launch);
            }
            Order::Again { generation, .. } => {
                let slot = self.slots.get_mut(&replica);
                if !slot.is_some_and(|slot| slot.run_again(generation)) {
                    let reason = "it cannot be started again beside its replacement".into();
                    let state = InstanceState::Failed { reason, retryable: false };
                    return self.outbox.put(Report { replica, generation, state });
                }
            }
            // Without a slot nothing runs here; the core is told that.
            Order::Stop { .. } => {
                self.slots.entry(replica).or_insert_with(|| Slot::new(Digest([0; 32]))).stop()
            }
        }
        self.advance(replica);
    }

    /// Tries again what waits for a secret or a config.
    fn start_waiting(&mut self) {
        for replica in std::mem::take(&mut self.waiting) {
            if let Some(slot) = self.slots.get_mut(&replica) {
                slot.start_again();
                self.advance(replica);
            }
        }
    }

    fn on_status(&mut self, status: Status) {
        let Some(replica) = self.by_instance.get(&status.id).copied() else { return };
        self.observe(replica, &status);
        self.advance(replica);
    }

    /// The probes of an instance say how it is.
    fn on_verdict(&mut self, id: InstanceId, life: u64, verdict: Verdict) {
        let Some(replica) = self.by_instance.get(&id).copied() else { return };
        let Some(slot) = self.slots.get_mut(&replica) else { return };
        if slot.judge(&id, life, verdict) {
            if let Some(status) = self.runtimes.status(&id) {
                self.observe(replica, &status);
            }
            self.advance(replica);
        }
    }

    /// Notes how an instance is, and reports it.
    fn observe(&mut self, replica: ReplicaId, status: &Status) {
        let Some(slot) = self.slots.get_mut(&replica) else { return };
        let state = slot.observe(status, &self.permits, &self.verdicts);
        if let Some(report) = slot.report(replica, &status.id, state) {
            self.outbox.put(report);
        }
    }

    fn on_step(&mut self, step: Result<(Id, (ReplicaId, Done)), JoinError>) {
        let (replica, done) = match step {
            Ok((id, done)) => {
                self.step_of.remove(&id);
                done
            }
            Err(error) => {
                let Some((replica, step)) = self.step_of.remove(&error.id()) else { return };
                warn!(%replica, "a runtime panicked: {error}");
                let done = match step {
                    Step::Start { launch, .. } => Done::Refused {
                        id: launch.id,
                        reason: "the runtime panicked".into(),
                        retryable: true,
                    },
                    Step::Stop(_) => Done::NotStopped,
                };
                (replica, done)
            }
        };
        self.on_done(replica, done);
    }

    /// A step has ended.
    fn on_done(&mut self, replica: ReplicaId, done: Done) {
        let Some(slot) = self.slots.get_mut(&replica) else { return };
        (slot.busy, slot.is_starting) = (false, false);
        match done {
            Done::Started(id) => {
                // The start may not have changed the state, so the watch may stay silent.
                if let Some(status) = self.runtimes.status(&id) {
                    self.observe(replica, &status);
                }
            }
            Done::Refused { id, reason, retryable } => {
                if let Wanted::Run { generation, launch, .. } = &slot.wanted
                    && launch.id == id
                    && !slot.start_due
                {
                    let state = InstanceState::Failed { reason, retryable };
                    self.outbox.put(Report { replica, generation: *generation, state });
                } else if let Some(generation) = slot.former(&id) {
                    let state = InstanceState::Failed { reason, retryable };
                    self.outbox.put(Report { replica, generation, state });
                    slot.begun.remove(&id);
                    self.by_instance.remove(&id);
                    self.directory.stopped(&id);
                }
            }
            Done::Waits { id, reason } if slot.former(&id).is_some() => {
                let refused = Done::Refused { id, reason, retryable: true };
                return self.on_done(replica, refused);
            }
            Done::Waits { id, reason } => {
                slot.waits(&id);
                if let Wanted::Run { generation, launch, .. } = &slot.wanted
                    && launch.id == id
                    && !slot.start_due
                {
                    let state = InstanceState::Waiting { reason };
                    self.outbox.put(Report { replica, generation: *generation, state });
                    self.waiting.insert(replica);
                }
            }
            Done::Stopped(id) => {
                // It served until now, and the one in its place does not yet.
                if slot.in_the_way() == Some(&id)
                    && let Some(report) = slot.report(replica, &id, InstanceState::Stopped)
                {
                    self.outbox.put(report);
                }
                slot.begun.remove(&id);
                let is_wanted =
                    matches!(&slot.wanted, Wanted::Run { launch, .. } if launch.id == id);
                if !is_wanted {
                    self.by_instance.remove(&id);
                    self.directory.stopped(&id);
                }
            }
            Done::NotStopped => {}
        }
        self.advance(replica);
    }

    /// Starts the next step of a replica, if there is one.
    fn advance(&mut self, replica: ReplicaId) {
        let Some(slot) = self.slots.get_mut(&replica) else { return };
        if slot.gone() {
            self.outbox.put(Report {
                replica,
                generation: slot.generation,
                state: InstanceState::Stopped,
            });
            self.slots.remove(&replica);
            self.by_instance.retain(|_, other| *other != replica);
            self.directory.ended(replica);
            return;
        }
        let runtimes = &self.runtimes;
        let Some(step) = slot.next(|id| runtimes.status(id).map(|status| status.state)) else {
            return;
        };
        let runtime = match &step {
            Step::Stop(id) => {
                let begun = slot.begun.get_mut(id).expect("only what was begun is stopped");
                // What ends need not answer.
                begun.end_probes();
                begun.runtime.clone()
            }
            Step::Start { generation, spec, launch } => {
                let (generation, is_former) = (*generation, slot.starts(&launch.id));
                if is_former {
                    self.by_instance.insert(launch.id.clone(), replica);
                    self.directory.began_again(replica, launch.id.clone());
                }
                match runtimes.get(spec.program.kind()) {
                    Ok(runtime) => {
                        // Recorded before the call: a call that is cut short may have begun an
                        // instance.
                        let runtime = runtime.clone();
                        // One that goes on is the same as before, and its probes with it.
                        let goes_on = |id| {
                            let known = runtimes.status(id).is_some_and(|it| !it.state.ended());
                            known && slot.begun.contains_key(id)
                        };
                        if !goes_on(&launch.id) {
                            self.lives += 1;
                            let (name, id) = (&spec.name, &launch.id);
                            let begun = Begun {
                                generation,
                                runtime: runtime.clone(),
                                // It serves again before its replacement does.
                                has_run: is_former,
                                life: self.lives,
                                spec: spec.clone(),
                                probes: Probes::of(runtime.clone(), id, name, spec),
                                prober: None,
                                verdict: None,
                            };
                            slot.begun.insert(id.clone(), begun);
                        }
                        runtime
                    }
                    Err(missing) => {
                        slot.is_starting = false;
                        let state =
                            InstanceState::Failed { reason: missing.to_string(), retryable: false };
                        self.outbox.put(Report { replica, generation, state });
                        return self.advance(replica);
                    }
                }
            }
        };
        slot.busy = true;
        let calls = self.calls.of_kind(runtime.kind());
        let call = call(runtime.clone(), calls, self.values.clone(), step.clone());
        let task = self.steps.spawn(async move { (replica, call.await) });
        self.step_of.insert(task.id(), (replica, step));
    }

    async fn end(mut self, ending: Ending) {
        self.steps.abort_all();
        let stops = |begun: &Begun| ending == Ending::StopAll || !begun.runtime.outlives_process();
        let mut begun: Vec<(InstanceId, Begun)> =
            self.slots.into_values().flat_map(|slot| slot.begun).collect();
        begun.iter_mut().for_each(|(_, begun)| begun.end_probes());
        begun.retain(|(_, begun)| stops(begun));
        let stops = begun.iter().map(|(id, begun)| begun.runtime.stop(id, GRACE));
        match timeout(GRACE + STOP_WITHIN, futures::future::join_all(stops)).await {
            Ok(results) => {
                results.into_iter().filter_map(Result::err).for_each(|error| warn!("{error}"))
            }
            Err(_) => warn!(
                "some guests did not stop within {:?}; they end with this process",
                GRACE + STOP_WITHIN
            ),
        }
    }
}

/// The calls to each runtime that may run at one time.
struct Calls(BTreeMap<&'static str, Arc<Semaphore>>);

impl Calls {
    fn of(runtimes: &RuntimeSet) -> Self {
        let permits = || Arc::new(Semaphore::new(CALLS));
        Calls(runtimes.all().iter().map(|runtime| (runtime.kind(), permits())).collect())
    }

    fn of_kind(&self, kind: &str) -> Arc<Semaphore> {
        self.0[kind].clone()
    }
}

async fn call(
    runtime: Arc<dyn Runtime>,
    calls: Arc<Semaphore>,
    values: Arc<dyn Values>,
    mut step: Step,
) -> Done {
    if let Step::Start { spec, launch, .. } = &mut step
        && spec.values().next().is_some()
    {
        // Without a permit: others may be asked for a key, and answer late.
        let resolved = timeout(START_WITHIN, values.resolve(spec)).await;
        let late = || NoValues("its secrets were not read in time".into());
        match resolved.unwrap_or_else(|_| Err(late())) {
            Ok(given) => launch.given = given,
            Err(NoValues(reason)) => return Done::Waits { id: launch.id.clone(), reason },
        }
    }
    let permit = calls.acquire().await.expect("the semaphore is never closed");
    match step {
        Step::Start { launch, .. } => {
            let id = launch.id.clone();
            debug!(%id, "start");
            match timeout(START_WITHIN, runtime.start(*launch)).await {
                Ok(Ok(())) => Done::Started(id),
                Ok(Err(error)) => {
                    let retryable = !matches!(error, StartError::Invalid { .. });
                    Done::Refused { id, reason: error.to_string(), retryable }
                }
                Err(_) => {
                    let reason = format!(
                        "the {} runtime did not take it within {START_WITHIN:?}",
                        runtime.kind()
                    );
                    Done::Refused { id, reason, retryable: true }
                }
            }
        }
        Step::Stop(id) => {
            debug!(%id, "stop");
            let stopped = timeout(GRACE + STOP_WITHIN, runtime.stop(&id, GRACE)).await;
            let why = match stopped {
                Ok(Ok(())) => return Done::Stopped(id),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("the {} runtime did not answer", runtime.kind()),
            };
            // Other replicas may use the permit meanwhile.
            drop(permit);
            warn!(%id, "not stopped, trying again in {STOP_AGAIN_AFTER:?}: {why}");
            sleep(STOP_AGAIN_AFTER).await;
            Done::NotStopped
        }
    }
}

/// Stops instances that no order of this process began: a previous process ended between an order
/// and its record, or the engine carried out its last order only after its end. One that is seen at
/// two looks is stopped, and an engine that does not answer is asked again.
async fn stop_strays(runtime: Arc<dyn Runtime>, directory: Directory) {
    let mut pause = FOUND_WAITS;
    let mut seen = BTreeSet::new();
    let mut told = String::new();
    loop {
        while !runtime.is_available() {
            sleep(STOP_AGAIN_AFTER).await;
        }
        let found = match timeout(START_WITHIN, runtime.instances()).await {
            Ok(found) => found.map_err(|error| error.to_string()),
            Err(_) => Err(format!("the {} runtime did not answer", runtime.kind())),
        };
        match found {
            Ok(found) => {
                let found = found.into_iter().map(|instance| instance.id);
                let strays: BTreeSet<_> = found.filter(|id| !directory.has_begun(id)).collect();
                for id in strays.intersection(&seen) {
                    stop_stray(&runtime, &directory, id).await;
                }
                if !strays.is_empty() {
                    pause = FOUND_WAITS;
                }
                seen = strays;
                told.clear();
            }
            Err(error) => {
                // The log has each reason once.
                if told != error {
                    warn!("what else runs here is not known: {error}");
                    told = error;
                }
                pause = FOUND_WAITS;
            }
        }
        sleep(std::mem::replace(&mut pause, STRAYS_EVERY)).await;
    }
}

async fn stop_stray(runtime: &Arc<dyn Runtime>, directory: &Directory, id: &InstanceId) {
    // An order may have come while another one was stopped.
    if directory.has_begun(id) {
        return;
    }
    warn!(%id, "stopped: it ran here and no order wants it");
    match timeout(GRACE + STOP_WITHIN, runtime.stop(id, GRACE)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%id, "not stopped: {error}"),
        Err(_) => warn!(%id, "not stopped: the {} runtime did not answer", runtime.kind()),
    }
}
