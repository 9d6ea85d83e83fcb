//! The clients of the HTTP port: which of them keep a connection when there are too many.
//!
//! A client is *proven* from the end of a request's head until the last byte of the answer has left
//! for its kernel. Between two requests, and before the first, it is not: then its connection may
//! be given to somebody else ([`crate::shares`]).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::patience::{CLIENT_IDLE, CLIENT_TAKES};
use crate::shares::{Bounds, Permit, Shares};

/// Bytes for a client that may wait in the kernel and have not left. A client that reads slowly is
/// given some megabytes otherwise: memory, times 512, and for minutes nothing would be seen of what
/// it takes.
const UNSENT: u32 = 64 << 10;

/// Bounds of the HTTP port. [`PortLimits::default`] has sane ones.
#[derive(Clone, Copy, Debug)]
pub struct PortLimits {
    /// Connections, and how they are shared.
    pub clients: Bounds,
    /// How long a client may take for a request's head, and sit idle between two.
    pub head_within: Duration,
    /// How long a client may send nothing of a body that is waited for.
    pub idle: Duration,
    /// How long a client may take nothing of its answer, seen by the kernel having no room for
    /// more.
    pub takes: Duration,
}

impl Default for PortLimits {
    /// 512 connections, each a file and some 10 KB; 256 requests are answered at a time, so half of
    /// them at least wait for a request and can make room. From 384 on an address has 64 that wait
    /// - a proxy in front, or a household behind one address, loses idle connections at worst,
    /// which clients open anew - and heads have 5 s instead of 30.
    fn default() -> Self {
        PortLimits {
            clients: Bounds {
                places: 512,
                crowded: 384,
                per_address: 64,
                silent_timeout: Duration::from_secs(5),
            },
            head_within: Duration::from_secs(30),
            idle: CLIENT_IDLE,
            takes: CLIENT_TAKES,
        }
    }
}

/// One connection of a client.
#[derive(Debug)]
pub struct Client {
    place: Permit,
    /// The answer's last byte was handed over, and may not have left.
    leaving: AtomicBool,
}

impl Client {
    /// Takes a place for it; none when all are in use.
    pub fn enter(clients: &Arc<Shares>, address: IpAddr) -> Option<Arc<Self>> {
        let place = clients.enter(address)?;
        Some(Arc::new(Client { place, leaving: AtomicBool::new(false) }))
    }

    /// A request's head is whole. Keep what this gives until its answer's body has ended.
    pub(super) fn asks(self: &Arc<Self>) -> Asking {
        self.leaving.store(false, SeqCst);
        self.place.mark_proven();
        Asking(self.clone())
    }

    /// All that was handed over has left for the kernel.
    pub(super) fn flushed(&self) {
        if self.leaving.swap(false, SeqCst) {
            self.place.mark_unproven();
        }
    }

    /// Ends when its place was given to somebody else.
    pub(super) fn lost(&self) -> WaitForCancellationFutureOwned {
        self.place.evicted()
    }
}

/// A request that is being answered.
pub(super) struct Asking(Arc<Client>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.leaving.store(true, SeqCst);
    }
}

/// Tells the kernel to send what there is at once, and to hold little back.
pub(super) fn prepare(stream: &TcpStream) -> std::io::Result<()> {
    // Answers are small and wanted now.
    stream.set_nodelay(true)?;
    // Where it is not known, only memory is lost, and slow clients have less time.
    let _ = SockRef::from(stream).set_tcp_notsent_lowat(UNSENT);
    Ok(())
}
