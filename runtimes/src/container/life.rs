//! The task that carries one instance from its start to its end. **It alone changes the instance's
//! container**, and what the engine shows counts, never what an event says.
//!
//! ```text
//! previous life ends -> adopt, or: image, create, start -> listens? -> Running -> ended by itself
//!                                                                        |            -> Failed,
//!                                                                        |               or Done
//!                                                                        +- asked to stop
//!                                                                             -> Stopped
//! ```

use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::model::spec::{Container, PullPolicy};
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until};

use super::engine::LAUNCH;
use super::forms::{Inspected, Phase};
use super::instance::Instance;
use super::logs::Follower;

use super::refusal::{CallError, Failure, Step, failure};
use super::shared::Shared;
use super::{create, death, given_files, healthcheck, image, load, logs, needs, removal, volumes};
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
enum End {
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

/// The container that was made or found.
struct Up {
    id: String,
    is_adopted: bool,
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
        let mut follower = None;
        let end = match self.bring_up(is_first, &log).await {
            Ok(up) => {
                follower = Some(self.follow(&up, &log));
                self.hold(&up, &log).await
            }
            Err(end) => end,
        };
        match end {
            End::Failed(failure) => self.fail(failure, follower, &log).await,
            End::Done(code) => self.done(code, follower, &log).await,
            End::Stop => self.take_down(follower, &log).await,
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

    fn payload(&self) -> Result<&ContainerPayload, Failure> {
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

    /// Finds the container that runs already, or makes and starts one. One that came to its end
    /// while this program was away is found by the first life only: a later one is another try.
    async fn bring_up(&self, is_first: bool, log: &Log) -> Result<Up, End> {
        let (shared, instance) = (&self.shared, &self.instance);
        let (engine, launch) = (&shared.engine, &instance.launch);
        let payload = self.payload()?;
        if instance.stopping.is_cancelled() {
            return Err(End::Stop);
        }
        let unasked = |error: CallError| Failure::passing(format!("{}: {error}", engine.name()));
        let found = shared.list(Some(&launch.id)).await.map_err(unasked)?;
        let is_it = |one: &&super::forms::Listed| {
            let is_there = one.phase() == Phase::Alive
                || (is_first && launch.ends && one.phase() == Phase::Ended);
            is_there && one.label(LAUNCH) == Some(&instance.hash)
        };
        let adopted = found.iter().find(is_it).map(|one| one.id.clone());
        for other in found.iter().filter(|one| Some(&one.id) != adopted.as_ref()) {
            let own = payload.container.stop_grace;
            removal::end_and_remove(engine, &other.id, own, instance.grace.subscribe())
                .await
                .map_err(unasked)?;
        }
        if let Some(id) = adopted {
            instance.set_container(&id);
            log.say(LogStream::System, "found again");
            return Ok(Up { id, is_adopted: true });
        }
        needs::check(payload, &shared.config.allowed).await?;
        // The name of an image that came from its parts tells its bytes, and it is mostly loaded
        // ahead: it is looked for only if the engine says that it lacks it. Others may be pulled,
        // or made for another machine.
        let is_of_parts = load::platform(&payload.container.image)?.is_some();
        if !is_of_parts {
            self.image_or_stop(payload, log).await?;
        }
        let mut permit = self.permit().await?;
        for key in payload.kept() {
            volumes::ensure(shared, key).await?;
        }
        given_files::write(shared.given.as_deref(), launch, payload)?;
        // From here on the calls are not cut short: the engine may have done what it was asked.
        let made = match self.create(payload).await {
            Err(error) if is_of_parts && error.no_such_image() => {
                // Others start while it is loaded.
                drop(permit);
                self.image_or_stop(payload, log).await?;
                permit = self.permit().await?;
                self.create(payload).await
            }
            made => made,
        };
        let refused = |step: Step| move |error: CallError| failure(engine.name(), step, &error);
        let id = made.map_err(refused(Step::Create))?;
        instance.set_container(&id);
        if instance.stopping.is_cancelled() {
            return Err(End::Stop);
        }
        engine.start(&id).await.map_err(refused(Step::Start))?;
        drop(permit);
        log.say(LogStream::System, logs::STARTED);
        Ok(Up { id, is_adopted: false })
    }

    /// Waits until it may make and start its container, unless it shall end before.
    async fn permit(&self) -> Result<SemaphorePermit<'_>, End> {
        tokio::select! {
            biased;
            () = self.instance.stopping.cancelled() => Err(End::Stop),
            // It is never closed.
            permit = self.shared.starts.acquire() => permit.map_err(|_| End::Stop),
        }
    }

    /// Makes sure that the engine has the image, unless the instance shall end meanwhile.
    async fn image_or_stop(&self, payload: &ContainerPayload, log: &Log) -> Result<(), End> {
        tokio::select! {
            biased;
            () = self.instance.stopping.cancelled() => Err(End::Stop),
            ready = self.image(&payload.container, log) => Ok(ready?),
            never = self.tell_later(image_hint(&payload.container)) => never,
        }
    }

    /// Makes the container, and gives the engine's id for it.
    async fn create(&self, payload: &ContainerPayload) -> Result<String, CallError> {
        let (shared, launch) = (&self.shared, &self.instance.launch);
        let given = shared.given.as_deref();
        let body = create::body(&shared.engine, &shared.config, given, launch, payload);
        let name = create::name(&shared.config.owner, &launch.id);
        match shared.engine.create(&name, body.clone()).await {
            // The name belongs to somebody else: nothing depends on it.
            Err(error) if is_name_taken(&error) => {
                shared.engine.create(&format!("{name}-{}", unique()), body).await
            }
            made => made,
        }
    }

    fn follow(&self, up: &Up, log: &Log) -> Follower {
        let copying = logs::follow(
            self.shared.engine.clone(),
            up.id.clone(),
            self.instance.launch.id.clone(),
            self.shared.logs.clone(),
            log.clone(),
            !up.is_adopted,
        );
        Follower::of(copying)
    }

    /// Tells people what the start waits for, if it still does after a while. Never returns.
    async fn tell_later<T>(&self, reason: String) -> T {
        sleep(TELL_AFTER).await;
        self.instance.status.waiting(reason);
        std::future::pending().await
    }

    /// Watches over a container that was started, until it ends or shall end.
    async fn hold(&self, up: &Up, log: &Log) -> End {
        let instance = &self.instance;
        // The start whose endpoint is reported.
        let mut reported = None;
        // A container that was found running has shown before that it does not end at once.
        let settle = if up.is_adopted { Duration::ZERO } else { self.shared.config.settle };
        let settled_at = Instant::now() + settle;
        loop {
            let found = match self.shared.engine.inspect(&up.id).await {
                Ok(found) => found,
                Err(error) if error.no_such_container() => {
                    return Failure::passing("its container was removed from outside").into();
                }
                Err(_) => {
                    // Nothing is known of it, so nothing changes.
                    tokio::select! {
                        () = instance.stopping.cancelled() => return End::Stop,
                        () = sleep(ENGINE_AGAIN_AFTER) => continue,
                    }
                }
            };
            if found.phase() != Phase::Alive {
                return self.ended(&found);
            }
            if found.is_paused() {
                instance.status.paused("paused in the engine");
                reported = None;
                tokio::select! {
                    () = instance.stopping.cancelled() => return End::Stop,
                    () = instance.wake.notified() => continue,
                    () = sleep(PAUSED_AGAIN_AFTER) => continue,
                }
            }
            if !instance.knows_probes() {
                match healthcheck::of_image(&self.shared, found.image.as_deref()).await {
                    Ok(probes) => instance.set_probes(probes),
                    // Without an answer it is not known whether it is well.
                    Err(_) => tokio::select! {
                        () = instance.stopping.cancelled() => return End::Stop,
                        () = sleep(ENGINE_AGAIN_AFTER) => continue,
                    },
                }
            }
            let started = found.started_at().unwrap_or_default().to_owned();
            if reported.as_ref() == Some(&started) {
                tokio::select! {
                    () = instance.stopping.cancelled() => return End::Stop,
                    () = instance.wake.notified() => continue,
                }
            }
            instance.status.up();
            tokio::select! {
                () = instance.stopping.cancelled() => return End::Stop,
                // Before it listens it may end.
                () = self.changed(up, &started) => {}
                ready = self.endpoint(&found, settled_at, log) => if let Ok(endpoint) = ready {
                    instance.status.running(endpoint);
                    reported = Some(started);
                },
            }
        }
    }

    /// Waits until the engine shows another state of a running container than one that goes on
    /// since `started`: the event of its own start changes nothing.
    async fn changed(&self, up: &Up, started: &str) {
        loop {
            self.instance.wake.notified().await;
            match self.shared.engine.inspect(&up.id).await {
                Ok(found) if found.phase() == Phase::Alive && !found.is_paused() => {
                    if found.started_at().unwrap_or_default() != started {
                        return;
                    }
                }
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
        let Some(port) = payload.container.http else {
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

    /// The end of a container that ended by itself.
    fn ended(&self, found: &Inspected) -> End {
        let launch = &self.instance.launch;
        let memory = self
            .payload()
            .map_or(launch.memory, |payload| create::memory(launch, &payload.container));
        let (is_podman, was_ordered) = (self.shared.engine.is_podman, self.instance.was_ordered());
        match death::exit_code(found, is_podman, was_ordered).filter(|_| launch.ends) {
            Some(code) => End::Done(code),
            None => Failure::passing(death::reason(found, memory, is_podman, was_ordered)).into(),
        }
    }

    /// Reports the end after the container's last lines. The container stays until the instance is
    /// stopped or started again: if this program ends first, the next one learns the end from it.
    async fn done(&self, code: i32, follower: Option<Follower>, log: &Log) {
        if let Some(follower) = follower {
            follower.finish().await;
        }
        let lines = log.last_words().await;
        log.say(LogStream::System, &format!("exited with code {code}"));
        log.close().await;
        self.instance.status.done(code, lines);
    }

    /// Reports the failure after the container's last lines, and removes the container.
    async fn fail(&self, failure: Failure, follower: Option<Follower>, log: &Log) {
        if let Some(follower) = follower {
            follower.finish().await;
        }
        log.say(LogStream::System, &failure.reason);
        log.flush().await;
        self.instance.status.failed(failure.reason, failure.retryable);
        // A container that cannot be removed now is found at a later look at the list.
        let _ = self.shared.clear(&self.instance.launch.id, self.instance.grace.subscribe()).await;
    }

    /// Ends and removes the container. Tries as often as it is asked to.
    async fn take_down(&self, follower: Option<Follower>, log: &Log) {
        let (shared, instance) = (&self.shared, &self.instance);
        let id = &instance.launch.id;
        let mut follower = follower;
        loop {
            instance.asked.notified().await;
            let result = self.try_to_take_down(&mut follower).await;
            let Err(error) = result else { break };
            instance.refusals.send_replace(error.to_string());
        }
        log.say(LogStream::System, "stopped");
        log.close().await;
        shared.forget(instance);
        instance.status.stopped();
        tracing::debug!(%id, "stopped");
    }

    async fn try_to_take_down(&self, follower: &mut Option<Follower>) -> Result<(), DeviceError> {
        let (shared, instance) = (&self.shared, &self.instance);
        let id = &instance.launch.id;
        let own = self.payload().ok().and_then(|payload| payload.container.stop_grace);
        if let Some(container) = instance.container() {
            let ended =
                removal::end(&shared.engine, &container, own, instance.grace.subscribe()).await;
            ended.map_err(|error| shared.device_error(format!("stopping {id}"), error))?;
            if let Some(follower) = follower.take() {
                follower.finish().await;
            }
        }
        // All that the engine has: a create whose answer was lost is among it.
        shared.clear(id, instance.grace.subscribe()).await
    }
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
