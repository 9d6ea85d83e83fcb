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
//!
//! **A name takes no port of the device** where the device has nftables: a [`table`] leads all
//! connections to one listener. Elsewhere each port of each name is listened on.

mod address;
mod book;
mod proxy;
mod server;
mod table;
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
use table::{Listening, Table};

/// The port of name servers.
const DNS: u16 = 53;

/// A name server that is bound and does not answer yet: containers are given its address before
/// there is a core that knows names.
pub struct Bound {
    addresses: Addresses,
    own: Ipv4Addr,
    udp: UdpSocket,
    tcp: TcpListener,
    /// With the listener for all names; none where the device has no nftables.
    table: Option<(Table, TcpListener)>,
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
    let why = match Table::open(node, own).await {
        Ok((table, Listening { tcp, name_udp, name_tcp })) => {
            let table = Some((table, tcp));
            return Ok(Bound { addresses, own, udp: name_udp, tcp: name_tcp, table });
        }
        Err(why) => why,
    };
    let failed = |error: std::io::Error| format!("{own} port {DNS}: {error}; and {why}");
    let udp = UdpSocket::bind((own, DNS)).await.map_err(failed)?;
    let tcp = TcpListener::bind((own, DNS)).await.map_err(failed)?;
    tracing::warn!(
        "names of workloads take ports of this device, so no program here can listen at all \
        addresses on port {DNS} or on a port of a workload that containers reach by name, and a \
        published port hides that of others: {why}; install nftables to change that"
    );
    Ok(Bound { addresses, own, udp, tcp, table: None })
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
        let Bound { addresses, own, udp, tcp, table } = self;
        let proxy = Proxy::new(&*core, runtimes, peers);
        let closing = CancellationToken::new();
        let nft = table.as_ref().map(|(table, _)| table.nft());
        let table = table.map(|(table, listener)| {
            proxy.listen(listener, table.finder(), closing.clone());
            table
        });
        let (book, asks) = Book::new(core, proxy, addresses.clone(), table);
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
        closing.cancel();
        if let Some(nft) = nft {
            nft.remove().await;
        }
        addresses.release_all().await;
    }
}
