//! The clients of the HTTP port, and which connections are closed when there are too many.
//!
//! A client's place is *proven* from the end of a request's head until the last byte of the answer
//! is written to the socket. Before the first request and between two it is unproven, and may be
//! given to another client ([`crate::shares`]).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::idle_timeouts::{CLIENT_BODY_IDLE, CLIENT_WRITE_IDLE};
use crate::shares::{Bounds, Permit, Shares};

/// Unsent bytes that the kernel may hold for one client. The default is some megabytes for a slow
/// reader: memory for each of 512 clients, and for minutes no sign of whether the client reads.
const UNSENT: u32 = 64 << 10;

/// Time without a byte after which the kernel asks whether a client is still there.
const ALIVE: Duration = Duration::from_secs(60);

/// Bounds of the HTTP port. [`PortLimits::default`] has sane values.
#[derive(Clone, Copy, Debug)]
pub struct PortLimits {
    /// The number of connections, and each address's share.
    pub clients: Bounds,
    /// Time for a request's head, and for an idle connection between two requests.
    pub head_within: Duration,
    /// Time without a byte of a request's body that is waited for.
    pub body_idle: Duration,
    /// Time without the client reading its answer, which shows in the kernel's buffer staying full.
    pub write_idle: Duration,
}

impl Default for PortLimits {
    /// 512 connections, each a file and some 10 KB. 256 requests are answered at a time, so at
    /// least half of the connections are unproven and can make room. From 384 on an address has 64
    /// unproven ones, and heads have 5 s instead of 30: a proxy in front, or a household behind one
    /// address, loses idle connections at worst, which clients open again.
    fn default() -> Self {
        PortLimits {
            clients: Bounds {
                places: 512,
                crowded: 384,
                per_address: 64,
                silent_timeout: Duration::from_secs(5),
            },
            head_within: Duration::from_secs(30),
            body_idle: CLIENT_BODY_IDLE,
            write_idle: CLIENT_WRITE_IDLE,
        }
    }
}

/// A connection of a client.
#[derive(Debug)]
pub struct Client {
    place: Permit,
    /// The answer's last byte was handed over, and is not written to the socket yet.
    leaving: AtomicBool,
}

impl Client {
    /// Takes a place for the connection; `None` when all places are proven.
    pub fn enter(clients: &Arc<Shares>, address: IpAddr) -> Option<Arc<Self>> {
        let place = clients.enter(address)?;
        Some(Arc::new(Client { place, leaving: AtomicBool::new(false) }))
    }

    /// Proves the place: a request's head is complete. Keep the guard until the answer's body has
    /// ended.
    pub(super) fn asks(self: &Arc<Self>) -> Asking {
        self.leaving.store(false, SeqCst);
        self.place.mark_proven();
        Asking(self.clone())
    }

    /// All bytes that were handed over are written to the socket.
    pub(super) fn flushed(&self) {
        if self.leaving.swap(false, SeqCst) {
            self.place.mark_unproven();
        }
    }

    /// Ends when the place was given to another client.
    pub(super) fn lost(&self) -> WaitForCancellationFutureOwned {
        self.place.evicted()
    }
}

/// Keeps a client's place proven while its request is answered.
pub(super) struct Asking(Arc<Client>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.leaving.store(true, SeqCst);
    }
}

/// Makes the kernel send at once, and buffer little.
pub(super) fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    // Answers are small and urgent.
    stream.set_nodelay(true)?;
    // A client that vanished is noticed also while nothing is sent to it.
    let alive = TcpKeepalive::new().with_time(ALIVE).with_interval(ALIVE / 4);
    SockRef::from(stream).set_tcp_keepalive(&alive)?;
    // Where the option is unknown, only memory is lost, and slow clients have less time.
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
    Ok(())
}
