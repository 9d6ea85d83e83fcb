//! Ends and removes containers. Calls that come too late are successes: what counts is that nothing
//! is left.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::engine::{Engine, PRE_STOP};
use super::forms::{Listed, Phase};
use super::hooks;
use super::refusal::CallError;

/// Time for the engine to remove a container that it refuses to remove: another call may be doing
/// it, or the last program is being cleaned up.
const REMOVE_WITHIN: Duration = Duration::from_secs(30);
/// The least grace of a container that ends after others of its group.
const LEAST_GRACE: Duration = Duration::from_secs(1);
/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Ends a container and removes it. `own` is the container's own grace, which wins; without it a
/// smaller value in `grace` shortens the one that began.
pub(super) async fn end_and_remove(
    engine: &Engine,
    id: &str,
    own: Option<Duration>,
    grace: watch::Receiver<Option<Duration>>,
) -> Result<(), CallError> {
    end(engine, id, own, grace).await?;
    remove(engine, id).await
}

/// Ends all containers of an instance: those that joined the network of another one at once, then
/// that one; those that run beside the others come after them, the last started first. They share
/// the grace: each has what those before it left, and a second at least.
pub(super) async fn end_all(
    engine: &Engine,
    all: &[Listed],
    own: impl Fn(&Listed) -> Option<Duration>,
    grace: watch::Receiver<Option<Duration>>,
) -> Result<(), CallError> {
    let began = Instant::now();
    let network = all.iter().map(Listed::order).min();
    let stage = |one: &Listed| match one.is_beside() {
        true => (2, Reverse(one.order())),
        false => (u8::from(Some(one.order()) == network), Reverse(0)),
    };
    let mut stages: BTreeMap<_, Vec<&Listed>> = BTreeMap::new();
    for one in all {
        stages.entry(stage(one)).or_default().push(one);
    }
    let mut is_first = true;
    for stage in stages.values() {
        let ending = stage.iter().map(|one| {
            let asked = own(one);
            let asked = match is_first {
                true => asked,
                false => {
                    let most = asked.or(*grace.borrow()).unwrap_or_default();
                    let left = most.saturating_sub(began.elapsed());
                    Some(left.max(LEAST_GRACE).min(most))
                }
            };
            end(engine, &one.id, asked, grace.clone())
        });
        for ended in futures::future::join_all(ending).await {
            ended?;
        }
        is_first = false;
    }
    Ok(())
}

/// Ends and removes all containers of an instance. The one whose network others joined goes last:
/// Podman refuses to remove it before them.
pub(super) async fn end_and_remove_all(
    engine: &Engine,
    mut all: Vec<Listed>,
    own: impl Fn(&Listed) -> Option<Duration>,
    grace: watch::Receiver<Option<Duration>>,
) -> Result<(), CallError> {
    end_all(engine, &all, own, grace).await?;
    all.sort_by_key(|one| Reverse(one.order()));
    for one in &all {
        remove(engine, &one.id).await?;
    }
    Ok(())
}

/// Ends a container, if it runs.
pub(super) async fn end(
    engine: &Engine,
    id: &str,
    own: Option<Duration>,
    mut grace: watch::Receiver<Option<Duration>>,
) -> Result<(), CallError> {
    let found = match engine.inspect(id).await {
        Err(error) if error.no_such_container() => return Ok(()),
        found => found?,
    };
    if found.phase() != Phase::Alive {
        return Ok(());
    }
    if found.is_paused() {
        // Podman stops no paused container. If this fails, the stop says why.
        let _ = engine.unpause(id).await;
    }
    let began = Instant::now();
    let first = own.or(*grace.borrow_and_update()).unwrap_or_default();
    let killed = CancellationToken::new();
    let mut stop = std::pin::pin!(async {
        let hooks = hooks::of_label(found.label(PRE_STOP));
        if hooks.is_empty() {
            return engine.stop(id, first).await;
        }
        hooks::pre_stop(engine, id, &hooks, began + first, &killed).await;
        let left = first.saturating_sub(began.elapsed());
        engine.stop(id, left.max(LEAST_GRACE).min(first)).await
    });
    let shortened = async {
        if own.is_some() {
            std::future::pending::<()>().await;
        }
        let mut least = first;
        // A grace only gets smaller. Without a smaller one the engine keeps the time.
        let mut due = None;
        loop {
            tokio::select! {
                Ok(()) = grace.changed() => {
                    let asked = grace.borrow_and_update().unwrap_or_default();
                    if asked < least {
                        least = asked;
                        due = Some(began + least);
                    }
                }
                () = sleep_until(due.unwrap_or(began)), if due.is_some() => return,
                else => std::future::pending().await,
            }
        }
    };
    let stopped = tokio::select! {
        stopped = &mut stop => stopped,
        () = shortened => {
            // A second stop would wait for the first one on Podman. The kill may come too late.
            let _ = engine.kill(id).await;
            killed.cancel();
            stop.await
        }
    };
    match stopped {
        Ok(()) => Ok(()),
        Err(error) if error.is_of_engine() => Err(error),
        Err(error) => match engine.inspect(id).await {
            Ok(found) if found.phase() == Phase::Alive => Err(error),
            Ok(_) => Ok(()),
            Err(gone) if gone.no_such_container() => Ok(()),
            Err(error) => Err(error),
        },
    }
}

/// Removes a container that does not run, and returns when it is gone.
pub(super) async fn remove(engine: &Engine, id: &str) -> Result<(), CallError> {
    let deadline = Instant::now() + REMOVE_WITHIN;
    loop {
        let refused = match engine.remove(id).await {
            Ok(()) => return Ok(()),
            Err(error) if error.no_such_container() => return Ok(()),
            Err(error) if error.is_of_engine() => return Err(error),
            Err(error) => error,
        };
        // Somebody else removes it, or its end is being cleaned up.
        match engine.inspect(id).await {
            Err(error) if error.no_such_container() => return Ok(()),
            Err(error) => return Err(error),
            Ok(found) if found.phase() == Phase::Alive || Instant::now() > deadline => {
                return Err(refused);
            }
            Ok(_) => sleep(LOOK_EVERY).await,
        }
    }
}
