//! Keeps the instances true to the engine: its events, a look at its list every ten seconds, and
//! one after every end of the event stream. **An event only says where to look**: repeated, late
//! and lost ones change nothing.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use shoal_protocol::model::InstanceState;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::engine::INSTANCE;
use super::forms::{Event, Listed, Phase};
use super::instance::Instance;
use super::refusal::CallError;
use super::shared::Shared;
use super::{removal, volumes};
use crate::model::InstanceId;

/// Time between two looks at the whole list.
const LIST_EVERY: Duration = Duration::from_secs(10);
/// Pause before an engine that is gone is asked again.
const ENGINE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Events after which a container may be in another state.
const TELLING: &[&str] = &[
    "die", "died", "start", "restart", "stop", "kill", "oom", "destroy", "remove", "pause",
    "unpause",
];
/// Events of an order to end a container, or to signal it.
const ORDERS: &[&str] = &["stop", "kill"];

/// Follows the engine until the adapter is dropped.
pub(super) async fn run(shared: Arc<Shared>) {
    let closed = shared.closed.clone();
    tokio::select! {
        biased;
        () = closed.cancelled() => {}
        () = follow(shared) => {}
    }
}

async fn follow(shared: Arc<Shared>) {
    loop {
        // The stream first, so that nothing happens unseen between the two.
        if let Ok(events) = shared.engine.events(&shared.config.owner).await
            && look(&shared).await
        {
            wake_all(&shared);
            until_end(&shared, std::pin::pin!(events)).await;
        }
        look(&shared).await;
        sleep(ENGINE_AGAIN_AFTER).await;
    }
}

/// Takes events until the stream or the engine ends.
async fn until_end(
    shared: &Shared,
    mut events: std::pin::Pin<&mut impl Stream<Item = Result<Event, CallError>>>,
) {
    let mut ticks = interval(LIST_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) => on_event(shared, &event),
                Some(Err(_)) | None => return,
            },
            _ = ticks.tick() => if !look(shared).await {
                return;
            },
        }
    }
}

fn on_event(shared: &Shared, event: &Event) {
    let action = event.action.as_deref().unwrap_or_default();
    if !TELLING.contains(&action) {
        return;
    }
    let Some(actor) = &event.actor else { return };
    let label = actor.attributes.as_ref().and_then(|attributes| attributes.get(INSTANCE));
    let instances = shared.lock();
    let instance = match label {
        Some(id) => instances.get(id.as_str()),
        None => instances
            .values()
            .find(|one| actor.id.as_ref().is_some_and(|id| one.containers().contains(id))),
    };
    if let Some(instance) = instance {
        if ORDERS.contains(&action) {
            instance.note_order();
        }
        instance.wake.notify_one();
    }
}

fn wake_all(shared: &Shared) {
    for instance in shared.lock().values() {
        instance.wake.notify_one();
    }
}

/// Compares the engine's list with the instances. Gives whether the engine answered.
async fn look(shared: &Shared) -> bool {
    let listed = shared.list(None).await;
    let error = listed.as_ref().err().map(ToString::to_string);
    let engine = &shared.engine;
    if engine.note(error.clone()) {
        match error {
            Some(error) => {
                tracing::warn!("{} is gone, containers may run on: {error}", engine.name());
            }
            None => tracing::info!("{} is back", engine.name()),
        }
    }
    let Ok(listed) = listed else { return false };
    wake_the_changed(shared, &listed);
    // An engine that answers for containers and not for volumes keeps those that are known.
    let _ = volumes::look(shared).await;
    let mut left: Vec<&Listed> =
        listed.iter().filter(|one| is_left_over(shared, one, &listed)).collect();
    // Podman removes none whose network another one has joined.
    left.sort_by_key(|one| Reverse(one.order()));
    for left in left {
        let grace = watch::Sender::new(Some(Duration::ZERO));
        // It is found again at the next look.
        let _ = removal::end_and_remove(engine, &left.id, None, grace.subscribe()).await;
    }
    true
}

/// Wakes the instances whose containers do not run, or are missing.
fn wake_the_changed(shared: &Shared, listed: &[Listed]) {
    for instance in shared.lock().values() {
        let runs = |container: &String| {
            let state = listed.iter().find(|one| one.id == *container).map(Listed::phase);
            state == Some(Phase::Alive)
        };
        if !instance.containers().iter().all(runs) {
            instance.wake.notify_one();
        }
    }
}

/// Whether nobody will ask for a container again: that of an instance that failed, whose removal
/// failed too, or one that does not run and that no instance has. One that runs waits for its
/// start to be repeated, or for a stop.
fn is_left_over(shared: &Shared, one: &Listed, all: &[Listed]) -> bool {
    let Some(id) = one.label(INSTANCE).and_then(|id| InstanceId::new(id).ok()) else {
        return false;
    };
    let instance = shared.lock().get(&id).cloned();
    // One that came to its end waits for the same: nobody may have heard how it ended.
    // So does a group of which one runs: its containers go together.
    let is_beside = |other: &Listed| {
        one.is_of_group()
            && other.label(INSTANCE) == one.label(INSTANCE)
            && other.phase() == Phase::Alive
    };
    let waits = one.is_done() || all.iter().any(is_beside);
    let runs = one.phase() == Phase::Alive || (instance.is_none() && waits);
    // A start that failed while the engine was away may not have seen its container yet.
    instance.map_or(!runs, |instance| {
        has_failed(&instance) && (!runs || instance.containers().contains(&one.id))
    })
}

/// Whether it failed and its task is over. One that came to its end keeps its container until it is
/// stopped or started again.
fn has_failed(instance: &Instance) -> bool {
    let failed =
        |state: InstanceState| state.ended() && !matches!(state, InstanceState::Done { .. });
    instance.ended.is_cancelled() && instance.status.state().is_some_and(failed)
}
