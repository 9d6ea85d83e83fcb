//! The containers of one instance: their start, one after the other, and what the end of each means
//! for all.
//!
//! **The first one that stays has the network**, and the others join it: a sidecar, if there is
//! one, or else the main one. Init containers before it have networks of their own. An engine takes
//! a network away with its container, so a group is only ever started anew as a whole.

use std::time::Duration;

use shoal_protocol::model::spec::{Container, NetworkMode, Role};
use tokio::sync::{SemaphorePermit, watch};
use tokio::time::sleep;

use super::create::{self, Part};
use super::death;
use super::engine::{CONTAINER, LAUNCH};
use super::forms::{Inspected, Listed, Phase};
use super::given_files;
use super::life::{End, Life, Running, Up};
use super::logs::{self, Follower};
use super::refusal::{CallError, Failure, Step, failure};
use super::removal;
use crate::logs::{Log, LogStream};
use crate::model::ContainerPayload;

/// Pause before an init container is looked at again, if no event says that it has ended.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// The grace of containers beside one that ended, where they name none: that of a stop.
const GRACE: Duration = Duration::from_secs(5);

impl Life {
    /// The containers of the launch among those that were found, if they are all there, as they
    /// were started: none of a group that lacks one, or whose network was started anew.
    pub(super) async fn whole(
        &self,
        payload: &ContainerPayload,
        found: &[Listed],
        is_first: bool,
    ) -> Result<Option<Vec<Running>>, CallError> {
        let launch = &self.instance.launch;
        if given_files::hooks_ran(self.shared.given.as_deref(), &launch.id) {
            return Ok(None);
        }
        let is_group = payload.is_group();
        let is_it = |one: &&Listed, container: &Container| {
            let may_have_ended = is_first && launch.ends;
            let is_there =
                one.phase() == Phase::Alive || (may_have_ended && one.phase() == Phase::Ended);
            let is_named = !is_group || one.label(CONTAINER) == Some(&container.name);
            is_there && is_named && one.label(LAUNCH) == Some(&self.instance.hash)
        };
        let mut all: Vec<(Running, &Listed)> = Vec::new();
        for container in payload.in_order() {
            let (name, role) = (container.name.clone(), container.member.role);
            if role == Role::Init {
                continue;
            }
            let Some(one) = found.iter().find(|one| is_it(one, container)) else {
                return Ok(None);
            };
            all.push((Running { name, role, id: one.id.clone() }, one));
        }
        if is_group && !self.share_a_network(payload, &all).await? {
            return Ok(None);
        }
        Ok(Some(all.into_iter().map(|(running, _)| running).collect()))
    }

    /// Whether the network of a group is still the one that its containers joined.
    async fn share_a_network(
        &self,
        payload: &ContainerPayload,
        all: &[(Running, &Listed)],
    ) -> Result<bool, CallError> {
        if payload.container.network == NetworkMode::Host {
            return Ok(true);
        }
        let mut first: Option<String> = None;
        for (running, listed) in all {
            if listed.phase() != Phase::Alive {
                continue;
            }
            let found = match self.shared.engine.inspect(&running.id).await {
                Err(error) if error.no_such_container() => return Ok(false),
                found => found?,
            };
            let started = instant(found.started_at().unwrap_or_default());
            match &first {
                // Later than one that joined it: it was started again.
                Some(first) if started < *first => return Ok(false),
                Some(_) => {}
                None => first = Some(started),
            }
        }
        Ok(true)
    }

    /// Makes and starts all containers in their order. Init containers are waited for and removed.
    pub(super) async fn start_all<'a>(
        &'a self,
        payload: &ContainerPayload,
        mut permit: SemaphorePermit<'a>,
        followers: &mut Vec<Follower>,
        log: &Log,
    ) -> Result<Vec<Running>, End> {
        let (engine, instance) = (&self.shared.engine, &self.instance);
        if payload.is_group() {
            log.say(LogStream::System, logs::BEGUN);
        }
        let mut all: Vec<Running> = Vec::new();
        for (order, container) in payload.in_order().into_iter().enumerate() {
            let (name, role) = (container.name.clone(), container.member.role);
            let network = all.first().map(|first| first.id.clone());
            let joins = network.filter(|_| container.network != NetworkMode::Host);
            let part = Part { container, order, joins: joins.as_deref() };
            let id;
            (id, permit) = self.make(payload, part, permit, log).await?;
            if role != Role::Init {
                instance.set_container(&name, &id);
            }
            if instance.stopping.is_cancelled() {
                return Err(End::Stop);
            }
            let hooks = &container.hooks.post_start;
            if !hooks.is_empty() {
                given_files::note_hooks(self.shared.given.as_deref(), &instance.launch.id, true);
            }
            let started = engine.start(&id).await;
            started.map_err(|error| {
                let failed = failure(engine.name(), Step::Start, &error);
                Failure { reason: format!("{}{}", self.its(&name), failed.reason), ..failed }
            })?;
            let follower = self.follow(&name, &id, true, log);
            if role == Role::Init {
                // Others start while it runs.
                drop(permit);
                let ended = self.until_end(&name, &id).await;
                follower.finish().await;
                ended?;
                let gone = removal::remove(engine, &id).await;
                gone.map_err(|error| Failure::passing(format!("{}: {error}", engine.name())))?;
                permit = self.permit().await?;
                continue;
            }
            followers.push(follower);
            if !hooks.is_empty() {
                // As above.
                drop(permit);
                self.post_start(container, &id).await?;
                permit = self.permit().await?;
            }
            all.push(Running { name, role, id });
        }
        given_files::note_hooks(self.shared.given.as_deref(), &instance.launch.id, false);
        Ok(all)
    }

    /// Waits until an init container has succeeded.
    async fn until_end(&self, name: &str, id: &str) -> Result<(), End> {
        let looks = async {
            loop {
                match self.shared.engine.inspect(id).await {
                    Ok(found) if found.phase() == Phase::Alive => {}
                    Ok(found) => return self.init_ended(name, &found),
                    Err(error) if error.no_such_container() => {
                        let reason =
                            format!("its init container `{name}` was removed from outside");
                        return Err(Failure::passing(reason));
                    }
                    // Nothing is known of it, so nothing changes.
                    Err(_) => {}
                }
                tokio::select! {
                    () = self.instance.wake.notified() => {}
                    () = sleep(LOOK_AGAIN_AFTER) => {}
                }
            }
        };
        tokio::select! {
            biased;
            () = self.instance.stopping.cancelled() => Err(End::Stop),
            ended = looks => Ok(ended?),
            never = self.tell_later(format!("its init container `{name}` runs")) => never,
        }
    }

    fn init_ended(&self, name: &str, found: &Inspected) -> Result<(), Failure> {
        let (is_podman, was_ordered) = (self.shared.engine.is_podman, self.instance.was_ordered());
        match death::exit_code(found, is_podman, was_ordered) {
            Some(0) => Ok(()),
            _ => {
                let why = self.reason(name, found);
                Err(Failure::passing(format!("its init container `{name}` {why}")))
            }
        }
    }

    /// The end of all, if the end of some means that.
    pub(super) fn ended(&self, up: &Up, found: &[Inspected]) -> Option<End> {
        let ends = self.instance.launch.ends;
        let (is_podman, was_ordered) = (self.shared.engine.is_podman, self.instance.was_ordered());
        // Those of a job, which goes on until the last one has ended, and a sidecar that may have
        // ended after them.
        let (mut codes, mut sidecar) = (Vec::new(), None);
        for (one, found) in up.running.iter().zip(found) {
            if found.phase() == Phase::Alive {
                continue;
            }
            let code = death::exit_code(found, is_podman, was_ordered);
            match (code.filter(|_| ends), one.role) {
                (Some(code), Role::App) => codes.push(code),
                (_, Role::Sidecar) if ends => {
                    sidecar.get_or_insert((one, found));
                }
                _ => return Some(self.ended_early(one, found)),
            }
        }
        let apps = up.running.iter().filter(|one| one.role == Role::App).count();
        if codes.len() == apps {
            return Some(End::Done(codes.into_iter().find(|code| *code != 0).unwrap_or(0)));
        }
        sidecar.map(|(one, found)| self.ended_early(one, found))
    }

    fn ended_early(&self, one: &Running, found: &Inspected) -> End {
        let reason = self.reason(&one.name, found);
        Failure::passing(format!("{}{reason}", self.its(&one.name))).into()
    }

    /// The reason of a container's end, as a predicate.
    pub(super) fn reason(&self, name: &str, found: &Inspected) -> String {
        let (is_podman, was_ordered) = (self.shared.engine.is_podman, self.instance.was_ordered());
        let launch = &self.instance.launch;
        let container = self.payload().ok().and_then(|payload| {
            let mut all = payload.containers();
            all.find(|it| it.name == name)
        });
        let memory = container.map_or(launch.memory, |it| create::memory(launch, it));
        death::reason(found, memory, is_podman, was_ordered)
    }

    /// The subject of a sentence about a container; nothing for one that is alone.
    pub(super) fn its(&self, name: &str) -> String {
        match self.is_group() {
            true => format!("its container `{name}` "),
            false => String::new(),
        }
    }

    fn is_group(&self) -> bool {
        self.payload().is_ok_and(ContainerPayload::is_group)
    }

    /// A container of a group that was started again from outside: if the others joined its
    /// network, they have lost it.
    pub(super) fn was_restarted(
        &self,
        up: &Up,
        first: &[String],
        now: &[String],
    ) -> Option<Failure> {
        let mut starts = up.running.iter().zip(first.iter().zip(now));
        let (one, _) = starts.find(|(_, (first, now))| first != now)?;
        let reason = format!("its container `{}` was started again from outside", one.name);
        self.is_group().then(|| Failure::passing(reason))
    }

    /// The grace that a container names itself.
    pub(super) fn grace_of(&self, payload: &ContainerPayload, one: &Listed) -> Option<Duration> {
        let name = one.label(CONTAINER).unwrap_or(&payload.container.name);
        payload.containers().find(|it| it.name == name)?.stop_grace
    }

    /// Ends all containers, within a grace that they share.
    pub(super) async fn end_own(
        &self,
        grace: watch::Receiver<Option<Duration>>,
    ) -> Result<(), CallError> {
        let (shared, instance) = (&self.shared, &self.instance);
        let Ok(payload) = self.payload() else { return Ok(()) };
        if let (false, Some(id)) = (payload.is_group(), instance.container()) {
            return removal::end(&shared.engine, &id, payload.container.stop_grace, grace).await;
        }
        let all = shared.list(Some(&instance.launch.id)).await?;
        removal::end_all(&shared.engine, &all, |one| self.grace_of(payload, one), grace).await
    }

    /// Ends those of a group that go on after one of them failed.
    pub(super) async fn end_rest(&self) {
        self.end_those(|_| true).await;
    }

    /// Ends the sidecars of a job that is done.
    pub(super) async fn end_sidecars(&self) {
        self.end_those(Listed::is_beside).await;
    }

    async fn end_those(&self, which: impl Fn(&Listed) -> bool) {
        let (shared, instance) = (&self.shared, &self.instance);
        let Ok(payload) = self.payload() else { return };
        if !payload.is_group() {
            return;
        }
        // Where the engine does not answer, they are found at a later look at its list.
        let Ok(mut all) = shared.list(Some(&instance.launch.id)).await else { return };
        all.retain(which);
        let own = |one: &Listed| Some(self.grace_of(payload, one).unwrap_or(GRACE));
        let grace = instance.grace.subscribe();
        let _ = removal::end_all(&shared.engine, &all, own, grace).await;
    }
}

/// An instant of an engine in a form that can be compared with others of the same engine: it leaves
/// zeros at the end away.
fn instant(text: &str) -> String {
    let (seconds, rest) = text.split_at_checked(19).unwrap_or((text, ""));
    let fraction = rest.strip_prefix('.').unwrap_or_default();
    let fraction: String = fraction.chars().take_while(char::is_ascii_digit).collect();
    format!("{seconds}.{fraction:0<9}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_compared_with_their_fractions() {
        let order = [
            "2026-11-30T20:00:00Z",
            "2026-11-30T20:00:00.09Z",
            "2026-11-30T20:00:00.1+00:00",
            "2026-11-30T20:00:00.123456789Z",
            "2026-11-30T20:00:01Z",
        ];
        let read = order.map(instant);
        assert!(read.is_sorted(), "{read:?}");
        assert_eq!(instant(""), ".000000000");
    }
}
