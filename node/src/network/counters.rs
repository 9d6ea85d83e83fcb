//! Counters of the network since its start.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of the network since its start.
        #[derive(Debug, Default)]
        pub struct NetCounters {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        impl NetCounters {
            /// Adds all counters to `all`, each name with the prefix `net_`.
            pub fn report(&self, all: &mut BTreeMap<String, u64>) {
                $(all.insert(
                    concat!("net_", stringify!($name)).to_owned(),
                    self.$name.load(Relaxed),
                );)*
            }
        }
    };
}

counters! {
    /// Bytes sent on all connections, with encryption and gossip.
    bytes_sent,
    /// Bytes received on all connections.
    bytes_received,
    /// Messages sent to peers over links.
    messages_sent,
    /// Messages received over links.
    messages_received,
    /// Messages that were dropped because the peer's queue was full or there was no link.
    messages_dropped,
    /// Frames that could not be decoded.
    garbage,
    /// Messages published by gossip.
    gossip_sent,
    /// Messages received by gossip, each counted once.
    gossip_received,
    /// Gossip that was dropped because the driver was too busy, or that could not be sent.
    gossip_dropped,
    /// Dials that were started.
    dials,
    /// Dials that led to no link.
    dials_failed,
    /// Links that came up.
    links_up,
    /// Inbound connections that failed before their handshake was over: strangers, scans, limits.
    connections_refused,
    /// mDNS packets sent, counted for each interface.
    mdns_sent,
    /// mDNS packets received, with those of other programs.
    mdns_received,
    /// Inbound streams that were refused, because no service accepted them or too many were open.
    streams_refused,
    /// Carriers that came up, dialled by either side.
    carriers_up,
    /// Carriers that were closed because sent bytes did not arrive.
    carriers_stalled,
    /// Streams that this node opened over a relay.
    hops_opened,
    /// Streams that this node relayed between two others.
    hops_carried,
    /// Streams that this node was asked to relay and did not: no room, or the other node was
    /// unreachable.
    hops_refused,
}

pub(super) fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Relaxed);
}
