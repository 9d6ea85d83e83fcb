//! Streams: events as they come, and views whenever they change.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, stream};
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::view::{EventView, WorkloadView};
use tokio::sync::broadcast::{self, error::RecvError};

use super::{ApiError, Core, Service};

/// The shortest pause between two views, so that a burst of changes is one change to a person.
const MIN_PAUSE: Duration = Duration::from_millis(20);
/// The pause is this many times as long as the query took, so that one watcher takes a tenth of the
/// core's time at most, even with thousands of replicas.
const PAUSE_FACTOR: u32 = 10;
/// The longest pause, so that a person sees progress.
const MAX_PAUSE: Duration = Duration::from_millis(500);

impl Service {
    /// The events with a number above `since`, then new ones.
    pub fn events(&self, since: u64) -> Pin<Box<dyn Stream<Item = EventView> + Send>> {
        let (history, live) = self.core.events(since);
        let follower =
            Follower { core: self.core.clone(), last: since, history: history.into(), live };
        let events = stream::unfold(follower, |mut follower| async move {
            let event = follower.next().await?;
            Some((EventView::clone(&event), follower))
        });
        Box::pin(events)
    }

    /// Waits until all replicas of a workload are healthy.
    pub async fn healthy(&self, name: &WorkloadName) -> Result<WorkloadView, ApiError> {
        let (core, wanted) = (self.core.clone(), name.clone());
        let look = move || {
            let (core, name) = (core.clone(), wanted.clone());
            async move { core.workload(name).await.ok().flatten() }
        };
        let mut views = std::pin::pin!(follow(self.core.clone(), look));
        while let Some(view) = views.next().await {
            if view.healthy >= view.desired {
                return Ok(view);
            }
        }
        Err(self.no_such_workload(name).await)
    }
}

/// Reads events as they come.
struct Follower {
    core: Arc<dyn Core>,
    last: u64,
    history: VecDeque<Arc<EventView>>,
    live: broadcast::Receiver<Arc<EventView>>,
}

impl Follower {
    async fn next(&mut self) -> Option<Arc<EventView>> {
        loop {
            if let Some(event) = self.history.pop_front() {
                self.last = event.seq;
                return Some(event);
            }
            match self.live.recv().await {
                Ok(event) => self.history.extend((event.seq > self.last).then_some(event)),
                // The reader was too slow for the channel: the history may still have the missed
                // events.
                Err(RecvError::Lagged(_)) => {
                    let (missed, live) = self.core.events(self.last);
                    (self.history, self.live) = (missed.into(), live);
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// A view as it is now, then again whenever it has changed. Ends when the node stops.
pub(super) fn follow<T, F, L>(core: Arc<dyn Core>, look: L) -> impl Stream<Item = T> + Send
where
    T: PartialEq + Clone + Send,
    F: Future<Output = Option<T>> + Send,
    L: Fn() -> F + Send,
{
    let changes = core.changes();
    stream::unfold(
        (changes, look, None::<T>, MIN_PAUSE),
        |(mut changes, look, last, mut pause)| async move {
            loop {
                if last.is_some() {
                    changes.changed().await.ok()?;
                    tokio::time::sleep(pause).await;
                }
                changes.mark_unchanged();
                let began = Instant::now();
                let now = look().await?;
                pause = (began.elapsed() * PAUSE_FACTOR).clamp(MIN_PAUSE, MAX_PAUSE);
                if last.as_ref() != Some(&now) {
                    return Some((now.clone(), (changes, look, Some(now), pause)));
                }
            }
        },
    )
    .fuse()
}
