//! Handshakes that others began: how many there may be, and whose.
//!
//! **Strangers keep nobody out.** Until its handshake proves the cluster's secret anybody may be at
//! the other end, so a handshake has a place of those that strangers share ([`crate::shares`]): an
//! address that opens connections and says nothing makes room for itself. Addresses at which a
//! member was met have places of their own.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::core::ConnectedPoint;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::names;
use crate::shares::{Bounds, Place, Shares};

/// Handshakes of strangers. One takes a few round trips, and two seconds at most; each costs a file
/// and some 10 KB. An address has 32, so that a hundred devices that boot behind one router join in
/// a second. From 32 on, those that said nothing have half a second: a device that dials speaks at
/// once.
const STRANGERS: Bounds =
    Bounds { places: 128, crowded: 32, each: 32, hurry: Duration::from_millis(500) };
/// Handshakes from addresses of members: all that a node is linked to may dial at once after a cut.
const MEMBERS: Bounds =
    Bounds { places: 128, crowded: 64, each: 64, hurry: Duration::from_millis(500) };
/// Addresses of members that are remembered; those that were met longest ago are forgotten first.
/// More than a node has links.
const KNOWN: usize = 1024;

/// Who may begin a handshake.
#[derive(Debug)]
pub(super) struct Door {
    strangers: Arc<Shares>,
    members: Arc<Shares>,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    /// Handshakes under way: as many as there are places.
    under_way: BTreeMap<SocketAddr, Weak<Handshake>>,
    /// Where members were met, and when: a count that only grows.
    known: BTreeMap<IpAddr, u64>,
    met: u64,
}

/// A handshake under way.
#[derive(Debug)]
struct Handshake {
    place: Place,
    done: AtomicBool,
}

impl Door {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Door {
            strangers: Shares::new(STRANGERS),
            members: Shares::new(MEMBERS),
            book: Mutex::default(),
        })
    }

    /// Lets a connection of another node in; an error when there is no room for it.
    pub(super) fn enter(self: &Arc<Self>, address: SocketAddr) -> io::Result<Guard> {
        let mut book = self.lock();
        let shares = if book.known.contains_key(&plain(address.ip())) {
            &self.members
        } else {
            &self.strangers
        };
        let full = || {
            io::Error::new(io::ErrorKind::ConnectionRefused, "too many handshakes are under way")
        };
        let place = shares.enter(address.ip()).ok_or_else(full)?;
        let lost = Box::pin(place.lost());
        let handshake = Arc::new(Handshake { place, done: AtomicBool::new(false) });
        book.under_way.insert(address, Arc::downgrade(&handshake));
        Ok(Guard { door: self.clone(), address, handshake, lost, heard: false })
    }

    /// A handshake ended well: there is a member at the other end.
    pub(super) fn proven(&self, point: &ConnectedPoint) {
        let address: &Multiaddr = match point {
            ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr,
            ConnectedPoint::Dialer { address, .. } => address,
        };
        let Some(address) = names::socket(address) else { return };
        let mut book = self.lock();
        let handshake = point.is_listener().then(|| book.under_way.remove(&address)).flatten();
        book.meet(plain(address.ip()));
        drop(book);
        if let Some(handshake) = handshake.as_ref().and_then(Weak::upgrade) {
            handshake.done.store(true, Relaxed);
            // What it is from now on is bounded elsewhere.
            handshake.place.leave();
        }
    }

    /// Handshakes that made room for others, and those for which there was none.
    pub(super) fn report(&self, all: &mut BTreeMap<String, u64>) {
        for (who, shares) in [("strangers", &self.strangers), ("members", &self.members)] {
            let lost = &shares.lost;
            for (why, counter) in [
                ("share", &lost.share),
                ("silent", &lost.silent),
                ("full", &lost.full),
                ("refused", &lost.refused),
            ] {
                all.insert(format!("net_handshakes_{who}_{why}"), counter.load(Relaxed));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn meet(&mut self, address: IpAddr) {
        self.met += 1;
        self.known.insert(address, self.met);
        if self.known.len() > KNOWN {
            let oldest =
                self.known.iter().min_by_key(|(_, met)| **met).map(|(address, _)| *address);
            oldest.and_then(|oldest| self.known.remove(&oldest));
        }
    }
}

fn plain(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// A connection's part in it, until its handshake is done or given up.
pub(super) struct Guard {
    door: Arc<Door>,
    address: SocketAddr,
    handshake: Arc<Handshake>,
    lost: Pin<Box<WaitForCancellationFutureOwned>>,
    heard: bool,
}

impl Guard {
    /// Whether the handshake is over, and this with it.
    pub(super) fn is_done(&self) -> bool {
        self.handshake.done.load(Relaxed)
    }

    /// Looks at what reading gave: bytes, or the end because the place was given to somebody else.
    pub(super) fn read(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Ok(bytes)) if bytes > 0 && !self.heard => {
                self.heard = true;
                self.handshake.place.heard();
                polled
            }
            Poll::Ready(_) => polled,
            Poll::Pending => self.lost.as_mut().poll(cx).map(|()| Err(made_room())),
        }
    }

    /// Ends with an error when the place was given to somebody else.
    pub(super) async fn lost(&mut self) -> io::Error {
        self.lost.as_mut().await;
        made_room()
    }
}

fn made_room() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "a handshake made room for another one")
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut book = self.door.lock();
        let ours =
            |found: &Weak<Handshake>| std::ptr::eq(found.as_ptr(), Arc::as_ptr(&self.handshake));
        if book.under_way.get(&self.address).is_some_and(ours) {
            book.under_way.remove(&self.address);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn from(address: &str) -> ConnectedPoint {
        let send_back_addr = names::parse(address).unwrap();
        ConnectedPoint::Listener {
            local_addr: names::parse("10.0.0.9:7700").unwrap(),
            send_back_addr,
        }
    }

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    fn is_lost(guard: &mut Guard) -> bool {
        guard.lost.as_mut().now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_take_no_place_of_a_member() {
        let door = Door::new();
        let first = door.enter(at("10.0.0.1:1")).unwrap();
        door.proven(&from("10.0.0.1:1"));
        assert!(first.is_done());
        let enter = |n: u16| door.enter(at(&format!("10.1.{}.{}:5", n / 200, n % 200))).unwrap();
        let before: Vec<_> = (0..500).map(enter).collect();
        let mut member = door.enter(at("10.0.0.1:2")).unwrap();
        let after: Vec<_> = (500..1000).map(enter).collect();
        assert!(!is_lost(&mut member));
        assert_eq!(
            (door.strangers.lost.full.load(Relaxed), door.members.lost.full.load(Relaxed)),
            (1000 - 128, 0)
        );
        drop((first, before, member, after));
        assert!(door.lock().under_way.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_that_speaks_outlasts_silent_ones() {
        let door = Door::new();
        let mut speaks = door.enter(at("10.0.0.1:1")).unwrap();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(speaks.read(&mut cx, Poll::Ready(Ok(1))).is_ready());
        let mut silent: Vec<_> =
            (2..200).map(|port| door.enter(at(&format!("10.0.0.1:{port}"))).unwrap()).collect();
        assert!(!is_lost(&mut speaks));
        assert_eq!(
            silent.iter_mut().filter_map(|guard| (!is_lost(guard)).then_some(())).count(),
            31
        );
        assert!(silent[0].read(&mut cx, Poll::Pending).is_ready(), "it ends, and its file is free");
    }

    #[test]
    fn members_met_longest_ago_are_forgotten_first() {
        let mut book = Book::default();
        let ip = |n: usize| {
            IpAddr::from([10, 0, u8::try_from(n / 256).unwrap(), u8::try_from(n % 256).unwrap()])
        };
        (0..KNOWN).for_each(|n| book.meet(ip(n)));
        book.meet(ip(0));
        book.meet(ip(KNOWN));
        assert_eq!(book.known.len(), KNOWN);
        assert!(book.known.contains_key(&ip(0)) && !book.known.contains_key(&ip(1)));
    }
}
