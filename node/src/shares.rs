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
    pub per_address: usize,
    /// How long a holder that says nothing may be unproven in a crowd.
    pub silent_timeout: Duration,
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
pub struct Evictions {
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
    holders: Mutex<Holders>,
    /// Who went, and why.
    pub evictions: Evictions,
}

#[derive(Debug, Default)]
struct Holders {
    next: u64,
    /// At most `places`.
    all: BTreeMap<u64, Holder>,
}

#[derive(Debug)]
struct Holder {
    group: Group,
    /// Since when it is unproven; none while it is proven.
    since: Option<Instant>,
    /// It said something, though not enough yet.
    has_spoken: bool,
    evicted: CancellationToken,
}

impl Shares {
    /// Empty places.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Shares { bounds, holders: Mutex::default(), evictions: Evictions::default() })
    }

    /// A place for a holder at this address; none when all are taken by holders that are proven.
    pub fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Permit> {
        let Bounds { places, crowded, per_address, silent_timeout } = self.bounds;
        let (group, now) = (Group::of(address), Instant::now());
        let mut holders = self.lock();
        if holders.all.len() >= crowded {
            let silent = holders
                .evict_silent(|since| now.saturating_duration_since(since) >= silent_timeout);
            self.evictions.silent.fetch_add(silent, Relaxed);
            if holders.unproven().filter(|(_, holder)| holder.group == group).count() >= per_address
                && holders.evict_first(group)
            {
                self.evictions.share.fetch_add(1, Relaxed);
            }
        }
        if holders.all.len() >= places {
            let Some(largest_group) = holders.largest_group() else {
                self.evictions.refused.fetch_add(1, Relaxed);
                return None;
            };
            holders.evict_first(largest_group);
            self.evictions.full.fetch_add(1, Relaxed);
        }
        let number = holders.next;
        holders.next += 1;
        let evicted = CancellationToken::new();
        holders.all.insert(
            number,
            Holder { group, since: Some(now), has_spoken: false, evicted: evicted.clone() },
        );
        Some(Permit { shares: self.clone(), number, evicted })
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Holder)) {
        // One that lost its place changes nothing any more.
        if let Some(holder) = self.lock().all.get_mut(&number) {
            change(holder);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Holders> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Holders {
    fn unproven(&self) -> impl Iterator<Item = (u64, &Holder)> {
        self.all
            .iter()
            .filter(|(_, holder)| holder.since.is_some())
            .map(|(number, holder)| (*number, holder))
    }

    /// The group with the most unproven holders; of several, the one whose first must go first.
    fn largest_group(&self) -> Option<Group> {
        let mut groups: BTreeMap<Group, (usize, (bool, Option<Instant>))> = BTreeMap::new();
        for (_, holder) in self.unproven() {
            let order = (holder.has_spoken, holder.since);
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
    fn evict_first(&mut self, group: Group) -> bool {
        let of_group = self.unproven().filter(|(_, holder)| holder.group == group);
        let first = of_group
            .min_by_key(|(number, holder)| (holder.has_spoken, holder.since, *number))
            .map(|(number, _)| number);
        first.is_some_and(|number| self.evict(number))
    }

    fn evict_silent(&mut self, is_old: impl Fn(Instant) -> bool) -> u64 {
        let silent = self
            .unproven()
            .filter(|(_, holder)| !holder.has_spoken && holder.since.is_some_and(&is_old));
        let numbers: Vec<u64> = silent.map(|(number, _)| number).collect();
        numbers.into_iter().map(|number| u64::from(self.evict(number))).sum()
    }

    fn evict(&mut self, number: u64) -> bool {
        self.all.remove(&number).inspect(|holder| holder.evicted.cancel()).is_some()
    }
}

/// One place, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    shares: Arc<Shares>,
    number: u64,
    evicted: CancellationToken,
}

impl Permit {
    /// Its holder has shown what it is: the place is kept.
    pub fn mark_proven(&self) {
        self.shares.change(self.number, |holder| holder.since = None);
    }

    /// It must show it again, from now on.
    pub fn mark_unproven(&self) {
        self.shares.change(self.number, |holder| holder.since = Some(Instant::now()));
    }

    /// Its holder said something.
    pub fn mark_active(&self) {
        self.shares.change(self.number, |holder| holder.has_spoken = true);
    }

    /// Gives the place back, before this is dropped.
    pub fn release(&self) {
        self.shares.lock().all.remove(&self.number);
    }

    /// Ends when the place was given to somebody else.
    pub fn evicted(&self) -> WaitForCancellationFutureOwned {
        self.evicted.clone().cancelled_owned()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { places: 8, crowded: 6, per_address: 3, silent_timeout: Duration::from_secs(5) };

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn is_evicted(permit: &Permit) -> bool {
        permit.evicted.is_cancelled()
    }

    #[test]
    fn one_address_without_a_crowd_takes_what_it_needs() {
        let shares = Shares::new(BOUNDS);
        let held: Vec<_> = (0..6).map(|_| shares.enter(ip(1)).unwrap()).collect();
        assert!(!held.iter().any(is_evicted));
    }

    #[test]
    fn a_flood_from_one_address_replaces_itself() {
        let shares = Shares::new(BOUNDS);
        let flood: Vec<_> = (0..100).map(|_| shares.enter(ip(1)).unwrap()).collect();
        assert_eq!(flood.iter().filter(|permit| !is_evicted(permit)).count(), 6);
        assert!(flood[..94].iter().all(is_evicted), "the oldest go");
        let others = [shares.enter(ip(2)).unwrap(), shares.enter(ip(3)).unwrap()];
        // Full: room is made by the address that has the most.
        let third = shares.enter(ip(4)).unwrap();
        assert!(!others.iter().chain([&third]).any(is_evicted));
        assert_eq!(
            (shares.evictions.share.load(Relaxed), shares.evictions.full.load(Relaxed)),
            (94, 1)
        );
        drop((flood, others, third));
        assert!(shares.lock().all.is_empty());
    }

    #[test]
    fn proven_holders_keep_their_places() {
        let shares = Shares::new(BOUNDS);
        let proven: Vec<_> =
            (0..8).map(|_| shares.enter(ip(1)).unwrap()).inspect(Permit::mark_proven).collect();
        assert!(shares.enter(ip(2)).is_none());
        assert_eq!(shares.evictions.refused.load(Relaxed), 1);
        proven[3].mark_unproven();
        let newcomer = shares.enter(ip(2)).unwrap();
        assert!(
            is_evicted(&proven[3])
                && proven.iter().filter(|permit| is_evicted(permit)).count() == 1
        );
        drop(newcomer);
    }

    #[tokio::test(start_paused = true)]
    async fn silent_holders_are_hurried_in_a_crowd_alone() {
        let shares = Shares::new(BOUNDS);
        let mut held: Vec<_> = (0..5).map(|n| shares.enter(ip(n)).unwrap()).collect();
        held[0].mark_active();
        tokio::time::advance(Duration::from_secs(60)).await;
        held.push(shares.enter(ip(5)).unwrap());
        assert!(!held.iter().any(is_evicted), "five are no crowd");
        let newcomer = shares.enter(ip(6)).unwrap();
        let evicted: Vec<bool> = held.iter().map(is_evicted).collect();
        assert_eq!(evicted, [false, true, true, true, true, false]);
        assert_eq!((shares.evictions.silent.load(Relaxed), is_evicted(&newcomer)), (4, false));
    }

    #[test]
    fn of_many_addresses_the_oldest_silent_goes_first() {
        let shares = Shares::new(BOUNDS);
        let held: Vec<_> = (0..8).map(|n| shares.enter(ip(n)).unwrap()).collect();
        held[0].mark_active();
        let newcomer = shares.enter(ip(9)).unwrap();
        assert!(
            is_evicted(&held[1]) && held.iter().filter(|permit| is_evicted(permit)).count() == 1
        );
        drop(newcomer);
    }

    #[test]
    fn an_ipv6_subscriber_is_one_address() {
        let group = |text: &str| Group::of(text.parse().unwrap());
        assert_eq!(group("2001:db8::1"), group("2001:db8::ffff:1"));
        assert_ne!(group("2001:db8::1"), group("2001:db8:0:1::1"));
        assert_eq!(group("::ffff:10.0.0.1"), group("10.0.0.1"));
        assert_eq!(group("2001:db8::1").to_string(), "2001:db8::/64");
    }
}
