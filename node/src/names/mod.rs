//! Workloads reach one another by name: a name server for this node's containers, and a TCP proxy
//! behind the addresses that it answers with.
//!
//! ```text
//! container ── db? ─────────▶ name server ── asks ──▶ book: an address of this node for `db`
//! container ── db:5432 ─────▶ that address ── proxy ──▶ a ready replica here, or over the mesh
//! ```
//!
//! Each workload that is asked for gets an address of its own, so that two databases may listen on
//! one port. The addresses are this node's alone ([`address`]): only its containers can reach them,
//! and the mesh carries the bytes to another node. UDP is not proxied.

mod address;
mod book;
mod proxy;
mod server;
mod upstream;

use std::net::Ipv4Addr;
use std::sync::Arc;

use shoal_protocol::model::NodeId;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

use crate::api::Core;
use crate::ingress::peers::Peers;
use crate::runtimes::RuntimeSet;
use address::Addresses;
use book::Book;
pub use proxy::PROTOCOL;
use proxy::Proxy;

/// The port of name servers.
const DNS: u16 = 53;

/// A name server that is bound and does not answer yet: containers are given its address before
/// there is a core that knows names.
pub struct Bound {
    addresses: Addresses,
    own: Ipv4Addr,
    udp: UdpSocket,
    tcp: TcpListener,
}

/// Binds the name server of a node; `None` with a line in the log where the device does not allow
/// it, which takes root.
pub async fn bind(node: NodeId) -> Option<Bound> {
    match bound(node).await {
        Ok(bound) => Some(bound),
        Err(why) => {
            tracing::info!("containers here do not reach other workloads by name: {why}");
            None
        }
    }
}

async fn bound(node: NodeId) -> Result<Bound, String> {
    let addresses = Addresses::new(node);
    // Two daemons of one device have different addresses, but for a chance of one in some 10,000.
    let own = addresses.claim("").await?;
    let failed = |error: std::io::Error| format!("{own} port {DNS}: {error}");
    let udp = UdpSocket::bind((own, DNS)).await.map_err(failed)?;
    let tcp = TcpListener::bind((own, DNS)).await.map_err(failed)?;
    Ok(Bound { addresses, own, udp, tcp })
}

impl Bound {
    /// The name server's address.
    pub fn address(&self) -> Ipv4Addr {
        self.own
    }

    /// Answers until `stop`.
    pub async fn serve(
        self,
        core: Arc<dyn Core>,
        runtimes: RuntimeSet,
        peers: Peers,
        stop: CancellationToken,
    ) {
        let Bound { addresses, own, udp, tcp } = self;
        let proxy = Proxy::new(&*core, runtimes, peers);
        let (book, asks) = Book::new(core, proxy, addresses.clone());
        let mut server = server::server(asks, own, udp, tcp);
        tokio::select! {
            () = book.run() => {}
            ended = server.block_until_done() => {
                if let Err(error) = ended {
                    tracing::warn!("the name server of this node's containers ended: {error}");
                }
            }
            () = stop.cancelled() => {}
        }
        addresses.release_all().await;
    }
}
