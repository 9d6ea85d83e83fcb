//! This node's own addresses: where it listens, where others are told to dial it, and what a change
//! of them means.
//!
//! ```text
//!   kernel ── interfaces ──▶ listener: opened when its address is there, closed when it is gone
//!                       ├──▶ core:     Input::Addresses, which tells the others and dials them anew
//!                       └──▶ links:    those that hang on an address that is gone are closed
//! ```
//!
//! In this order: the core must know that it has moved before it hears that its links are gone.

use std::net::IpAddr;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::core::ConnectedPoint;
use shoal_protocol::node::Input;

use super::names;
use super::peers::Peer;
use super::task::Task;
use super::types::TaskResult;

/// A link older than this that its peer dials anew from elsewhere is one that the peer has lost;
/// two simultaneous dials, which a device of several addresses may receive from two of them, are
/// over by then.
const CROSSING: Duration = Duration::from_millis(600);

/// A connection from here shows that the link, which is so old, leads to where the peer no longer
/// is.
fn has_moved(was: IpAddr, now: IpAddr, age: Duration) -> bool {
    was != now && age > CROSSING
}

impl Task {
    /// The interfaces changed, or it is time to try to listen again.
    pub(super) async fn on_own_addresses(&mut self) -> TaskResult {
        if let Some(state) = self.listen_state.refresh(&mut self.swarm) {
            self.tell(Input::Addresses(state)).await?;
        }
        self.listen_state.close_lost_connections();
        Ok(())
    }

    /// What the driver's configuration does not say.
    pub(super) async fn report_trouble(&mut self) -> TaskResult {
        let state = self.listen_state.announced().borrow().clone();
        if state.trouble.is_some() { self.tell(Input::Addresses(state)).await } else { Ok(()) }
    }

    /// A peer that has moved comes anew, while the link it had has not failed here yet: that one
    /// makes way. Of two nodes the one with the lower id decides which connection carries the link.
    pub(super) async fn replace_moved_link(
        &mut self,
        id: &PeerId,
        endpoint: &ConnectedPoint,
    ) -> TaskResult {
        let (Some(node), Some(remote)) =
            (names::node_id(id), names::socket(endpoint.get_remote_address()))
        else {
            return Ok(());
        };
        if endpoint.is_dialer() || self.me > node {
            return Ok(());
        }
        let link = self.peers.get(&node).and_then(Peer::link_remote);
        if let Some((link, was, since)) = link
            && has_moved(was, remote.ip(), since.elapsed())
        {
            tracing::debug!(peer = %node.short(), %was, now = %remote.ip(), "a peer has moved");
            self.hang_up(node, link).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link that was younger than ten seconds was kept, though its peer had moved: of two that
    /// moved one after the other the one refused the other.
    #[test]
    fn a_link_makes_way_for_its_peer_from_elsewhere() {
        let [was, now] = [[10, 0, 0, 2], [10, 0, 0, 102]].map(IpAddr::from);
        assert!(has_moved(was, now, Duration::from_secs(3)));
        assert!(!has_moved(was, now, Duration::from_millis(100)), "two dials that cross");
        assert!(!has_moved(was, was, Duration::from_secs(60)));
    }
}
