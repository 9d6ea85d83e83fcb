//! Brings the network up: the port first, since that is what fails.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::swarm::{self, NetworkBehaviour, SwarmEvent};
use libp2p::{Swarm, gossipsub};
use tokio::sync::{mpsc, watch};

use super::gossip::Gossip;
use super::swarm::Task;
use super::{Inbox, Links, NetCounters, Network, NetworkConfig, names, streams, transport};

/// Handshakes of others at once. Each ends within the dial's time-out, so this many strangers can knock every two seconds.
const MAX_PENDING_IN: u32 = 64;
/// Dials at once. The core asks for a few a second.
const MAX_PENDING_OUT: u32 = 128;
/// Connections from others. A node needs some tens; each takes about 70 KB.
const MAX_IN: u32 = 512;
/// Two when both dialled at the same time, and some that take long to close because nobody acknowledges it.
const MAX_PER_PEER: u32 = 8;
/// Addresses of one peer that are dialled at once: all that a record may have.
const DIALS_PER_PEER: NonZeroU8 = NonZeroU8::new(16).expect("sixteen is not zero");

/// Inputs that may wait for the driver. It takes hundreds in a turn; while it does not, peers are held back.
const URGENT: usize = 1024;
/// Gossip that may wait for the driver. What comes above is dropped, and repaired later.
const GOSSIP: usize = 256;
/// Bulk messages that may wait for the driver: up to 64 KiB each.
const BULK: usize = 64;
/// What the driver asks of the swarm's task between two of its turns.
const COMMANDS: usize = 1024;

/// How long to wait for the interfaces' addresses after the first.
const SETTLE: Duration = Duration::from_millis(20);
/// How long the system may take to name the first address.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no network.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum NetworkError {
    #[error("port {} of {} is taken by another program: choose another with --listen, or stop that one", .0.port(), .0.ip())]
    Taken(SocketAddr),
    #[error("{address} cannot be listened on: {source}. Choose another with --listen")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("the network could not be set up: {0}")]
    SetUp(String),
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(super) struct Behaviour {
    /// First, so that what is too much costs nothing more.
    limits: connection_limits::Behaviour,
    pub streams: streams::Behaviour,
    pub gossip: gossipsub::Behaviour,
}

/// Starts the network on the current tokio runtime.
pub async fn start(config: NetworkConfig) -> Result<(Network, Inbox), NetworkError> {
    // libp2p lets several processes share a listening port, which would split this node's peers between them.
    drop(TcpListener::bind(config.listen).map_err(|source| refused(config.listen, source))?);

    let counters = Arc::<NetCounters>::default();
    let keys = names::keypair(&config.seed);
    let transport = transport::transport(&keys, config.secret, &counters).map_err(|error| set_up(&error))?;
    let (gossip_behaviour, gossip) = Gossip::new(&keys, &config.cluster).map_err(|error| set_up(&error))?;
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(MAX_PENDING_IN))
        .with_max_pending_outgoing(Some(MAX_PENDING_OUT))
        .with_max_established_incoming(Some(MAX_IN))
        .with_max_established_per_peer(Some(MAX_PER_PEER));
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        streams: streams::Behaviour::new(&config.cluster),
        gossip: gossip_behaviour,
    };
    let swarm_config = swarm::Config::with_tokio_executor()
        .with_dial_concurrency_factor(DIALS_PER_PEER)
        .with_max_negotiating_inbound_streams(32);
    let mut swarm = Swarm::new(transport, behaviour, keys.public().to_peer_id(), swarm_config);
    let found = listen(&mut swarm, config.listen).await?;
    let listening = SocketAddr::new(config.listen.ip(), found.first().map_or(config.listen.port(), SocketAddr::port));

    let (commands_in, commands) = mpsc::channel(COMMANDS);
    let (urgent_in, urgent) = mpsc::channel(URGENT);
    let (gossip_in, gossip_out) = mpsc::channel(GOSSIP);
    let (bulk_in, bulk) = mpsc::channel(BULK);
    let links = Links::default();
    let (addresses_in, addresses) = watch::channel(reachable(&found));
    let inputs = super::swarm::Inputs { urgent: urgent_in, gossip: gossip_in, bulk: bulk_in };
    let task = Task::new(swarm, gossip, &config, links.clone(), counters.clone(), inputs, addresses_in, found);
    tokio::spawn(task.run(commands));
    Ok((
        Network { commands: commands_in, links, counters, listening, addresses, directory: Arc::default() },
        Inbox { urgent, gossip: gossip_out, bulk },
    ))
}

async fn listen(swarm: &mut Swarm<Behaviour>, address: SocketAddr) -> Result<Vec<SocketAddr>, NetworkError> {
    let failed = |source| NetworkError::Listen { address, source };
    swarm.listen_on(names::multiaddr(&address)).map_err(|error| failed(io::Error::other(error)))?;
    let mut found = Vec::new();
    loop {
        let patience = if found.is_empty() { LISTEN_TIMEOUT } else { SETTLE };
        match tokio::time::timeout(patience, swarm.select_next_some()).await {
            Ok(SwarmEvent::NewListenAddr { address, .. }) => found.extend(names::socket(&address)),
            Ok(
                SwarmEvent::ListenerClosed { reason: Err(source), .. }
                | SwarmEvent::ListenerError { error: source, .. },
            ) => {
                return Err(failed(source));
            }
            Ok(_) => {}
            Err(_) if found.is_empty() => {
                return Err(failed(io::Error::new(io::ErrorKind::TimedOut, "no interface has an address")));
            }
            Err(_) => return Ok(found),
        }
        if !address.ip().is_unspecified() && !found.is_empty() {
            return Ok(found);
        }
    }
}

fn refused(address: SocketAddr, source: io::Error) -> NetworkError {
    match source.kind() {
        io::ErrorKind::AddrInUse => NetworkError::Taken(address),
        _ => NetworkError::Listen { address, source },
    }
}

fn set_up(error: &impl ToString) -> NetworkError {
    NetworkError::SetUp(error.to_string())
}

/// What others could dial, as multiaddrs. Loopback counts only where there is nothing else: on another device it is another device.
pub(super) fn reachable(found: &[SocketAddr]) -> Vec<String> {
    let dialled = |address: &&SocketAddr| match address.ip() {
        std::net::IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_link_local(),
        // Without a scope, a link-local address leads nowhere.
        std::net::IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_unicast_link_local(),
    };
    let (loopback, others): (Vec<_>, Vec<_>) =
        found.iter().filter(dialled).partition(|address| address.ip().is_loopback());
    let chosen = if others.is_empty() { loopback } else { others };
    chosen.iter().map(|address| names::multiaddr(address).to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_only_where_there_is_nothing_else() {
        let found = |texts: &[&str]| reachable(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>());
        assert_eq!(found(&["127.0.0.1:7", "192.168.1.2:7", "[fe80::1]:7"]), ["/ip4/192.168.1.2/tcp/7"]);
        assert_eq!(found(&["127.0.0.1:7"]), ["/ip4/127.0.0.1/tcp/7"]);
    }
}
