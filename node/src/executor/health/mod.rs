//! The probes of one instance: one task a replica, which asks it at its intervals and tells the
//! executor what that means.
//!
//! ```text
//!   started ──▶ start-up probe ──▶ readiness ∥ liveness
//!                  │ failed           │             │ failed
//!                  ▼                  ▼             ▼
//!               Failed         NotReady, Ready    Failed
//! ```
//!
//! **The core hears of it in its own words**: an instance that is not ready waits, one that failed
//! its start-up or liveness probe has failed. So routes, restarts, pauses and moves are those of
//! any other replica.

mod check;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use shoal_protocol::model::claim::NOT_READY;
use shoal_protocol::model::spec::{Check, Container, Health, Probe};
use shoal_protocol::model::{Spec, WorkloadName};
use shoal_runtimes::{InstanceId, Runtime};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use check::{Target, Trouble};

/// Commands of probes that run at one time on this node: each is a process, and takes calls of the
/// engine.
const COMMANDS: usize = 16;
/// Connections and requests of probes at one time.
const CONNECTIONS: usize = 256;
/// The first pause before a replica that was never ready is asked again; it doubles up to the
/// interval of its probe. So what starts quickly is ready quickly.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The time for which a replica that starts need not say why it is not ready.
const QUIET: Duration = Duration::from_secs(2);

/// The judgement of an instance by its probes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// It takes no requests now, for this reason.
    NotReady(String),
    /// It takes requests.
    Ready,
    /// It is to be restarted, for this reason. No further verdict comes.
    Failed(String),
}

/// Verdicts that the executor has not taken yet: the latest of each instance, with the number of
/// its life.
#[derive(Clone, Default)]
pub(super) struct Verdicts(Arc<(Mutex<Latest>, Notify)>);

/// The latest verdict of each instance, with the number of its life.
type Latest = BTreeMap<InstanceId, (u64, Verdict)>;

impl Verdicts {
    fn put(&self, id: &InstanceId, life: u64, verdict: Verdict) {
        let (latest, wake) = &*self.0;
        let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.insert(id.clone(), (life, verdict));
        wake.notify_one();
    }

    /// Waits for verdicts, and takes all of them.
    pub(super) async fn take(&self) -> BTreeMap<InstanceId, (u64, Verdict)> {
        let (latest, wake) = &*self.0;
        loop {
            let all = std::mem::take(&mut *latest.lock().unwrap_or_else(PoisonError::into_inner));
            if !all.is_empty() {
                return all;
            }
            wake.notified().await;
        }
    }
}

/// Bounds the checks of all probes of a node. Cheap to clone.
#[derive(Clone)]
pub(super) struct Permits {
    commands: Arc<Semaphore>,
    connections: Arc<Semaphore>,
}

impl Default for Permits {
    fn default() -> Self {
        let of = |count| Arc::new(Semaphore::new(count));
        Permits { commands: of(COMMANDS), connections: of(CONNECTIONS) }
    }
}

/// The probes that a spec asks for, with all that a task of them needs.
#[derive(Clone)]
pub(super) struct Probes {
    /// Those of each container that has some.
    all: Vec<(Health, Target)>,
    /// Behind each reason: where the probes come from, if not from the spec.
    origin: &'static str,
}

impl Probes {
    /// The probes of an instance; `None` if its spec has none.
    pub(super) fn of(
        runtime: Arc<dyn Runtime>,
        id: &InstanceId,
        name: &WorkloadName,
        spec: &Spec,
    ) -> Option<Probes> {
        let of = |(container, health): (Option<&Container>, &Health)| {
            let target = Target::new(runtime.clone(), id.clone(), name, spec);
            (health.clone(), target.of(container))
        };
        let all: Vec<_> = spec.probes().map(of).collect();
        (!all.is_empty()).then_some(Probes { all, origin: "" })
    }

    /// The probes that an instance brings with it, of a spec that has none and leaves them on.
    pub(super) fn brought(
        runtime: &Arc<dyn Runtime>,
        id: &InstanceId,
        spec: &Spec,
    ) -> Option<Probes> {
        if spec.probes().next().is_some() || spec.later.no_healthcheck {
            return None;
        }
        let health = runtime.own_probes(id)?;
        let target = Target::new(runtime.clone(), id.clone(), &spec.name, spec);
        Some(Probes { all: vec![(health, target)], origin: " (HEALTHCHECK of its image)" })
    }

    /// Begins to probe. Dropping the result ends it.
    pub(super) fn start(&self, permits: Permits, verdicts: Verdicts, life: u64) -> Prober {
        let Probes { all, origin } = self.clone();
        let since = Instant::now();
        let together = Together::new(all.len());
        let watchers = all.into_iter().enumerate().map(|(number, (health, target))| {
            let (permits, verdicts) = (permits.clone(), verdicts.clone());
            let together = together.clone();
            let watcher = Watcher {
                health,
                target,
                origin,
                permits,
                verdicts,
                life,
                since,
                together,
                number,
            };
            watcher.run()
        });
        let watchers: Vec<_> = watchers.collect();
        Prober(tokio::spawn(async move {
            futures::future::join_all(watchers).await;
        }))
    }
}

/// A task that probes an instance; ends when this is dropped.
pub(super) struct Prober(JoinHandle<()>);

impl Drop for Prober {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Watcher {
    health: Health,
    target: Target,
    origin: &'static str,
    permits: Permits,
    verdicts: Verdicts,
    life: u64,
    since: Instant,
    together: Together,
    /// Its number among the watchers of the instance.
    number: usize,
}

/// The latest verdicts about the containers of one instance: it is ready when all are.
#[derive(Clone)]
struct Together(Arc<Mutex<Vec<Option<Verdict>>>>);

impl Together {
    fn new(count: usize) -> Together {
        Together(Arc::new(Mutex::new(vec![None; count])))
    }

    /// Notes a verdict about one, and gives what it means for all, if that is known.
    fn note(&self, number: usize, verdict: Verdict) -> Option<Verdict> {
        if matches!(verdict, Verdict::Failed(_)) {
            return Some(verdict);
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = all.get_mut(number) {
            *own = Some(verdict);
        }
        let told = all.iter().flatten();
        let not_ready = told.clone().find(|it| matches!(it, Verdict::NotReady(_)));
        not_ready.cloned().or_else(|| (told.count() == all.len()).then_some(Verdict::Ready))
    }
}

impl Watcher {
    async fn run(self) {
        if let Some(probe) = &self.health.startup
            && !self.starts(probe).await
        {
            return;
        }
        if self.is_one_probe() {
            return self.watch_readiness().await;
        }
        tokio::join!(self.watch_readiness(), self.watch_liveness());
    }

    /// Whether one check answers for readiness and for liveness, as docker's does: it is not tried
    /// twice.
    fn is_one_probe(&self) -> bool {
        self.health.readiness.is_some() && self.health.readiness == self.health.liveness
    }

    fn tell(&self, verdict: Verdict) {
        if let Some(verdict) = self.together.note(self.number, verdict) {
            self.verdicts.put(&self.target.id, self.life, verdict);
        }
    }

    /// Says why it takes no requests.
    fn tell_not_ready(&self, probe: &str, what: &str, detail: &str) {
        let text = self.text(what, detail);
        self.tell(Verdict::NotReady(format!("{NOT_READY}{probe}{text}")));
    }

    fn text(&self, what: &str, detail: &str) -> String {
        let origin = self.origin;
        let what = match &self.target.container {
            Some(container) => format!("container `{container}`: {what}"),
            None => what.to_owned(),
        };
        match detail.is_empty() {
            true => format!("{what}{origin}"),
            false => format!("{what}: {detail}{origin}"),
        }
    }

    /// Whether it has only just been started, and need not say why it is not ready.
    fn is_quiet(&self) -> bool {
        self.since.elapsed() < QUIET
    }

    /// Tries the start-up probe until it succeeds once. False if it failed for good.
    async fn starts(&self, probe: &Probe) -> bool {
        let mut tries = Tries::of(self, probe);
        let (mut failures, mut told) = (0, None);
        let mut pause = FIRST_PAUSE.min(probe.every);
        sleep(probe.delay).await;
        // Tries between the intervals of the probe find a success early, and count as no failures.
        let mut counts_at = Instant::now();
        loop {
            let began = Instant::now();
            match tries.once().await {
                Ok(()) => return true,
                Err(Trouble::Unknown) => {}
                Err(Trouble::Failed { what, detail }) => {
                    if began >= counts_at {
                        (failures, counts_at) = (failures + 1, began + probe.every);
                    }
                    if failures >= probe.failures {
                        let text = self.text(&what, &detail);
                        self.tell(Verdict::Failed(format!("startup: {text}")));
                        return false;
                    }
                    if !self.is_quiet() && told.as_ref() != Some(&what) {
                        self.tell_not_ready("startup: ", &what, &detail);
                        told = Some(what);
                    }
                }
            }
            sleep_until((began + pause).min(counts_at.max(began))).await;
            pause = (pause * 2).min(probe.every);
        }
    }

    async fn watch_readiness(&self) {
        let Some(probe) = &self.health.readiness else { return self.tell(Verdict::Ready) };
        let mut tries = Tries::of(self, probe);
        let (mut successes, mut failures) = (0, 0u32);
        // Failures at the probe's own pace, which show that it is not alive.
        let (mut dead, mut counts_at) = (0, Instant::now());
        // The reason that was told last while it is not ready.
        let (mut is_ready, mut was_ready, mut told) = (false, false, None);
        let mut pause = FIRST_PAUSE.min(probe.every);
        sleep(probe.delay).await;
        loop {
            let began = Instant::now();
            let result = tries.once().await;
            // Until its first success it is asked sooner.
            let next = match !was_ready && result.is_err() {
                true => pause,
                false => spread(probe.every),
            };
            match result {
                Ok(()) => {
                    (successes, failures, dead) = (successes + 1, 0, 0);
                    if !is_ready && successes >= probe.successes {
                        (is_ready, was_ready, told) = (true, true, None);
                        self.tell(Verdict::Ready);
                    }
                }
                Err(Trouble::Unknown) => {}
                Err(Trouble::Failed { what, detail }) => {
                    (successes, failures) = (0, failures.saturating_add(1));
                    if began >= counts_at {
                        (dead, counts_at) = (dead + 1, began + probe.every / 20 * 19);
                    }
                    if self.is_one_probe() && dead >= probe.failures {
                        let text = self.text(&what, &detail);
                        return self.tell(Verdict::Failed(format!("liveness: {text}")));
                    }
                    is_ready &= failures < probe.failures;
                    let is_quiet = !was_ready && self.is_quiet();
                    if !is_ready && !is_quiet && told.as_ref() != Some(&what) {
                        self.tell_not_ready("", &what, &detail);
                        told = Some(what);
                    }
                }
            }
            pause = (pause * 2).min(probe.every);
            sleep_until(began + next).await;
        }
    }

    async fn watch_liveness(&self) {
        let Some(probe) = &self.health.liveness else { return };
        let mut tries = Tries::of(self, probe);
        let mut failures = 0;
        sleep(probe.delay + early(probe.every)).await;
        loop {
            let began = Instant::now();
            match tries.once().await {
                Ok(()) => failures = 0,
                Err(Trouble::Unknown) => {}
                Err(Trouble::Failed { what, detail }) => {
                    failures += 1;
                    if failures >= probe.failures {
                        let text = self.text(&what, &detail);
                        return self.tell(Verdict::Failed(format!("liveness: {text}")));
                    }
                }
            }
            sleep_until(began + spread(probe.every)).await;
        }
    }
}

/// The tries of one probe.
struct Tries<'a> {
    watcher: &'a Watcher,
    probe: &'a Probe,
    /// A command that did not end in time, and still runs. No other is begun before it ends, so
    /// that commands that hang do not add up in the container.
    late: Option<BoxFuture<'static, Result<(), Trouble>>>,
}

impl<'a> Tries<'a> {
    fn of(watcher: &'a Watcher, probe: &'a Probe) -> Self {
        Tries { watcher, probe, late: None }
    }

    /// Tries the check once, within its time.
    async fn once(&mut self) -> Result<(), Trouble> {
        let Probe { check, timeout: within, .. } = self.probe;
        let target = &self.watcher.target;
        let permits = &self.watcher.permits;
        let is_command = matches!(check, Check::Exec { .. });
        let permits = if is_command { &permits.commands } else { &permits.connections };
        let _permit = permits.acquire().await.expect("the semaphore is never closed");
        let question = || target.question(check);
        if let Some(late) = &mut self.late {
            if timeout(*within, late).await.is_err() {
                let what = format!("{} still runs and was not run again", question());
                return Err(Trouble::failed(what));
            }
            self.late = None;
        }
        let (target, checked) = (target.clone(), check.clone());
        let mut running: BoxFuture<'static, _> =
            Box::pin(async move { target.check(&checked).await });
        match timeout(*within, &mut running).await {
            Ok(result) => result,
            Err(_) => {
                self.late = is_command.then_some(running);
                Err(Trouble::failed(format!("no answer to {} within {within:?}", question())))
            }
        }
    }
}

/// A part of an interval, drawn anew at each call: replicas that start together are not all asked
/// in the same instant.
fn early(every: Duration) -> Duration {
    every / 10 * draw() / 1_000
}

/// An interval, up to a twentieth longer or shorter.
fn spread(every: Duration) -> Duration {
    every / 20 * 19 + every / 10 * draw() / 1_000
}

/// A number from 0 to 999. Not for secrets.
fn draw() -> u32 {
    let drawn = RandomState::new().hash_one(0u8) % 1_000;
    u32::try_from(drawn).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Containers of a group answer at different times.
    #[test]
    fn instance_is_ready_when_all_its_containers_are() {
        let together = Together::new(2);
        let away = |why: &str| Verdict::NotReady(why.into());
        assert_eq!(together.note(0, Verdict::Ready), None, "nothing is known of the other one");
        assert_eq!(together.note(1, away("late")), Some(away("late")));
        assert_eq!(together.note(1, Verdict::Ready), Some(Verdict::Ready));
        assert_eq!(together.note(0, away("busy")), Some(away("busy")));
        assert_eq!(together.note(1, Verdict::Ready), Some(away("busy")));
        let failed = Verdict::Failed("dead".into());
        assert_eq!(together.note(1, failed.clone()), Some(failed));
    }
}
