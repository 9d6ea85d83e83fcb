//! The behaviours of libp2p that one swarm runs.

use libp2p::connection_limits;
use libp2p::swarm::NetworkBehaviour;

use super::members_only::MembersOnly;
use super::stream_protocols;

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(super) struct Behaviour {
    /// First, so that a refused connection costs the other behaviours nothing.
    pub limits: connection_limits::Behaviour,
    pub streams: stream_protocols::Behaviour,
    pub gossip: MembersOnly,
}
