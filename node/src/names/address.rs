//! Addresses of this device for workloads, and how it gets them.
//!
//! They are of 198.18.0.0/15, which is set aside for benchmarks of networks and routed nowhere. The
//! kernel is told by a *local route* to take each one for its own: no interface gets it, so that no
//! other node is told of it. **An address is drawn from the ids of node and workload**, so it is
//! the same after a restart, when containers still have it, and another one on another node.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use shoal_protocol::model::{Digest, NodeId};

use crate::network::local_route;

/// The first address of the range.
const RANGE: u32 = u32::from_be_bytes([198, 18, 0, 0]);
/// The number of its addresses.
const SIZE: u32 = 1 << 17;

/// The addresses of one node. Cheap to clone.
#[derive(Clone)]
pub(super) struct Addresses {
    node: NodeId,
    /// By owner. Bounded by the book's workloads.
    taken: Arc<Mutex<BTreeMap<Ipv4Addr, String>>>,
}

impl Addresses {
    pub fn new(node: NodeId) -> Self {
        Addresses { node, taken: Arc::default() }
    }

    /// Makes the address of `owner` one of this device.
    pub async fn claim(&self, owner: &str) -> Result<Ipv4Addr, String> {
        let address = self.take(owner);
        local_route(address, true).await.map_err(|why| {
            self.lock().remove(&address);
            format!("{address} cannot be made an address of this device: {why}")
        })?;
        Ok(address)
    }

    pub async fn release(&self, address: Ipv4Addr) {
        if self.lock().remove(&address).is_some()
            && let Err(why) = local_route(address, false).await
        {
            tracing::debug!("{address} stays an address of this device: {why}");
        }
    }

    /// Gives all back, as far as the device lets it.
    pub async fn release_all(&self) {
        let all: Vec<_> = self.lock().keys().copied().collect();
        for address in all {
            self.release(address).await;
        }
    }

    /// The first drawn address that no other owner has.
    fn take(&self, owner: &str) -> Ipv4Addr {
        let mut taken = self.lock();
        let mut salt = 0u32;
        loop {
            let parts = [self.node.as_bytes().as_slice(), owner.as_bytes(), &salt.to_be_bytes()];
            let drawn = Digest::of_parts(&parts).0;
            let number = u32::from_be_bytes([drawn[0], drawn[1], drawn[2], drawn[3]]) % SIZE;
            let address = Ipv4Addr::from(RANGE + number);
            // Ends of the range look like a network's own address.
            let is_plain = !matches!(address.octets()[3], 0 | 255);
            match taken.get(&address) {
                Some(other) if other != owner => {}
                _ if is_plain => {
                    taken.insert(address, owner.to_owned());
                    return address;
                }
                _ => {}
            }
            salt += 1;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Ipv4Addr, String>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Containers keep what they resolved; two daemons of one device must not share addresses.
    #[test]
    fn address_is_the_same_after_a_restart_and_another_on_another_node() {
        let [one, again, other] = [1, 1, 2].map(|n| Addresses::new(NodeId([n; 32])));
        assert_eq!(one.take("default/db"), again.take("default/db"));
        assert_ne!(one.take("default/db"), other.take("default/db"));
        assert_ne!(one.take("default/db"), one.take("shop/db"));
        assert!(one.take("default/db").octets()[0..2] >= [198, 18][..]);
    }

    #[test]
    fn owners_never_share_an_address() {
        let addresses = Addresses::new(NodeId([1; 32]));
        let all: std::collections::BTreeSet<_> =
            (0..2000).map(|n| addresses.take(&format!("default/w{n}"))).collect();
        assert_eq!(all.len(), 2000);
    }
}
