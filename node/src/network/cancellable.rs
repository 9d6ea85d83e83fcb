//! A transport whose dials can be cancelled: libp2p's swarm cannot end a single dial, and a dial
//! that goes on after another address has won makes a second connection at the peer.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::FutureExt;
use futures::future::BoxFuture;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p::{Multiaddr, PeerId, Transport};
use tokio_util::sync::{CancellationToken, DropGuard};

type Connection = (PeerId, StreamMuxerBox);
type Inner = Boxed<Connection>;

/// Cancels the next dial when the guard is dropped. The swarm calls its transport within
/// `Swarm::dial`, on the same task, so a token that is set just before belongs to that dial.
#[derive(Clone, Default)]
pub(super) struct DialCanceller(Arc<Mutex<Option<CancellationToken>>>);

impl DialCanceller {
    /// A guard for the next dial.
    pub(super) fn next_dial(&self) -> DropGuard {
        let token = CancellationToken::new();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(token.clone());
        token.drop_guard()
    }

    fn take(&self) -> Option<CancellationToken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The inner transport, and the source of its dials' tokens.
pub(super) struct CancellableTransport {
    inner: Inner,
    canceller: DialCanceller,
}

impl CancellableTransport {
    pub(super) fn new(inner: Inner) -> (Self, DialCanceller) {
        let canceller = DialCanceller::default();
        (CancellableTransport { inner, canceller: canceller.clone() }, canceller)
    }
}

impl Transport for CancellableTransport {
    type Output = Connection;
    type Error = io::Error;
    type ListenerUpgrade = <Inner as Transport>::ListenerUpgrade;
    type Dial = BoxFuture<'static, io::Result<Connection>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let canceller = self.canceller.take();
        let dial = self.inner.dial(address, options)?;
        let Some(canceller) = canceller else { return Ok(dial.boxed()) };
        Ok(async move {
            match canceller.run_until_cancelled(dial).await {
                Some(outcome) => outcome,
                None => Err(io::Error::new(io::ErrorKind::Interrupted, "given up")),
            }
        }
        .boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.inner).poll(cx)
    }
}
