//! Starts the network: the port first, since it fails most often.

use std::io;
use std::sync::{Arc, Mutex};

use libp2p::connection_limits::{self, ConnectionLimits};
use libp2p::{Swarm, swarm};
use tokio::sync::{mpsc, watch};

use super::admission::Admission;
use super::behaviour::Behaviour;
use super::carriers::{self, Carriers};
use super::config::NetworkConfig;
use super::counters::NetCounters;
use super::dials::Dials;
use super::gossip::Gossip;
use super::handle::Network;
use super::interfaces::Interfaces;
use super::link::Links;
use super::listening::{self, ListenState};
use super::local_addresses::LocalAddresses;
use super::mdns::Mdns;
use super::members_only::MembersOnly;
use super::operators::{self, OperatorDoor};
use super::roster::Members;
use super::services::Services;
use super::task::Task;
use super::tcp::Diversions;
use super::types::{Inbox, Inputs, NetworkError};
use super::{hop, names, netlink, stream_protocols, transport};

/// Inbound connections before the end of their handshake. [`Admission`] limits handshakes more;
/// this bounds connections that have not reached it.
const MAX_PENDING_IN: u32 = 1024;
/// Addresses dialled at once: those of 16 peers that the core dials at a time, each with as many
/// addresses as a record may have, and those that requests need.
const MAX_PENDING_OUT: u32 = 512;
/// Inbound connections. A node needs some tens; each takes about 70 KB.
const MAX_IN: u32 = 512;
/// Two when both nodes dialled at the same time, and some whose close the peer does not
/// acknowledge.
const MAX_PER_PEER: u32 = 8;

/// Inputs that may wait for the driver. It takes hundreds at a time; while it takes none, peers are
/// slowed down.
const URGENT: usize = 1024;
/// Gossip that may wait for the driver. Beyond, it is dropped, and repaired later.
const GOSSIP: usize = 256;
/// Bulk messages that may wait for the driver: up to 64 KiB each.
const BULK: usize = 64;
/// Commands that may wait for the swarm's task.
const COMMANDS: usize = 1024;

/// Starts the network on the current tokio runtime.
pub async fn start(config: NetworkConfig) -> Result<(Network, Inbox), NetworkError> {
    start_among(config, netlink::watch().await).await
}

/// As [`start`], on a device with these interfaces.
pub(super) async fn start_among(
    config: NetworkConfig,
    interfaces: io::Result<watch::Receiver<Arc<Interfaces>>>,
) -> Result<(Network, Inbox), NetworkError> {
    let held_port = listening::hold_port(config.listen)?;
    let local_addresses = LocalAddresses::default();
    let counters = Arc::<NetCounters>::default();
    let keys = names::keypair(&config.seed);
    let seal = hop::seal(&keys, &config.prologue).map_err(|error| set_up(&error))?;
    let (roster, members) = Members::new();
    let admission = Admission::new(members.clone());
    let (arrive, arrived) = mpsc::channel(carriers::MAX_PENDING_IN);
    let (knock, knocking) = mpsc::channel(operators::MAX_WAITING);
    let door = OperatorDoor::new(knocking, &keys, &config.prologue).map_err(|it| set_up(&it))?;
    let (transport, canceller) = transport::transport(
        &keys,
        config.prologue,
        &counters,
        &local_addresses,
        &admission,
        Diversions { carriers: arrive, operators: knock },
    )
    .map_err(|error| set_up(&error))?;
    let (gossip_behaviour, gossip) =
        Gossip::new(&keys, &config.cluster).map_err(|error| set_up(&error))?;
    let limits = ConnectionLimits::default()
        .with_max_pending_incoming(Some(MAX_PENDING_IN))
        .with_max_pending_outgoing(Some(MAX_PENDING_OUT))
        .with_max_established_incoming(Some(MAX_IN))
        .with_max_established_per_peer(Some(MAX_PER_PEER));
    let behaviour = Behaviour {
        limits: connection_limits::Behaviour::new(limits),
        streams: stream_protocols::Behaviour::new(&config.cluster),
        gossip: MembersOnly::new(gossip_behaviour, members.clone()),
    };
    let swarm_config =
        swarm::Config::with_tokio_executor().with_max_negotiating_inbound_streams(32);
    let mut swarm = Swarm::new(transport, behaviour, keys.public().to_peer_id(), swarm_config);
    let listening = held_port.address;
    let seen = interfaces.as_ref().ok().cloned();
    let listen_state =
        ListenState::start(&mut swarm, listening, &config.advertise, interfaces, local_addresses)?;
    let own_addresses = listen_state.announced();
    drop(held_port);

    let (commands_in, commands) = mpsc::channel(COMMANDS);
    let (urgent_in, urgent) = mpsc::channel(URGENT);
    let (gossip_in, gossip_out) = mpsc::channel(GOSSIP);
    let (bulk_in, bulk) = mpsc::channel(BULK);
    let links = Links::default();
    let inputs = Inputs { urgent: urgent_in, gossip: gossip_in, bulk: bulk_in };
    let me = names::node_id(&keys.public().to_peer_id()).filter(|_| config.mdns);
    let mdns = me.zip(seen).and_then(|(me, interfaces)| {
        Mdns::start(
            me,
            &config.prologue,
            listening,
            interfaces,
            inputs.urgent.clone(),
            counters.clone(),
        )
    });
    let services = Arc::new(Services::new(counters.clone(), members.clone()));
    let carriers = Arc::new(Carriers::new(
        keys,
        config.prologue,
        members.clone(),
        counters.clone(),
        services.clone(),
        commands_in.downgrade(),
        config.carriers,
    ));
    tokio::spawn(carriers.clone().accept(arrived));
    let task = Task::new(
        swarm,
        gossip,
        &config,
        links.clone(),
        counters.clone(),
        inputs,
        listen_state,
        Dials::new(canceller, mdns),
        services,
        carriers.clone(),
        members,
        admission.clone(),
    );
    tokio::spawn(task.run(commands));
    Ok((
        Network {
            commands: commands_in,
            links,
            counters,
            carriers,
            admission,
            listening,
            own_addresses,
            directory: Arc::default(),
            seal,
            roster: Arc::new(roster),
            operators: Arc::new(Mutex::new(Some(door))),
        },
        Inbox { urgent, gossip: gossip_out, bulk },
    ))
}

fn set_up(error: &impl ToString) -> NetworkError {
    NetworkError::SetUp(error.to_string())
}
