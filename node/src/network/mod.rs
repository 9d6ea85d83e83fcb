//! The mesh. The only place that knows libp2p: the rest of the node deals in node ids, messages and
//! byte streams.
//!
//! ```text
//!   driver ── send ────────────▶ one queue per peer and lane ─▶ link's task ── TCP, small segments
//!          ── dial, disconnect,
//!             broadcast, verdict ▶ swarm's task: gossipsub, connections, limits
//!          ◀─ Input ───────────── link's task, swarm's task
//!   others ── Mesh::open, accept ▶ one stream each ──▶ carrier's task ── TCP of its own
//! ```
//!
//! Every TCP connection is encrypted by noise and divided into streams by yamux.
//!
//! **A link is one connection with both message streams open.** It is up when both can be used and
//! down when the connection closes, which a killed process shows within a millisecond. The core
//! decides which peers to dial and when to hang up; this module tries each dial once. Of two
//! connections between the same nodes, the node with the lower id decides which one to keep, so
//! that both keep the same. Artifacts and HTTP travel on `carriers`, connections of their own, so
//! that a stalled transfer blocks no message.
//!
//! The program of an operator (`shoal --via`) makes a connection of a third kind: it is no member,
//! and its connection is no link. It carries requests to the API, after the node has judged the
//! operator's grants; the core never hears of it.
//!
//! Nothing here waits for the driver while the driver waits for it: the driver's messages are
//! queued or, when a queue is full, dropped and counted; its inputs wait for it.
//!
//! Imports go one way: a module imports only from modules in the lines above its own.
//!
//! ```text
//!   names, counters, lane, stream, interfaces, cancellable, local_addresses
//!   types: plain types that the modules below pass to one another
//!   admission, gossip, last_addresses, link, mdns, ranking, resolver, services
//!   netlink, peers, race, stream_protocols, tcp
//!   behaviour, dials, transport
//!   operators, visit: both ends of an operator's connection
//!   carriers, listening
//!   config, handle: what the driver gives and gets
//!   task: the state of the swarm's task
//!   connections, dialing, own_addresses, swarm: what that task does
//!   hop, opening: streams to nodes
//!   start: makes all of these
//! ```

mod admission;
mod behaviour;
mod cancellable;
mod carriers;
mod config;
mod connections;
mod counters;
mod dialing;
mod dials;
pub(crate) mod fuzzing;
mod gossip;
mod handle;
pub mod hop;
mod interfaces;
mod lane;
mod last_addresses;
mod link;
mod listening;
mod local_addresses;
mod local_route;
mod mdns;
mod members_only;
mod names;
mod netlink;
mod opening;
mod operators;
mod own_addresses;
mod peers;
mod race;
mod ranking;
mod resolver;
mod roster;
mod rule_changes;
mod services;
mod start;
mod stream;
mod stream_protocols;
mod swarm;
mod task;
mod tcp;
mod transport;
mod types;
mod visit;

#[cfg(test)]
mod tests;

pub use carriers::Limits as CarrierLimits;
pub use config::NetworkConfig;
pub use counters::NetCounters;
pub use handle::{Directory, Network};
pub(crate) use local_route::local_route;
pub use operators::{Knock, OperatorDoor, Streams, Visitor};
pub(crate) use rule_changes::RuleChanges;
pub use start::start;
pub use stream::{
    Acceptor, Incoming, Mesh, MeshStream, Moved, OpenError, Purpose, describe_unreachable,
};
pub use types::{Inbox, NetworkError};
pub use visit::{Line, NoVisit, Opener, dial};
