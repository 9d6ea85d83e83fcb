//! How busy the replicas of this node are with requests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shoal_runtimes::InstanceId;
use tokio::time::Instant;

/// The meters of instances.
#[derive(Debug, Default)]
pub struct Meters(Mutex<BTreeMap<InstanceId, Arc<Meter>>>);

/// Counts the requests to one instance.
#[derive(Debug)]
pub(super) struct Meter(Mutex<State>);

#[derive(Debug)]
struct State {
    active: u32,
    begun: u64,
    /// The sum of the times that requests took, up to `since`.
    busy: Duration,
    since: Instant,
}

/// What a meter shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reading {
    /// Requests that have begun.
    pub begun: u64,
    /// The sum of the times that requests took so far.
    pub busy: Duration,
}

/// A request that is being answered, until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<Meter>);

impl Meters {
    /// The meter of an instance.
    pub(super) fn of(&self, id: &InstanceId) -> Arc<Meter> {
        self.lock().entry(id.clone()).or_default().clone()
    }

    /// What the meter of an instance shows; nothing if no request has come yet.
    pub fn read(&self, id: &InstanceId) -> Reading {
        self.lock().get(id).map(|meter| meter.read()).unwrap_or_default()
    }

    /// Drops the meters that nothing uses, but for those of these instances.
    pub fn keep(&self, wanted: &BTreeSet<InstanceId>) {
        self.lock().retain(|id, meter| wanted.contains(id) || Arc::strong_count(meter) > 1);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<InstanceId, Arc<Meter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Meter {
    fn default() -> Self {
        let since = Instant::now();
        Meter(Mutex::new(State { active: 0, begun: 0, busy: Duration::ZERO, since }))
    }
}

impl Meter {
    /// A request comes.
    pub(super) fn begin(self: &Arc<Self>) -> Counted {
        let mut state = self.now();
        state.active += 1;
        state.begun += 1;
        drop(state);
        Counted(self.clone())
    }

    fn read(&self) -> Reading {
        let state = self.now();
        Reading { begun: state.begun, busy: state.busy }
    }

    /// The state as it is now.
    fn now(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let busy = now.saturating_duration_since(state.since) * state.active;
        state.busy += busy;
        state.since = now;
        state
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.now().active -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_of_requests_is_summed_while_they_go_on() {
        let meters = Meters::default();
        let id = InstanceId::new("default/web/0.a.b".to_owned()).unwrap();
        assert_eq!(meters.read(&id), Reading::default());
        let meter = meters.of(&id);
        let first = meter.begin();
        tokio::time::advance(Duration::from_secs(2)).await;
        let second = meter.begin();
        tokio::time::advance(Duration::from_secs(3)).await;
        let busy = Duration::from_secs(2 + 3 + 3);
        assert_eq!(meters.read(&id), Reading { begun: 2, busy });
        drop((first, second));
        tokio::time::advance(Duration::from_secs(9)).await;
        assert_eq!(meters.read(&id), Reading { begun: 2, busy });
        meters.keep(&BTreeSet::new());
        assert_eq!(meters.read(&id).begun, 2, "the routes have it");
        drop(meter);
        meters.keep(&[id.clone()].into());
        assert_eq!(meters.read(&id).begun, 2, "somebody reads it");
        meters.keep(&BTreeSet::new());
        assert_eq!(meters.read(&id), Reading::default());
    }
}
