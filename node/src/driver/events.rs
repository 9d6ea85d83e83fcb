//! Events for people: a bounded history, and a stream of new ones.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use shoal_protocol::model::view::EventView;
use tokio::sync::broadcast;

/// Events kept: some hours of an ordinary day, and under a megabyte.
const KEPT: usize = 1_000;
/// Events a follower may lag behind before it is told that it missed some.
const LAG: usize = 256;

#[derive(Clone)]
pub(super) struct Events {
    kept: Arc<Mutex<VecDeque<Arc<EventView>>>>,
    coming: broadcast::Sender<Arc<EventView>>,
}

impl Default for Events {
    fn default() -> Self {
        Events { kept: Arc::default(), coming: broadcast::channel(LAG).0 }
    }
}

impl Events {
    pub(super) fn push(&self, event: EventView) {
        let event = Arc::new(event);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(event.clone());
        // Under the lock, so that `since` returns each event exactly once. An error means that
        // there is no follower.
        let _ = self.coming.send(event);
    }

    pub(super) fn since(
        &self,
        seq: u64,
    ) -> (Vec<Arc<EventView>>, broadcast::Receiver<Arc<EventView>>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.iter().filter(|event| event.seq > seq).cloned().collect(), self.coming.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64) -> EventView {
        EventView {
            seq,
            at: String::new(),
            level: "info".into(),
            kind: "test".into(),
            subject: None,
            namespace: None,
            node: None,
            message: String::new(),
        }
    }

    #[test]
    fn history_and_live_events_join_without_a_gap() {
        let events = Events::default();
        (1..=5).for_each(|seq| events.push(event(seq)));
        let (history, mut future) = events.since(3);
        events.push(event(6));
        assert_eq!(history.iter().map(|event| event.seq).collect::<Vec<_>>(), [4, 5]);
        assert_eq!(future.try_recv().unwrap().seq, 6);
        assert!(future.try_recv().is_err());
    }

    #[test]
    fn history_is_bounded_and_keeps_the_latest() {
        let events = Events::default();
        (1..=KEPT as u64 + 10).for_each(|seq| events.push(event(seq)));
        let (history, _) = events.since(0);
        assert_eq!((history.len(), history[0].seq), (KEPT, 11));
    }
}
