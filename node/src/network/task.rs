//! The state of the task that owns the swarm.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use libp2p::Swarm;
use libp2p::swarm::ConnectionId;
use shoal_protocol::model::{NodeId, Roster};
use shoal_protocol::node::Input;
use tokio::task::JoinSet;

use super::admission::Admission;
use super::behaviour::Behaviour;
use super::carriers::Carriers;
use super::config::NetworkConfig;
use super::counters::NetCounters;
use super::dials::Dials;
use super::gossip::Gossip;
use super::link::Links;
use super::listening::ListenState;
use super::names;
use super::peers::Peer;
use super::resolver::Resolver;
use super::roster::Members;
use super::services::Services;
use super::types::{DriverGone, Ended, Inputs, TaskResult};

pub(super) struct Task {
    pub(super) swarm: Swarm<Behaviour>,
    pub(super) gossip: Gossip,
    pub(super) me: NodeId,
    pub(super) links: Links,
    pub(super) counters: Arc<NetCounters>,
    pub(super) inputs: Inputs,
    pub(super) listen_state: ListenState,
    pub(super) resolver: Resolver,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    pub(super) dials: Dials,
    pub(super) services: Arc<Services>,
    pub(super) carriers: Arc<Carriers>,
    pub(super) running: JoinSet<Ended>,
    pub(super) deadlines: FuturesUnordered<BoxFuture<'static, (NodeId, ConnectionId)>>,
    pub(super) members: Members,
    /// The members when they were last looked at.
    pub(super) seen: Roster,
    pub(super) admission: Arc<Admission>,
    /// Nodes that were removed, each when its connections are closed.
    pub(super) farewells: FuturesUnordered<BoxFuture<'static, NodeId>>,
}

impl Task {
    #[expect(
        clippy::too_many_arguments,
        reason = "called once, by start, which has just made them all"
    )]
    pub(super) fn new(
        swarm: Swarm<Behaviour>,
        gossip: Gossip,
        config: &NetworkConfig,
        links: Links,
        counters: Arc<NetCounters>,
        inputs: Inputs,
        listen_state: ListenState,
        dials: Dials,
        services: Arc<Services>,
        carriers: Arc<Carriers>,
        members: Members,
        admission: Arc<Admission>,
    ) -> Self {
        let me = names::node_id(swarm.local_peer_id()).expect("our own key is an Ed25519 key");
        debug_assert_eq!(
            Some(*swarm.local_peer_id()),
            names::peer_id(&me),
            "of {:?}",
            config.cluster
        );
        Task {
            swarm,
            gossip,
            me,
            links,
            counters,
            inputs,
            listen_state,
            resolver: Resolver::default(),
            peers: BTreeMap::new(),
            dials,
            services,
            carriers,
            running: JoinSet::new(),
            deadlines: FuturesUnordered::new(),
            members,
            seen: Roster::default(),
            admission,
            farewells: FuturesUnordered::new(),
        }
    }

    pub(super) async fn tell(&mut self, input: Input) -> TaskResult {
        self.inputs.urgent.send(input).await.map_err(|_| DriverGone)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.carriers.stop();
    }
}
