//! Opens streams to nodes: over a link, over a link that is made for the stream, or over a hop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use shoal_protocol::model::NodeId;
use shoal_protocol::node::WayTo;
use tokio::sync::oneshot;
use tokio_util::compat::FuturesAsyncReadCompatExt;

use super::carriers::{Availability, Carrier};
use super::handle::Network;
use super::link::LinkHandle;
use super::names;
use super::stream::{Mesh, MeshStream, OpenError, Purpose};
use super::types::{Command, OpenFailure};

/// How long an asked-for stream may take to open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a dial may take before a common member is asked as well. A handshake over a satellite
/// takes about as long.
const RELAY_AFTER: Duration = Duration::from_millis(750);

/// How long a request waits for a carrier before it takes the link: a handshake on a good path.
const CARRIER_TIMEOUT: Duration = Duration::from_millis(300);

impl Network {
    /// A stream to a node that there is a link to: on a carrier, or, where none can be had, on the
    /// link.
    pub(super) async fn open_linked(
        &self,
        node: NodeId,
        purpose: Purpose,
    ) -> Result<MeshStream, OpenError> {
        let link =
            self.links.with(|links| links.get(&node).cloned()).ok_or(OpenError::NoLink(node))?;
        // A carrier that is ready may end at this moment; a fresh one does not.
        for _ in 0..2 {
            // A request does not wait long for a carrier; the dial goes on, and the next request
            // finds it.
            let deadline =
                if purpose == Purpose::Artifact { OPEN_TIMEOUT } else { CARRIER_TIMEOUT };
            let carrier = tokio::time::timeout(deadline, self.carrier(node, &link)).await;
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

    /// Where to dial a linked node: there where the link found it, else where it says to be, the
    /// address it came from first.
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

    /// Makes a link to a node that there is none to. In a large cluster that is most of them.
    async fn reach(&self, node: NodeId, addresses: Vec<String>) -> Result<(), OpenError> {
        let (linked, outcome) = oneshot::channel();
        let command = Command::Reach { node, addresses, linked };
        self.commands.send(command).await.map_err(|_| OpenError::Stopping)?;
        outcome.await.map_err(|_| OpenError::NoLink(node))
    }

    /// Over the link, or over one that is made for it; never over a common member.
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

    async fn way(&self, node: NodeId) -> Result<WayTo, OpenError> {
        Ok(self.directory.get().ok_or(OpenError::NoLink(node))?.way(node).await)
    }

    /// Without a link: by a dial, and where that fails or takes long, over a common member.
    async fn open_unlinked(&self, node: NodeId, purpose: Purpose) -> Result<MeshStream, OpenError> {
        let WayTo { addresses, unreachable, hops } = self.way(node).await?;
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
                // Sooner than the head start is over: nothing was asked yet.
                Err(OpenError::NoLink(_)) => self.open_relayed(node, purpose, &hops, "no address led \
                    to it".into()).await,
                dialled => dialled,
            },
            opened = &mut relayed => match opened {
                Err(OpenError::Unreachable { tried, .. }) => match dialled.await {
                    Err(OpenError::NoLink(_)) => Err(OpenError::Unreachable { node, dial: "no address \
                        led to it".into(), tried }),
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
