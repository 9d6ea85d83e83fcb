//! Paths to nodes without a link. The core sorts a node's common members for each question, on its
//! own task, so that the answer is shared by the streams that are opened next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shoal_protocol::model::NodeId;
use shoal_protocol::node::Reachability;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// How long an answer is used while the views do not change: they do not show everything that the
/// order depends on, such as which members have just heard from the node.
const SHARED_FOR: Duration = Duration::from_millis(100);
/// Nodes whose answers are kept, some KB each. With more, all are dropped.
const MAX_KEPT: usize = 256;

/// The answers that are shared.
#[derive(Clone, Default)]
pub(super) struct Paths(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    /// The views' version that the answers belong to.
    version: u64,
    answers: BTreeMap<NodeId, (Instant, Arc<OnceCell<Reachability>>)>,
}

impl Paths {
    /// The path to `node`, as of `version` of the views. Of several callers one asks the core.
    pub(super) async fn get<E>(
        &self,
        version: u64,
        node: NodeId,
        ask: impl Future<Output = Result<Reachability, E>>,
    ) -> Result<Reachability, E> {
        let answer = self.answer(version, node);
        answer.get_or_try_init(|| ask).await.cloned()
    }

    fn answer(&self, version: u64, node: NodeId) -> Arc<OnceCell<Reachability>> {
        let now = Instant::now();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.version < version {
            *kept = Kept { version, ..Kept::default() };
        }
        let shared = kept.answers.get(&node);
        if let Some((_, answer)) = shared.filter(|(asked, _)| asked.elapsed() < SHARED_FOR) {
            return answer.clone();
        }
        if kept.answers.len() >= MAX_KEPT {
            kept.answers.clear();
        }
        kept.answers.entry(node).insert_entry((now, Arc::default())).into_mut().1.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    #[derive(Default)]
    struct Core(AtomicUsize);

    impl Core {
        /// A path whose text is the number of questions so far.
        async fn ask(&self) -> Result<Reachability, ()> {
            tokio::task::yield_now().await;
            let asked = self.0.fetch_add(1, Relaxed) + 1;
            Ok(Reachability { addresses: vec![asked.to_string()], ..Reachability::default() })
        }
    }

    const NODE: NodeId = NodeId([1; 32]);

    /// Every request to a node without a link had the core sort all common members.
    #[tokio::test(start_paused = true)]
    async fn core_is_asked_once_per_change_of_the_views() {
        let (core, paths) = (Core::default(), Paths::default());
        let get = |version, node| paths.get(version, node, core.ask());
        let (first, second) = tokio::join!(get(1, NODE), get(1, NODE));
        assert_eq!((first.unwrap().addresses, core.0.load(Relaxed)), (vec!["1".to_owned()], 1));
        assert_eq!(second.unwrap().addresses, ["1"], "both wait for one question");
        assert_eq!(get(1, NodeId([2; 32])).await.unwrap().addresses, ["2"], "another node");
        assert_eq!(get(1, NODE).await.unwrap().addresses, ["1"]);
        assert_eq!(get(2, NODE).await.unwrap().addresses, ["3"], "the views have changed");
        tokio::time::advance(SHARED_FOR).await;
        assert_eq!(get(2, NODE).await.unwrap().addresses, ["4"], "the answer is old");
    }

    /// The core's first caller may be a request whose client goes away.
    #[tokio::test(start_paused = true)]
    async fn caller_that_gives_up_leaves_the_question_to_the_next() {
        let (core, paths) = (Core::default(), Paths::default());
        let mut first = Box::pin(paths.get(1, NODE, core.ask()));
        assert!(futures::poll!(&mut first).is_pending());
        let second = paths.get(1, NODE, core.ask());
        drop(first);
        assert_eq!(second.await.unwrap().addresses, ["1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn kept_answers_are_bounded() {
        let (core, paths) = (Core::default(), Paths::default());
        for n in 0..=MAX_KEPT {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            paths.get(1, NodeId(id), core.ask()).await.unwrap();
        }
        assert!(paths.0.lock().unwrap().answers.len() <= MAX_KEPT);
    }
}
