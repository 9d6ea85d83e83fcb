//! Limits on the handshakes that other nodes begin.
//!
//! **Strangers cannot keep members out.** Until it is a member's, a connection may come from
//! anybody, so it takes a place of those that strangers share
//! ([`crate::shares`]): an address that opens silent connections only evicts its own. Addresses at
//! which a member was met have places of their own.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::Multiaddr;
use libp2p::core::ConnectedPoint;
use shoal_protocol::model::NodeId;
use shoal_protocol::wire;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::names;
use super::roster::Members;
use crate::shares::{Bounds, Permit, Shares};

/// Handshakes of strangers. One takes a few round trips, at most two seconds, a file descriptor and
/// some 10 KB. An address has 32, so that a hundred devices that boot behind one router join in a
/// second. From 32 handshakes on, silent ones end after half a second: a device that dials sends at
/// once.
const STRANGERS: Bounds = Bounds {
    places: 128,
    crowded: 32,
    per_address: 32,
    silent_timeout: Duration::from_millis(500),
};
/// Handshakes from addresses of members. After a cut all linked peers may dial at once.
const MEMBERS: Bounds = Bounds {
    places: 128,
    crowded: 64,
    per_address: 64,
    silent_timeout: Duration::from_millis(500),
};
/// Bytes that the other end of an inbound connection may send before it is a member's: two
/// greetings of the greatest length, and what the protocols around them take. A stream holds up to
/// 256 KiB that nobody reads yet, so without this a stranger fills the memory with its streams.
const MAX_UNPROVEN: usize = 2 * wire::MAX_MESSAGE + 64 * 1024;
/// Remembered addresses of members: more than a node has links. The one met longest ago is
/// forgotten first.
const MAX_MEMBER_ADDRESSES: usize = 1024;

/// Admits handshakes, and counts the evicted ones.
#[derive(Debug)]
pub(super) struct Admission {
    strangers: Arc<Shares>,
    members: Arc<Shares>,
    handshakes: Mutex<Handshakes>,
    /// Connections that ended because more came than [`MAX_UNPROVEN`].
    talkative: AtomicU64,
    roster: Members,
}

#[derive(Debug, Default)]
struct Handshakes {
    /// Handshakes under way: at most as many as there are places.
    under_way: BTreeMap<SocketAddr, Weak<Handshake>>,
    /// Those of `under_way` that have proved a key which is no member's.
    strangers: BTreeMap<SocketAddr, NodeId>,
    /// Addresses at which members were met, each with the value of `member_sightings` at that time.
    member_addresses: BTreeMap<IpAddr, u64>,
    member_sightings: u64,
}

/// A handshake under way.
#[derive(Debug)]
struct Handshake {
    permit: Permit,
    done: AtomicBool,
}

impl Admission {
    pub(super) fn new(roster: Members) -> Arc<Self> {
        Arc::new(Admission {
            strangers: Shares::new(STRANGERS),
            members: Shares::new(MEMBERS),
            handshakes: Mutex::default(),
            talkative: AtomicU64::new(0),
            roster,
        })
    }

    /// Admits the handshake of an inbound connection; an error when there is no place.
    pub(super) fn admit(self: &Arc<Self>, address: SocketAddr) -> io::Result<HandshakeGuard> {
        let mut handshakes = self.lock();
        let shares = if handshakes.member_addresses.contains_key(&canonical(address.ip())) {
            &self.members
        } else {
            &self.strangers
        };
        let full = || {
            io::Error::new(io::ErrorKind::ConnectionRefused, "too many handshakes are under way")
        };
        let permit = shares.enter(address.ip()).ok_or_else(full)?;
        let evicted = Box::pin(permit.evicted());
        let handshake = Arc::new(Handshake { permit, done: AtomicBool::new(false) });
        handshakes.under_way.insert(address, Arc::downgrade(&handshake));
        Ok(HandshakeGuard { admission: self.clone(), address, handshake, evicted, received: 0 })
    }

    /// A handshake proved the key of the other end. If that is no member's, the connection keeps
    /// its place among the strangers until it is closed, or the node becomes a member.
    pub(super) fn on_proven(&self, point: &ConnectedPoint, node: Option<NodeId>) {
        let address: &Multiaddr = match point {
            ConnectedPoint::Listener { send_back_addr, .. } => send_back_addr,
            ConnectedPoint::Dialer { address, .. } => address,
        };
        let (Some(address), Some(node)) = (names::socket(address), node) else { return };
        let is_member = self.roster.has(&node);
        let mut handshakes = self.lock();
        if !is_member {
            if point.is_listener() && handshakes.under_way.contains_key(&address) {
                handshakes.strangers.insert(address, node);
            }
            return;
        }
        let handshake =
            point.is_listener().then(|| handshakes.under_way.remove(&address)).flatten();
        handshakes.note_member(canonical(address.ip()));
        drop(handshakes);
        release(handshake.as_ref());
    }

    /// The members are other ones: connections of strangers that are members now count as links.
    pub(super) fn on_roster(&self) {
        let mut handshakes = self.lock();
        let joined: Vec<SocketAddr> = handshakes
            .strangers
            .extract_if(.., |_, node| self.roster.has(node))
            .map(|(address, _)| address)
            .collect();
        for address in joined {
            handshakes.note_member(canonical(address.ip()));
            release(handshakes.under_way.remove(&address).as_ref());
        }
    }

    /// Adds the numbers of evicted and refused handshakes.
    pub(super) fn report(&self, all: &mut BTreeMap<String, u64>) {
        for (who, shares) in [("strangers", &self.strangers), ("members", &self.members)] {
            let evictions = &shares.evictions;
            for (why, counter) in [
                ("share", &evictions.share),
                ("silent", &evictions.silent),
                ("full", &evictions.full),
                ("refused", &evictions.refused),
            ] {
                all.insert(format!("net_handshakes_{who}_{why}"), counter.load(Relaxed));
            }
        }
        let talkative = self.talkative.load(Relaxed);
        all.insert("net_handshakes_strangers_talkative".into(), talkative);
    }

    fn talked_too_much(&self) -> io::Error {
        self.talkative.fetch_add(1, Relaxed);
        io::Error::other("a stranger sent more than a greeting")
    }

    fn lock(&self) -> MutexGuard<'_, Handshakes> {
        self.handshakes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handshakes {
    fn note_member(&mut self, address: IpAddr) {
        self.member_sightings += 1;
        self.member_addresses.insert(address, self.member_sightings);
        if self.member_addresses.len() > MAX_MEMBER_ADDRESSES {
            let oldest = self
                .member_addresses
                .iter()
                .min_by_key(|(_, sighting)| **sighting)
                .map(|(address, _)| *address);
            oldest.and_then(|oldest| self.member_addresses.remove(&oldest));
        }
    }
}

/// The connection counts as a link or a carrier from now on.
fn release(handshake: Option<&Weak<Handshake>>) {
    if let Some(handshake) = handshake.and_then(Weak::upgrade) {
        handshake.done.store(true, Relaxed);
        handshake.permit.release();
    }
}

fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// An admitted handshake, held by its connection until it is done or evicted.
pub(super) struct HandshakeGuard {
    admission: Arc<Admission>,
    address: SocketAddr,
    handshake: Arc<Handshake>,
    evicted: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Bytes until now.
    received: usize,
}

impl HandshakeGuard {
    /// Whether the handshake is done, so that the guard can be dropped.
    pub(super) fn is_done(&self) -> bool {
        self.handshake.done.load(Relaxed)
    }

    /// Passes on the result of a read; an error when the handshake was evicted, or when more came
    /// than anybody has to say who is no member.
    pub(super) fn read(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Ok(bytes)) => {
                if bytes > 0 && self.received == 0 {
                    self.spoke();
                }
                self.received = self.received.saturating_add(bytes);
                match self.received > MAX_UNPROVEN {
                    true => Poll::Ready(Err(self.admission.talked_too_much())),
                    false => polled,
                }
            }
            Poll::Ready(_) => polled,
            Poll::Pending => self.evicted.as_mut().poll(cx).map(|()| Err(evicted_error())),
        }
    }

    /// The other end has sent something.
    pub(super) fn spoke(&mut self) {
        self.handshake.permit.mark_active();
    }

    /// The other end has rights here: it keeps its place, and no newcomer evicts it. The caller
    /// bounds how many such there are, to fewer than there are places.
    pub(super) fn keep(&self) {
        self.handshake.permit.mark_proven();
    }

    /// Returns once the handshake was evicted.
    pub(super) async fn evicted(&mut self) -> io::Error {
        self.evicted.as_mut().await;
        evicted_error()
    }
}

fn evicted_error() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "a handshake made room for another one")
}

impl Drop for HandshakeGuard {
    fn drop(&mut self) {
        let mut handshakes = self.admission.lock();
        let ours =
            |found: &Weak<Handshake>| std::ptr::eq(found.as_ptr(), Arc::as_ptr(&self.handshake));
        if handshakes.under_way.get(&self.address).is_some_and(ours) {
            handshakes.under_way.remove(&self.address);
            handshakes.strangers.remove(&self.address);
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

    fn is_evicted(guard: &mut HandshakeGuard) -> bool {
        guard.evicted.as_mut().now_or_never().is_some()
    }

    /// A thousand strangers connect before and after a member; the member keeps its place.
    #[tokio::test(start_paused = true)]
    async fn strangers_take_no_places_of_members() {
        let (roster, members) = Members::new();
        let admission = Admission::new(members);
        let member = NodeId([1; 32]);
        roster.send_replace([member].into_iter().collect());
        let first = admission.admit(at("10.0.0.1:1")).unwrap();
        admission.on_proven(&from("10.0.0.1:1"), Some(member));
        assert!(first.is_done());
        let admit_one =
            |n: u16| admission.admit(at(&format!("10.1.{}.{}:5", n / 200, n % 200))).unwrap();
        let before: Vec<_> = (0..500).map(admit_one).collect();
        let mut member = admission.admit(at("10.0.0.1:2")).unwrap();
        let after: Vec<_> = (500..1000).map(admit_one).collect();
        assert!(!is_evicted(&mut member));
        assert_eq!(
            (
                admission.strangers.evictions.full.load(Relaxed),
                admission.members.evictions.full.load(Relaxed)
            ),
            (1000 - 128, 0)
        );
        drop((first, before, member, after));
        assert!(admission.lock().under_way.is_empty());
    }

    /// Whoever proves some key still shares the places of strangers, until it is a member.
    #[tokio::test(start_paused = true)]
    async fn stranger_with_a_key_keeps_its_place_until_it_is_admitted() {
        let (roster, members) = Members::new();
        let admission = Admission::new(members);
        let node = NodeId([9; 32]);
        let stranger = admission.admit(at("10.0.0.7:1")).unwrap();
        admission.on_proven(&from("10.0.0.7:1"), Some(node));
        assert!(!stranger.is_done());
        roster.send_replace([node].into_iter().collect());
        admission.on_roster();
        assert!(stranger.is_done());
        assert!(admission.lock().member_addresses.contains_key(&at("10.0.0.7:1").ip()));
    }

    /// Silent connections of the same address evict one another, not the one that sent bytes.
    #[tokio::test(start_paused = true)]
    async fn active_stranger_outlasts_silent_ones() {
        let admission = Admission::new(Members::new().1);
        let mut active = admission.admit(at("10.0.0.1:1")).unwrap();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(active.read(&mut cx, Poll::Ready(Ok(1))).is_ready());
        let mut silent: Vec<_> = (2..200)
            .map(|port| admission.admit(at(&format!("10.0.0.1:{port}"))).unwrap())
            .collect();
        assert!(!is_evicted(&mut active));
        assert_eq!(
            silent.iter_mut().filter_map(|guard| (!is_evicted(guard)).then_some(())).count(),
            31
        );
        assert!(silent[0].read(&mut cx, Poll::Pending).is_ready(), "it ends, and its file is free");
    }

    /// Whoever is no member has little to say, on however many streams; a member has much.
    #[tokio::test(start_paused = true)]
    async fn stranger_that_sends_much_is_cut_off() {
        let admission = Admission::new(Members::new().1);
        let mut stranger = admission.admit(at("10.0.0.1:1")).unwrap();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut read = |bytes| stranger.read(&mut cx, Poll::Ready(Ok(bytes)));
        assert!(matches!(read(2 * wire::MAX_MESSAGE), Poll::Ready(Ok(_))));
        assert!(matches!(read(64 * 1024 + 1), Poll::Ready(Err(_))));
        let mut all = BTreeMap::new();
        admission.report(&mut all);
        assert_eq!(all["net_handshakes_strangers_talkative"], 1);
    }

    /// The remembered addresses are bounded; a member met again counts as new.
    #[test]
    fn oldest_member_address_is_forgotten_first() {
        let mut handshakes = Handshakes::default();
        let ip = |n: usize| {
            IpAddr::from([10, 0, u8::try_from(n / 256).unwrap(), u8::try_from(n % 256).unwrap()])
        };
        (0..MAX_MEMBER_ADDRESSES).for_each(|n| handshakes.note_member(ip(n)));
        handshakes.note_member(ip(0));
        handshakes.note_member(ip(MAX_MEMBER_ADDRESSES));
        assert_eq!(handshakes.member_addresses.len(), MAX_MEMBER_ADDRESSES);
        assert!(
            handshakes.member_addresses.contains_key(&ip(0))
                && !handshakes.member_addresses.contains_key(&ip(1))
        );
    }
}
