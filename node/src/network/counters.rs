//! What went over the wire since the start.

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
            /// Adds all of them to `all`, with `net_` before their names.
            pub fn report(&self, all: &mut BTreeMap<String, u64>) {
                $(all.insert(concat!("net_", stringify!($name)).to_owned(), self.$name.load(Relaxed));)*
            }
        }
    };
}

counters! {
    /// Bytes on all connections, encryption and gossip included.
    bytes_sent,
    /// The same, inwards.
    bytes_received,
    /// Messages to peers over links.
    messages_sent,
    /// The same, inwards.
    messages_received,
    /// Messages that found their peer's queue full, or no link.
    messages_dropped,
    /// Frames that were no message.
    garbage,
    /// Messages given to gossip.
    gossip_sent,
    /// Messages that came by gossip, once each.
    gossip_received,
    /// Gossip that was dropped because this node was too busy to judge it, or that could not be
    /// sent.
    gossip_dropped,
    /// Dials begun.
    dials,
    /// Dials that led to no link.
    dials_failed,
    /// Links that came up.
    links_up,
    /// Connections that failed before they were one: strangers, scans, limits.
    connections_refused,
    /// Packets of mDNS, one for each interface.
    mdns_sent,
    /// The same, inwards, other programs' included.
    mdns_received,
    /// Streams of others that were refused because too many were open.
    streams_refused,
    /// Connections for what is large that came up, whoever dialled.
    carriers_up,
    /// Those on which what was sent did not arrive, so that they were given up.
    carriers_stalled,
    /// Streams that this node opened over a common member.
    hops_opened,
    /// Streams that this node carried for two others.
    hops_carried,
    /// Streams that it was asked to carry and did not: no room, or no way to the other node.
    hops_refused,
}

pub(super) fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Relaxed);
}
