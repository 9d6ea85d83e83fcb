//! The members, as the driver last told the network. Everybody else may only greet.

use shoal_protocol::model::{NodeId, Roster};
use tokio::sync::watch;

/// The members at any moment. Copies see the same ones.
#[derive(Clone, Debug)]
pub(super) struct Members(watch::Receiver<Roster>);

impl Members {
    /// Nobody, and the sender that changes it.
    pub(super) fn new() -> (watch::Sender<Roster>, Members) {
        let (roster, members) = watch::channel(Roster::default());
        (roster, Members(members))
    }

    /// Whether a node is a member.
    pub(super) fn has(&self, node: &NodeId) -> bool {
        self.0.borrow().has(node)
    }

    /// The members at this moment.
    pub(super) fn now(&self) -> Roster {
        self.0.borrow().clone()
    }

    /// Returns once they have changed; never when the driver has gone.
    pub(super) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending().await
        }
    }
}
