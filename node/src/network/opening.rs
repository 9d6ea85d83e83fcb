//! Opens streams to nodes: over their link, over a link made for the stream, or over a relay.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use shoal_protocol::model::NodeId;
use shoal_protocol::node::Reachability;
use tokio::sync::oneshot;
use tokio_util::compat::FuturesAsyncReadCompatExt;

use super::carriers::{Availability, Carrier};
use super::handle::Network;
use super::link::LinkHandle;
use super::names;
use super::stream::{Mesh, MeshStream, OpenError, Purpose};
use super::types::{Command, OpenFailure};

/// Time limit for opening a stream.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// Head start of a dial before a relay is asked too: about a handshake over a satellite.
const RELAY_AFTER: Duration = Duration::from_millis(750);

/// How long a request waits for a carrier before it takes the link: a handshake on a good path.
const CARRIER_TIMEOUT: Duration = Duration::from_millis(300);

impl Network {
    /// Opens a stream to a linked node: on a carrier, or, if there is none, on the link.
    pub(super) async fn open_linked(
        &self,
        node: NodeId,
        purpose: Purpose,
    ) -> Result<MeshStream, OpenError> {
        let link =
            self.links.with(|links| links.get(&node).cloned()).ok_or(OpenError::NoLink(node))?;
        // A ready carrier may end at this moment; a new one does not.
        for _ in 0..2 {
            // A request does not wait long for a carrier; the dial goes on, and the next request
            // finds it.
            let limit = match purpose {
                Purpose::Artifact | Purpose::Pieces => OPEN_TIMEOUT,
                Purpose::Http | Purpose::Hop => CARRIER_TIMEOUT,
            };
            let carrier = tokio::time::timeout(limit, self.carrier(node, &link)).await;
            let Ok(Some(carrier)) = carrier else { break };
            if let Some(stream) = carrier.open(purpose).await {
                return Ok(stream);
            }
        }
        self.open_on_link(node, purpose).await
    }

    async fn carrier(&self, node: NodeId, link: &LinkHandle) -> Option<Arc<Carrier>> {
        match self.carriers.availability(&node) {
            Availability::Open(carrier) => Some(carrier),
            Availability::Dialing(dialing) => dialing.await,
            Availability::NotDialled => {
                self.carriers.dial(node, self.carrier_addresses(node, link).await).await
            }
            Availability::Unreachable => None,
        }
    }

    /// The addresses to dial a carrier at: the address at which the link was dialled, else those of
    /// the node's record, with the link's remote IP first.
    async fn carrier_addresses(&self, node: NodeId, link: &LinkHandle) -> Vec<SocketAddr> {
        if let Some(address) = link.dialled_at {
            return vec![address];
        }
        let Some(directory) = self.directory.get() else { return Vec::new() };
        let recorded = directory.way(node).await.addresses;
        let mut addresses: Vec<_> = recorded
            .iter()
            .filter_map(|text| names::parse(text))
            .filter_map(|address| names::socket(&address))
            .collect();
        addresses.sort_by_key(|address| Some(address.ip()) != link.inbound_from);
        addresses
    }

    async fn open_on_link(&self, node: NodeId, purpose: Purpose) -> Result<MeshStream, OpenError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Open { node, purpose, reply };
        self.commands.send(command).await.map_err(|_| OpenError::Stopping)?;
        match answer.await {
            Ok(Ok((stream, link_ended))) => Ok(MeshStream::on_link(stream.compat(), link_ended)),
            Ok(Err(OpenFailure::NoLink)) => Err(OpenError::NoLink(node)),
            Ok(Err(OpenFailure::NotOffered)) => Err(OpenError::NotOffered(node)),
            Ok(Err(OpenFailure::TimedOut)) => Err(OpenError::TimedOut(node)),
            Ok(Err(OpenFailure::Broken(why))) => Err(OpenError::Broken { node, why }),
            Err(_) => Err(OpenError::Broken { node, why: "its connection closed".into() }),
        }
    }

    /// Makes a link to a node without one: in a large cluster, most of the nodes.
    async fn reach(&self, node: NodeId, addresses: Vec<String>) -> Result<(), OpenError> {
        let (linked, outcome) = oneshot::channel();
        let command = Command::Reach { node, addresses, linked };
        self.commands.send(command).await.map_err(|_| OpenError::Stopping)?;
        outcome.await.map_err(|_| OpenError::NoLink(node))
    }

    /// Opens a stream over the link, or over one made for it, never over a relay.
    pub(super) async fn open_direct(
        &self,
        node: NodeId,
        purpose: Purpose,
    ) -> Result<MeshStream, OpenError> {
        match self.open_linked(node, purpose).await {
            Err(OpenError::NoLink(_)) => {}
            opened => return opened,
        }
        let way = self.way(node).await?;
        match way.unreachable {
            Some(dial) => Err(OpenError::Unreachable { node, dial, tried: Vec::new() }),
            None => self.make_link(node, purpose, way.addresses).await,
        }
    }

    async fn make_link(
        &self,
        node: NodeId,
        purpose: Purpose,
        addresses: Vec<String>,
    ) -> Result<MeshStream, OpenError> {
        self.reach(node, addresses).await?;
        self.open_linked(node, purpose).await
    }

    async fn way(&self, node: NodeId) -> Result<Reachability, OpenError> {
        Ok(self.directory.get().ok_or(OpenError::NoLink(node))?.way(node).await)
    }

    /// Opens a stream to a node without a link: by a dial, and over a relay if that fails or takes
    /// long.
    async fn open_unlinked(&self, node: NodeId, purpose: Purpose) -> Result<MeshStream, OpenError> {
        let Reachability { addresses, unreachable, hops } = self.way(node).await?;
        if let Some(dial) = unreachable {
            return self.open_relayed(node, purpose, &hops, dial).await;
        }
        let dialled = self.make_link(node, purpose, addresses);
        if hops.is_empty() {
            return dialled.await;
        }
        let relayed = async {
            tokio::time::sleep(RELAY_AFTER).await;
            self.open_relayed(node, purpose, &hops, "no address has answered yet".into()).await
        };
        tokio::pin!(dialled, relayed);
        tokio::select! {
            dialled = &mut dialled => match dialled {
                // The dial failed within the head start, so no relay was asked yet.
                Err(OpenError::NoLink(_)) => {
                    self.open_relayed(node, purpose, &hops, "no address led to it".into()).await
                }
                dialled => dialled,
            },
            opened = &mut relayed => match opened {
                Err(OpenError::Unreachable { tried, .. }) => match dialled.await {
                    Err(OpenError::NoLink(_)) => {
                        let dial = "no address led to it".into();
                        Err(OpenError::Unreachable { node, dial, tried })
                    }
                    dialled => dialled,
                },
                opened => opened,
            },
        }
    }
}

impl Mesh for Network {
    fn open(&self, node: NodeId, purpose: Purpose) -> BoxFuture<'_, Result<MeshStream, OpenError>> {
        async move {
            let opened = async {
                match self.open_linked(node, purpose).await {
                    Err(OpenError::NoLink(_)) => self.open_unlinked(node, purpose).await,
                    opened => opened,
                }
            };
            tokio::time::timeout(OPEN_TIMEOUT, opened)
                .await
                .unwrap_or(Err(OpenError::TimedOut(node)))
        }
        .boxed()
    }

    fn is_linked(&self, node: &NodeId) -> bool {
        self.links.with(|links| links.contains_key(node))
    }
}
