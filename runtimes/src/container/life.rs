//! The task that carries one instance from its start to its end. **It alone changes the instance's
//! containers**, and what the engine shows counts, never what an event says. What is particular to
//! several containers is in `group`.
//!
//! ```text
//! previous life ends -> adopt, or: image, create, start -> listens? -> Running -> ended by itself
//!                                                                        |            -> Failed,
//!                                                                        |               or Done
//!                                                                        +- asked to stop
//!                                                                             -> Stopped
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::model::spec::{Container, PullPolicy, Role};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until};

use super::create::Part;
use super::forms::{Inspected, Listed, Phase};
use super::instance::Instance;
use super::logs::Follower;

use super::refusal::{CallError, Failure, Step, failure};
use super::shared::Shared;
use super::{create, given_files, healthcheck, image, load, logs, needs, removal, volumes};
use crate::endpoint::Endpoint;
use crate::error::DeviceError;
use crate::logs::{Log, LogStream};
use crate::model::{ContainerPayload, Payload};
use crate::session::Doors;

/// Pause before an engine that failed is asked again.
const ENGINE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Time after which people are told what a start waits for. Most starts take less.
const TELL_AFTER: Duration = Duration::from_secs(2);
/// Time after which the log says that nothing listens.
const HINT_AFTER: Duration = Duration::from_secs(10);
/// Pause before a paused container is inspected again, if no event says that it goes on.
const PAUSED_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Pause before a container that has no address yet is inspected again.
const ADDRESS_AGAIN_AFTER: Duration = Duration::from_millis(100);

pub(super) struct Life {
    pub shared: Arc<Shared>,
    pub instance: Arc<Instance>,
    /// The life before this one under the same id.
    pub previous: Option<Arc<Instance>>,
}

/// Why the middle of a life is over.
pub(super) enum End {
    Stop,
    Failed(Failure),
    /// Its program came to its end, as it was to, with this code.
    Done(i32),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        End::Failed(failure)
    }
}

/// The containers that were made or found, in the order in which they were started: without the
/// init containers, which have ended.
pub(super) struct Up {
    pub running: Vec<Running>,
    pub is_adopted: bool,
}

/// A container of an instance.
pub(super) struct Running {
    pub name: String,
    pub role: Role,
    pub id: String,
}

impl Life {
    /// Runs to the end, or until the adapter is dropped, which leaves the container running.
    pub async fn run(self) {
        let closed = self.shared.closed.clone();
        tokio::select! {
            biased;
            () = closed.cancelled() => {}
            () = self.live() => {}
        }
    }

    async fn live(mut self) {
        let is_first = self.previous.is_none();
        if let Some(previous) = self.previous.take() {
            self.outlive(&previous).await;
        }
        // The previous life has closed it.
        let log = self.shared.logs.open(&self.instance.launch.id);
        let mut followers = Vec::new();
        let end = match self.bring_up(is_first, &mut followers, &log).await {
            Ok(up) => self.hold(&up, &log).await,
            Err(end) => end,
        };
        match end {
            End::Failed(failure) => self.fail(failure, followers, &log).await,
            End::Done(code) => self.done(code, followers, &log).await,
            End::Stop => self.take_down(followers, &log).await,
        }
        self.instance.ended.cancel();
    }

    /// Waits until the previous life has ended. Nobody else asks it again when its stop failed.
    async fn outlive(&self, previous: &Instance) {
        while !previous.ended.is_cancelled() {
            tokio::select! {
                () = previous.ended.cancelled() => {}
                // Its container is found by its label.
                () = self.instance.stopping.cancelled() => return,
                () = sleep(ENGINE_AGAIN_AFTER) => previous.asked.notify_one(),
            }
        }
    }

    pub(super) fn payload(&self) -> Result<&ContainerPayload, Failure> {
        match &self.instance.launch.payload {
            Payload::Container(payload) => Ok(payload),
            Payload::Component(_) | Payload::Command(_) => {
                Err(Failure::lasting("it is not a container"))
            }
        }
    }

    /// Makes sure that the engine has the image: from its parts, or from a registry.
    async fn image(&self, container: &Container, log: &Log) -> Result<(), Failure> {
        let image = &container.image;
        match load::platform(image)? {
            Some(platform) => {
                let begins = || {
                    log.say(LogStream::System, &format!("loading the image {}", image.reference))
                };
                load::ready(&self.shared, image, platform, begins).await
            }
            None => image::ready(&self.shared, container, log).await,
        }
    }

    /// Finds the containers that run already, or makes and starts them. Those that came to their
    /// end while this program was away are found by the first life only: a later one is another
    /// try.
    async fn bring_up(
        &self,
        is_first: bool,
        followers: &mut Vec<Follower>,
        log: &Log,
    ) -> Result<Up, End> {
        let (shared, instance) = (&self.shared, &self.instance);
        let (engine, launch) = (&shared.engine, &instance.launch);
        let payload = self.payload()?;
        if instance.stopping.is_cancelled() {
            return Err(End::Stop);
        }
        let unasked = |error: CallError| Failure::passing(format!("{}: {error}", engine.name()));
        let found = shared.list(Some(&launch.id)).await.map_err(unasked)?;
        let adopted = self.whole(payload, &found, is_first).await.map_err(unasked)?;
        let is_kept = |one: &Listed| adopted.iter().flatten().any(|running| running.id == one.id);
        let rest: Vec<Listed> = found.into_iter().filter(|one| !is_kept(one)).collect();
        let own = |one: &Listed| self.grace_of(payload, one);
        removal::end_and_remove_all(engine, rest, own, instance.grace.subscribe())
            .await
            .map_err(unasked)?;
        if let Some(running) = adopted {
            for one in &running {
                instance.set_container(&one.name, &one.id);
                followers.push(self.follow(&one.name, &one.id, false, log));
            }
            log.say(LogStream::System, "found again");
            return Ok(Up { running, is_adopted: true });
        }
        needs::check(payload, &shared.config.allowed).await?;
        self.images(payload, log).await?;
        let permit = self.permit().await?;
        for key in payload.kept().collect::<BTreeSet<_>>() {
            volumes::ensure(shared, key, volumes::group(payload, key)).await?;
        }
        for name in payload.scratch().collect::<BTreeSet<_>>() {
            volumes::ensure_scratch(shared, &launch.id, name).await?;
        }
        given_files::write(shared.given.as_deref(), launch, payload)?;
        let running = self.start_all(payload, permit, followers, log).await?;
        log.say(LogStream::System, logs::STARTED);
        Ok(Up { running, is_adopted: false })
    }

    /// The images of all containers, before the first one is made. The name of one that came from
    /// its parts tells its bytes, and it is mostly loaded ahead: for a container alone it is looked
    /// for only if the engine says that it lacks it. Others may be pulled, or made for another
    /// machine.
    async fn images(&self, payload: &ContainerPayload, log: &Log) -> Result<(), End> {
        for container in payload.containers() {
            let is_of_parts = load::platform(&container.image)?.is_some();
            if !is_of_parts || payload.is_group() {
                self.image_or_stop(container, log).await?;
            }
        }
        Ok(())
    }

    /// Waits until it may make and start a container, unless it shall end before.
    pub(super) async fn permit(&self) -> Result<SemaphorePermit<'_>, End> {
        tokio::select! {
            biased;
            () = self.instance.stopping.cancelled() => Err(End::Stop),
            // It is never closed.
            permit = self.shared.starts.acquire() => permit.map_err(|_| End::Stop),
        }
    }

    /// Makes sure that the engine has an image, unless the instance shall end meanwhile.
    async fn image_or_stop(&self, container: &Container, log: &Log) -> Result<(), End> {
        tokio::select! {
            biased;
            () = self.instance.stopping.cancelled() => Err(End::Stop),
            ready = self.image(container, log) => Ok(ready?),
            never = self.tell_later(image_hint(container)) => never,
        }
    }

    /// Makes a container, and gives the engine's id for it. From here on the calls are not cut
    /// short: the engine may have done what it was asked.
    pub(super) async fn make<'a>(
        &'a self,
        payload: &ContainerPayload,
        part: Part<'_>,
        mut permit: SemaphorePermit<'a>,
        log: &Log,
    ) -> Result<(String, SemaphorePermit<'a>), End> {
        let is_of_parts = load::platform(&part.container.image)?.is_some();
        let made = match self.create(payload, part).await {
            Err(error) if is_of_parts && error.no_such_image() => {
                // Others start while it is loaded.
                drop(permit);
                self.image_or_stop(part.container, log).await?;
                permit = self.permit().await?;
                self.create(payload, part).await
            }
            made => made,
        };
        let engine = self.shared.engine.name();
        let id = made.map_err(|error| failure(engine, Step::Create, &error))?;
        Ok((id, permit))
    }

    async fn create(
        &self,
        payload: &ContainerPayload,
        part: Part<'_>,
    ) -> Result<String, CallError> {
        let (shared, launch) = (&self.shared, &self.instance.launch);
        let given = shared.given.as_deref();
        let body = create::body(&shared.engine, &shared.config, given, launch, payload, part);
        let name = create::name(&shared.config.owner, &launch.id, part.other(payload));
        match shared.engine.create(&name, body.clone()).await {
            // The name belongs to somebody else: nothing depends on it.
            Err(error) if is_name_taken(&error) => {
                shared.engine.create(&format!("{name}-{}", unique()), body).await
            }
            made => made,
        }
    }

    /// Copies the output of a container.
    pub(super) fn follow(&self, name: &str, id: &str, is_fresh: bool, log: &Log) -> Follower {
        let is_group = self.payload().is_ok_and(ContainerPayload::is_group);
        let tag = if is_group { logs::tag(name) } else { String::new() };
        let copying = logs::follow(
            self.shared.engine.clone(),
            id.to_owned(),
            self.instance.launch.id.clone(),
            self.shared.logs.clone(),
            log.clone(),
            tag,
            is_fresh,
        );
        Follower::of(copying)
    }

    /// Tells people what the start waits for, if it still does after a while. Never returns.
    pub(super) async fn tell_later<T>(&self, reason: String) -> T {
        sleep(TELL_AFTER).await;
        self.instance.status.waiting(reason);
        std::future::pending().await
    }

    /// Watches over the containers that were started, until one ends or all shall end.
    async fn hold(&self, up: &Up, log: &Log) -> End {
        let instance = &self.instance;
        // The starts whose endpoint is reported, and those of the first look.
        let (mut reported, mut first) = (None, None);
        // A container that was found running has shown before that it does not end at once.
        let settle = if up.is_adopted { Duration::ZERO } else { self.shared.config.settle };
        let settled_at = Instant::now() + settle;
        loop {
            let found = match self.look(up).await {
                Ok(found) => found,
                Err(Some(failure)) => return failure.into(),
                // Nothing is known of it, so nothing changes.
                Err(None) => tokio::select! {
                    () = instance.stopping.cancelled() => return End::Stop,
                    () = sleep(ENGINE_AGAIN_AFTER) => continue,
                },
            };
            if let Some(end) = self.ended(up, &found) {
                return end;
            }
            if found.iter().any(|one| one.phase() == Phase::Alive && one.is_paused()) {
                instance.status.paused("paused in the engine");
                reported = None;
                tokio::select! {
                    () = instance.stopping.cancelled() => return End::Stop,
                    () = instance.wake.notified() => continue,
                    () = sleep(PAUSED_AGAIN_AFTER) => continue,
                }
            }
            if !instance.knows_probes() {
                let image = up.main(&found).and_then(|main| main.image.as_deref());
                match healthcheck::of_image(&self.shared, image).await {
                    Ok(probes) => instance.set_probes(probes),
                    // Without an answer it is not known whether it is well.
                    Err(_) => tokio::select! {
                        () = instance.stopping.cancelled() => return End::Stop,
                        () = sleep(ENGINE_AGAIN_AFTER) => continue,
                    },
                }
            }
            let started = starts(&found);
            let first = first.get_or_insert_with(|| started.clone());
            if let Some(failure) = self.was_restarted(up, first, &started) {
                return failure.into();
            }
            if reported.as_ref() == Some(&started) {
                tokio::select! {
                    () = instance.stopping.cancelled() => return End::Stop,
                    () = instance.wake.notified() => continue,
                }
            }
            instance.status.up();
            let Some(reached) = found.first() else { return End::Stop };
            tokio::select! {
                () = instance.stopping.cancelled() => return End::Stop,
                // Before it listens it may end.
                () = self.changed(up, &found) => {}
                ready = self.endpoint(reached, settled_at, log) => if let Ok(endpoint) = ready {
                    instance.status.running(endpoint);
                    reported = Some(started);
                },
            }
        }
    }

    /// The containers as the engine shows them now. An error: one is gone, or the engine does not
    /// answer.
    async fn look(&self, up: &Up) -> Result<Vec<Inspected>, Option<Failure>> {
        let mut all = Vec::with_capacity(up.running.len());
        for one in &up.running {
            match self.shared.engine.inspect(&one.id).await {
                Ok(found) => all.push(found),
                Err(error) if error.no_such_container() => {
                    let its = self.its(&one.name);
                    let its = if its.is_empty() { "its container " } else { &its };
                    let reason = format!("{its}was removed from outside");
                    return Err(Some(Failure::passing(reason)));
                }
                Err(_) => return Err(None),
            }
        }
        Ok(all)
    }

    /// Waits until the engine shows another state than that which was found: the events of their
    /// own starts change nothing.
    async fn changed(&self, up: &Up, found: &[Inspected]) {
        // Those of a job end one after the other.
        let goes_on = |one: &Inspected| one.phase() == Phase::Alive && !one.is_paused();
        let state = |all: &[Inspected]| (starts(all), all.iter().map(goes_on).collect::<Vec<_>>());
        let before = state(found);
        loop {
            self.instance.wake.notified().await;
            match self.look(up).await {
                Ok(all) if state(&all) == before => {}
                _ => return,
            }
        }
    }

    /// Waits until the container takes requests; if it takes none, until it has settled. An error:
    /// it has no address yet.
    async fn endpoint(
        &self,
        found: &Inspected,
        settled_at: Instant,
        log: &Log,
    ) -> Result<Option<Endpoint>, ()> {
        let Ok(payload) = self.payload() else { return Err(()) };
        let Some(port) = payload.http() else {
            sleep_until(settled_at).await;
            return Ok(None);
        };
        let doors = Doors::of(payload.container.network, port, found, self.shared.engine.rootless);
        if doors.is_empty() {
            sleep(ADDRESS_AGAIN_AFTER).await;
            return Err(());
        }
        let reason = format!(
            "nothing listens on port {port} yet; it must listen on all addresses, not only on \
             127.0.0.1"
        );
        let hint = async {
            sleep(HINT_AFTER).await;
            log.say(LogStream::System, &reason);
            std::future::pending().await
        };
        let address = tokio::select! {
            address = doors.listening() => address,
            never = self.tell_later(reason.clone()) => never,
            never = hint => never,
        };
        Ok(Some(Endpoint::Tcp(address)))
    }

    /// Reports the end after the last lines. The containers stay until the instance is stopped or
    /// started again: if this program ends first, the next one learns the end from them.
    async fn done(&self, code: i32, followers: Vec<Follower>, log: &Log) {
        self.end_sidecars().await;
        finish(followers).await;
        let lines = log.last_words().await;
        log.say(LogStream::System, &format!("exited with code {code}"));
        log.close().await;
        self.instance.status.done(code, lines);
    }

    /// Reports the failure after the last lines, and removes the containers.
    async fn fail(&self, failure: Failure, followers: Vec<Follower>, log: &Log) {
        // Those that go on beside the one that ended.
        self.end_rest().await;
        finish(followers).await;
        log.say(LogStream::System, &failure.reason);
        log.flush().await;
        self.instance.status.failed(failure.reason, failure.retryable);
        // A container that cannot be removed now is found at a later look at the list.
        let _ = self.shared.clear(&self.instance.launch.id, self.instance.grace.subscribe()).await;
    }

    /// Ends and removes the containers. Tries as often as it is asked to.
    async fn take_down(&self, followers: Vec<Follower>, log: &Log) {
        let (shared, instance) = (&self.shared, &self.instance);
        let id = &instance.launch.id;
        let mut followers = followers;
        loop {
            instance.asked.notified().await;
            let result = self.try_to_take_down(&mut followers).await;
            let Err(error) = result else { break };
            instance.refusals.send_replace(error.to_string());
        }
        log.say(LogStream::System, "stopped");
        log.close().await;
        shared.forget(instance);
        instance.status.stopped();
        tracing::debug!(%id, "stopped");
    }

    async fn try_to_take_down(&self, followers: &mut Vec<Follower>) -> Result<(), DeviceError> {
        let (shared, instance) = (&self.shared, &self.instance);
        let id = &instance.launch.id;
        let failed = |error| shared.device_error(format!("stopping {id}"), error);
        if !instance.containers().is_empty() {
            self.end_own(instance.grace.subscribe()).await.map_err(failed)?;
            finish(std::mem::take(followers)).await;
        }
        // All that the engine has: a create whose answer was lost is among it.
        shared.clear(id, instance.grace.subscribe()).await?;
        let names = self.payload().map(|it| it.scratch().map(str::to_owned).collect());
        volumes::remove_scratch(shared, id, names.ok()).await.map_err(failed)
    }
}

impl Up {
    /// The main one of those that were looked at.
    fn main<'a>(&self, found: &'a [Inspected]) -> Option<&'a Inspected> {
        let apps = self.running.iter().zip(found).filter(|(one, _)| one.role == Role::App);
        apps.map(|(_, found)| found).next()
    }
}

/// The times at which containers were started.
fn starts(found: &[Inspected]) -> Vec<String> {
    found.iter().map(|one| one.started_at().unwrap_or_default().to_owned()).collect()
}

/// Waits for the last lines of containers that have ended.
async fn finish(followers: Vec<Follower>) {
    futures::future::join_all(followers.into_iter().map(Follower::finish)).await;
}

/// The reason why a start takes long while its image is not there.
fn image_hint(container: &Container) -> String {
    let reference = &container.image.reference;
    match (container.image.platforms.is_empty(), container.image.pull) {
        (false, _) => "its image is being loaded into the engine".to_owned(),
        (true, PullPolicy::Missing | PullPolicy::Always) => {
            format!("the engine is pulling its image {reference}")
        }
        (true, PullPolicy::Never) => format!("the engine is looking for its image {reference}"),
    }
}

fn is_name_taken(error: &CallError) -> bool {
    matches!(error, CallError::Refused { message, .. } if message.contains("already in use"))
}

/// A text that no other name of this process has.
pub(super) fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
