//! Connections by their local address.
//!
//! TCP keeps a connection for minutes after the device lost its local address, though nothing can
//! be sent on it. Here such a connection ends at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use futures::{AsyncRead, AsyncWrite};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The local addresses of the open connections: no more than there are connections.
#[derive(Clone, Default)]
pub(super) struct LocalAddresses(Arc<Mutex<BTreeMap<IpAddr, Weak<CancellationToken>>>>);

impl LocalAddresses {
    /// Binds a stream to its local address. A stream whose local address is not known stays open.
    pub(super) fn bind<S>(&self, stream: S, local: Option<IpAddr>) -> BoundStream<S> {
        let token = local.map(|ip| self.token(ip));
        let address_gone =
            token.as_ref().map(|token| Box::pin(CancellationToken::clone(token).cancelled_owned()));
        BoundStream { stream, address_gone, _token: token }
    }

    fn token(&self, ip: IpAddr) -> Arc<CancellationToken> {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = tokens.get(&ip).and_then(Weak::upgrade) {
            return token;
        }
        tokens.retain(|_, token| token.strong_count() > 0);
        let token = Arc::<CancellationToken>::default();
        tokens.insert(ip, Arc::downgrade(&token));
        token
    }

    /// Ends the streams whose local address is not among these.
    pub(super) fn close_missing(&self, local: &BTreeSet<IpAddr>) {
        let mut tokens = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tokens.retain(|ip, token| {
            let Some(token) = token.upgrade() else { return false };
            let stays = local.contains(ip);
            if !stays {
                token.cancel();
            }
            stays
        });
    }
}

/// A stream that fails once the device has lost its local address.
pub(super) struct BoundStream<S> {
    stream: S,
    address_gone: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    _token: Option<Arc<CancellationToken>>,
}

impl<S> BoundStream<S> {
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.address_gone.as_mut().map(|address_gone| address_gone.as_mut().poll(cx)) {
            Some(Poll::Ready(())) => Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "this device has lost the address",
            )),
            Some(Poll::Pending) | None => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for BoundStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for BoundStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.stream).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::AsyncReadExt;
    use futures::io::Cursor;

    use super::*;

    const HERE: [u8; 4] = [10, 0, 0, 1];

    /// Of two local addresses one is lost: only the stream on it ends.
    #[tokio::test]
    async fn stream_ends_only_with_its_own_address() {
        let local_addresses = LocalAddresses::default();
        let stream = || Cursor::new(vec![7; 4]);
        let (mut lost, mut kept) = (
            local_addresses.bind(stream(), Some(HERE.into())),
            local_addresses.bind(stream(), Some([10, 0, 0, 2].into())),
        );
        let mut unbound = local_addresses.bind(stream(), None);
        let mut byte = [0];
        lost.read_exact(&mut byte).await.unwrap();
        local_addresses.close_missing(&[IpAddr::from([10, 0, 0, 2])].into());
        assert_eq!(
            lost.read_exact(&mut byte).await.unwrap_err().kind(),
            io::ErrorKind::ConnectionAborted
        );
        kept.read_exact(&mut byte).await.unwrap();
        unbound.read_exact(&mut byte).await.unwrap();
        // The address is back: a new connection over it is independent of the old one.
        let mut anew = local_addresses.bind(stream(), Some(HERE.into()));
        anew.read_exact(&mut byte).await.unwrap();
    }

    /// Addresses that come and go for years must not fill the memory.
    #[test]
    fn ended_streams_are_forgotten() {
        let local_addresses = LocalAddresses::default();
        (0..100).for_each(|n| drop(local_addresses.bind((), Some([10, 0, 0, n].into()))));
        let _one = local_addresses.bind((), Some(HERE.into()));
        assert!(local_addresses.0.lock().unwrap().len() <= 2);
    }
}
