//! Places that anybody may take before it has shown what it is: a connection without a request yet,
//! a handshake under way.
//!
//! **No address keeps the others out.** A place is *unproven* until its holder has shown something
//! that costs more than a connection: a whole request, a key of this cluster. When places run
//! short, unproven ones make room, those of the address that has the most of them first, and of
//! these the oldest. A place that is proven is never taken away.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How many places there are, and how they are shared.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// All places. A newcomer to a full house takes the place of an unproven holder.
    pub places: usize,
    /// Taken places from which on room is made ahead of need: below, nobody is hurried.
    pub crowded: usize,
    /// Unproven places of one address in a crowd; a newcomer of that address takes the place of its
    /// own oldest.
    pub each: usize,
    /// How long a holder that says nothing may be unproven in a crowd.
    pub hurry: Duration,
}

/// The network that an address stands for: an IPv4 address, or the /64 that one IPv6 subscriber
/// has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Group(IpAddr);

impl Group {
    /// The group of an address. A mapped IPv4 address is one.
    pub fn of(address: IpAddr) -> Self {
        Group(match address.to_canonical() {
            IpAddr::V4(ip) => IpAddr::V4(ip),
            IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        })
    }
}

impl std::fmt::Display for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => write!(f, "{ip}"),
            IpAddr::V6(ip) => write!(f, "{ip}/64"),
        }
    }
}

/// Why holders lost their places, or got none, since the start.
#[derive(Debug, Default)]
pub struct Lost {
    /// In a crowd: their address had its share.
    pub share: AtomicU64,
    /// In a crowd: they said nothing for too long.
    pub silent: AtomicU64,
    /// For a newcomer, when no place was free.
    pub full: AtomicU64,
    /// Newcomers that found every place proven.
    pub refused: AtomicU64,
}

/// The places.
#[derive(Debug)]
pub struct Shares {
    bounds: Bounds,
    book: Mutex<Book>,
    /// Who went, and why.
    pub lost: Lost,
}

#[derive(Debug, Default)]
struct Book {
    next: u64,
    /// At most `places`.
    holders: BTreeMap<u64, Holder>,
}

#[derive(Debug)]
struct Holder {
    group: Group,
    /// Since when it is unproven; none while it is proven.
    since: Option<Instant>,
    /// It said something, though not enough yet.
    heard: bool,
    lost: CancellationToken,
}

impl Shares {
    /// Empty places.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Shares { bounds, book: Mutex::default(), lost: Lost::default() })
    }

    /// A place for a holder at this address; none when all are taken by holders that are proven.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let Bounds { places, crowded, each, hurry } = self.bounds;
        let (group, now) = (Group::of(address), Instant::now());
        let mut book = self.lock();
        if book.holders.len() >= crowded {
            let silent = book.remove_silent(|since| now.saturating_duration_since(since) >= hurry);
            self.lost.silent.fetch_add(silent, Relaxed);
            if book.unproven().filter(|(_, holder)| holder.group == group).count() >= each
                && book.remove_first(group)
            {
                self.lost.share.fetch_add(1, Relaxed);
            }
        }
        if book.holders.len() >= places {
            let Some(largest) = book.largest() else {
                self.lost.refused.fetch_add(1, Relaxed);
                return None;
            };
            book.remove_first(largest);
            self.lost.full.fetch_add(1, Relaxed);
        }
        let number = book.next;
        book.next += 1;
        let lost = CancellationToken::new();
        book.holders
            .insert(number, Holder { group, since: Some(now), heard: false, lost: lost.clone() });
        Some(Place { shares: self.clone(), number, lost })
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Holder)) {
        // One that lost its place changes nothing any more.
        if let Some(holder) = self.lock().holders.get_mut(&number) {
            change(holder);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn unproven(&self) -> impl Iterator<Item = (u64, &Holder)> {
        self.holders
            .iter()
            .filter(|(_, holder)| holder.since.is_some())
            .map(|(number, holder)| (*number, holder))
    }

    /// The group with the most unproven holders; of several, the one whose first must go first.
    fn largest(&self) -> Option<Group> {
        let mut groups: BTreeMap<Group, (usize, (bool, Option<Instant>))> = BTreeMap::new();
        for (_, holder) in self.unproven() {
            let order = (holder.heard, holder.since);
            let (count, first) = groups.entry(holder.group).or_insert((0, order));
            *count += 1;
            *first = order.min(*first);
        }
        groups
            .into_iter()
            .min_by_key(|(_, (count, first))| (Reverse(*count), *first))
            .map(|(group, _)| group)
    }

    /// Takes the place of the group's holder that must go first: the silent before those that
    /// spoke, the oldest of them.
    fn remove_first(&mut self, group: Group) -> bool {
        let of_group = self.unproven().filter(|(_, holder)| holder.group == group);
        let first = of_group
            .min_by_key(|(number, holder)| (holder.heard, holder.since, *number))
            .map(|(number, _)| number);
        first.is_some_and(|number| self.remove(number))
    }

    fn remove_silent(&mut self, is_old: impl Fn(Instant) -> bool) -> u64 {
        let silent = self
            .unproven()
            .filter(|(_, holder)| !holder.heard && holder.since.is_some_and(&is_old));
        let numbers: Vec<u64> = silent.map(|(number, _)| number).collect();
        numbers.into_iter().map(|number| u64::from(self.remove(number))).sum()
    }

    fn remove(&mut self, number: u64) -> bool {
        self.holders.remove(&number).inspect(|holder| holder.lost.cancel()).is_some()
    }
}

/// One place, given back when dropped.
#[derive(Debug)]
pub struct Place {
    shares: Arc<Shares>,
    number: u64,
    lost: CancellationToken,
}

impl Place {
    /// Its holder has shown what it is: the place is kept.
    pub fn prove(&self) {
        self.shares.change(self.number, |holder| holder.since = None);
    }

    /// It must show it again, from now on.
    pub fn doubt(&self) {
        self.shares.change(self.number, |holder| holder.since = Some(Instant::now()));
    }

    /// Its holder said something.
    pub fn heard(&self) {
        self.shares.change(self.number, |holder| holder.heard = true);
    }

    /// Gives the place back, before this is dropped.
    pub fn leave(&self) {
        self.shares.lock().holders.remove(&self.number);
    }

    /// Ends when the place was given to somebody else.
    pub fn lost(&self) -> WaitForCancellationFutureOwned {
        self.lost.clone().cancelled_owned()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { places: 8, crowded: 6, each: 3, hurry: Duration::from_secs(5) };

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn has_lost(place: &Place) -> bool {
        place.lost.is_cancelled()
    }

    #[test]
    fn one_address_may_take_places_without_a_crowd() {
        let shares = Shares::new(BOUNDS);
        let held: Vec<_> = (0..6).map(|_| shares.enter(ip(1)).unwrap()).collect();
        assert!(!held.iter().any(has_lost));
    }

    /// A flood of connections from one address evicts its own oldest ones; two other addresses keep
    /// theirs.
    #[test]
    fn flood_from_one_address_evicts_its_own() {
        let shares = Shares::new(BOUNDS);
        let flood: Vec<_> = (0..100).map(|_| shares.enter(ip(1)).unwrap()).collect();
        assert_eq!(flood.iter().filter(|place| !has_lost(place)).count(), 6);
        assert!(flood[..94].iter().all(has_lost), "the oldest go");
        let others = [shares.enter(ip(2)).unwrap(), shares.enter(ip(3)).unwrap()];
        // All places are taken: the address with the most unproven ones makes room.
        let third = shares.enter(ip(4)).unwrap();
        assert!(!others.iter().chain([&third]).any(has_lost));
        assert_eq!((shares.lost.share.load(Relaxed), shares.lost.full.load(Relaxed)), (94, 1));
        drop((flood, others, third));
        assert!(shares.lock().holders.is_empty());
    }

    /// With all places proven a newcomer is refused; once one is unproven again, it makes room.
    #[test]
    fn proven_holders_keep_their_places() {
        let shares = Shares::new(BOUNDS);
        let proven: Vec<_> =
            (0..8).map(|_| shares.enter(ip(1)).unwrap()).inspect(Place::prove).collect();
        assert!(shares.enter(ip(2)).is_none());
        assert_eq!(shares.lost.refused.load(Relaxed), 1);
        proven[3].doubt();
        let newcomer = shares.enter(ip(2)).unwrap();
        assert!(has_lost(&proven[3]) && proven.iter().filter(|place| has_lost(place)).count() == 1);
        drop(newcomer);
    }

    /// Below the crowded bound a silent holder keeps its place; above it, those that stay silent
    /// for too long are evicted.
    #[tokio::test(start_paused = true)]
    async fn silent_holders_are_evicted_only_in_a_crowd() {
        let shares = Shares::new(BOUNDS);
        let mut held: Vec<_> = (0..5).map(|n| shares.enter(ip(n)).unwrap()).collect();
        held[0].heard();
        tokio::time::advance(Duration::from_secs(60)).await;
        held.push(shares.enter(ip(5)).unwrap());
        assert!(!held.iter().any(has_lost), "five are no crowd");
        let newcomer = shares.enter(ip(6)).unwrap();
        let lost: Vec<bool> = held.iter().map(has_lost).collect();
        assert_eq!(lost, [false, true, true, true, true, false]);
        assert_eq!((shares.lost.silent.load(Relaxed), has_lost(&newcomer)), (4, false));
    }

    /// Of many addresses with one holder each, a holder that has sent something outlasts the silent
    /// ones.
    #[test]
    fn oldest_silent_holder_is_evicted_first() {
        let shares = Shares::new(BOUNDS);
        let held: Vec<_> = (0..8).map(|n| shares.enter(ip(n)).unwrap()).collect();
        held[0].heard();
        let newcomer = shares.enter(ip(9)).unwrap();
        assert!(has_lost(&held[1]) && held.iter().filter(|place| has_lost(place)).count() == 1);
        drop(newcomer);
    }

    #[test]
    fn ipv6_subscriber_counts_as_one_address() {
        let group = |text: &str| Group::of(text.parse().unwrap());
        assert_eq!(group("2001:db8::1"), group("2001:db8::ffff:1"));
        assert_ne!(group("2001:db8::1"), group("2001:db8:0:1::1"));
        assert_eq!(group("::ffff:10.0.0.1"), group("10.0.0.1"));
        assert_eq!(group("2001:db8::1").to_string(), "2001:db8::/64");
    }
}
