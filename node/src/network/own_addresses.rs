//! Follows changes of this node's own addresses.
//!
//! ```text
//!   kernel ── interfaces ─┬▶ listener: opened when its address is there, closed when it is gone
//!                         ├▶ core:     Input::Addresses: announces them and dials peers again
//!                         └▶ links:    closed if their local address is gone
//! ```
//!
//! In this order: the core must know that it has moved before it gets the ends of its links.

use std::net::IpAddr;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::core::ConnectedPoint;
use shoal_protocol::node::Input;

use super::names;
use super::peers::Peer;
use super::task::Task;
use super::types::TaskResult;

/// If a peer dials from elsewhere while its link is older than this, the peer has lost that link.
/// Two simultaneous dials, which may come from two addresses of one device, are over by then.
const CROSSING: Duration = Duration::from_millis(600);

/// Whether a new connection from `now` shows that the peer has left `was`, where a link of this age
/// leads.
fn has_moved(was: IpAddr, now: IpAddr, age: Duration) -> bool {
    was != now && age > CROSSING
}

impl Task {
    /// Handles a change of the interfaces, or the time for another try to listen.
    pub(super) async fn on_own_addresses(&mut self) -> TaskResult {
        if let Some(state) = self.listen_state.refresh(&mut self.swarm) {
            self.tell(Input::Addresses(state)).await?;
        }
        self.listen_state.close_lost_connections();
        Ok(())
    }

    /// Reports at the start why no address can be announced; the driver knows the addresses
    /// themselves.
    pub(super) async fn report_trouble(&mut self) -> TaskResult {
        let state = self.listen_state.announced().borrow().clone();
        if state.trouble.is_some() { self.tell(Input::Addresses(state)).await } else { Ok(()) }
    }

    /// Closes a link to where a peer no longer is, when the peer dials from elsewhere. The node
    /// with the lower id decides which connection carries the link.
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

    /// A link younger than ten seconds was kept though its peer had moved: of two nodes that moved
    /// one after the other, one refused the other.
    #[test]
    fn link_yields_when_its_peer_dials_from_elsewhere() {
        let [was, now] = [[10, 0, 0, 2], [10, 0, 0, 102]].map(IpAddr::from);
        assert!(has_moved(was, now, Duration::from_secs(3)));
        assert!(!has_moved(was, now, Duration::from_millis(100)), "two dials that cross");
        assert!(!has_moved(was, was, Duration::from_secs(60)));
    }
}
