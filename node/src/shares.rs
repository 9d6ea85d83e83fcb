//! Places for parties that have not proved anything yet: a connection without a request, a
//! handshake under way.
//!
//! **No address can keep the others out.** A place is *unproven* until its holder has shown
//! something that costs more than a connection: a whole request, or a key of this cluster. When
//! places run short, unproven holders are evicted: first those of the address that has the most of
//! them, and of these the oldest. A proven holder is never evicted.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// The number of places, and how addresses share them.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// All places. When all are taken, a newcomer evicts an unproven holder.
    pub places: usize,
    /// Taken places from which on holders are evicted ahead of need: below, `per_address` and
    /// `silent_timeout` do not apply.
    pub crowded: usize,
    /// Unproven places of one address above `crowded`; a newcomer of that address evicts the
    /// address's own oldest.
    pub per_address: usize,
    /// How long a silent holder may be unproven above `crowded`.
    pub silent_timeout: Duration,
}

/// The network that counts as one address: an IPv4 address, or the /64 of an IPv6 subscriber.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Group(IpAddr);

impl Group {
    /// The group of an address. A mapped IPv4 address counts as IPv4.
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

/// Numbers of evicted and refused holders since the start, by reason.
#[derive(Debug, Default)]
pub struct Evictions {
    /// Above `crowded`: their address had its share.
    pub share: AtomicU64,
    /// Above `crowded`: they were silent for too long.
    pub silent: AtomicU64,
    /// All places were taken, and a newcomer came.
    pub full: AtomicU64,
    /// Newcomers that were refused because every holder was proven.
    pub refused: AtomicU64,
}

/// The places and their holders.
#[derive(Debug)]
pub struct Shares {
    bounds: Bounds,
    holders: Mutex<Holders>,
    /// Numbers of evictions, by reason.
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
    /// Since when the holder is unproven; none while it is proven.
    since: Option<Instant>,
    /// The holder sent something, though not enough yet.
    has_spoken: bool,
    evicted: CancellationToken,
}

impl Shares {
    /// Places without holders.
    pub fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Shares { bounds, holders: Mutex::default(), evictions: Evictions::default() })
    }

    /// Takes a place for a holder at this address; none when all holders are proven.
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
        // An evicted holder changes nothing any more.
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

    /// The group with the most unproven holders; of several, the one whose next holder to evict
    /// comes first.
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

    /// Evicts a holder of the group: silent ones before active ones, and of these the oldest.
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

/// A taken place, freed when dropped.
#[derive(Debug)]
pub struct Permit {
    shares: Arc<Shares>,
    number: u64,
    evicted: CancellationToken,
}

impl Permit {
    /// Marks the holder as proven: it keeps its place.
    pub fn mark_proven(&self) {
        self.shares.change(self.number, |holder| holder.since = None);
    }

    /// Marks the holder as unproven again, from now on.
    pub fn mark_unproven(&self) {
        self.shares.change(self.number, |holder| holder.since = Some(Instant::now()));
    }

    /// Notes that the holder sent something.
    pub fn mark_active(&self) {
        self.shares.change(self.number, |holder| holder.has_spoken = true);
    }

    /// Frees the place before this is dropped.
    pub fn release(&self) {
        self.shares.lock().all.remove(&self.number);
    }

    /// Resolves when the holder was evicted.
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

    /// A single busy client is not limited while places are free.
    #[test]
    fn below_crowded_an_address_may_take_many_places() {
        let shares = Shares::new(BOUNDS);
        let held: Vec<_> = (0..6).map(|_| shares.enter(ip(1)).unwrap()).collect();
        assert!(!held.iter().any(is_evicted));
    }

    /// An address opens a hundred connections: it evicts its own oldest, and other addresses find
    /// room.
    #[test]
    fn flood_from_one_address_evicts_its_own() {
        let shares = Shares::new(BOUNDS);
        let flood: Vec<_> = (0..100).map(|_| shares.enter(ip(1)).unwrap()).collect();
        assert_eq!(flood.iter().filter(|permit| !is_evicted(permit)).count(), 6);
        assert!(flood[..94].iter().all(is_evicted), "the oldest go");
        let others = [shares.enter(ip(2)).unwrap(), shares.enter(ip(3)).unwrap()];
        // All places are taken: the address that has the most must give one up.
        let third = shares.enter(ip(4)).unwrap();
        assert!(!others.iter().chain([&third]).any(is_evicted));
        assert_eq!(
            (shares.evictions.share.load(Relaxed), shares.evictions.full.load(Relaxed)),
            (94, 1)
        );
        drop((flood, others, third));
        assert!(shares.lock().all.is_empty());
    }

    /// A newcomer is refused while all holders are proven.
    #[test]
    fn proven_holders_are_never_evicted() {
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

    /// Slow clients are harmless while there is room.
    #[tokio::test(start_paused = true)]
    async fn silent_holders_time_out_only_above_crowded() {
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

    /// Eight addresses hold a place each, and one of them has sent bytes.
    #[test]
    fn oldest_silent_holder_is_evicted_first() {
        let shares = Shares::new(BOUNDS);
        let held: Vec<_> = (0..8).map(|n| shares.enter(ip(n)).unwrap()).collect();
        held[0].mark_active();
        let newcomer = shares.enter(ip(9)).unwrap();
        assert!(
            is_evicted(&held[1]) && held.iter().filter(|permit| is_evicted(permit)).count() == 1
        );
        drop(newcomer);
    }

    /// A subscriber can use any address of its /64.
    #[test]
    fn ipv6_subscriber_counts_as_one_address() {
        let group = |text: &str| Group::of(text.parse().unwrap());
        assert_eq!(group("2001:db8::1"), group("2001:db8::ffff:1"));
        assert_ne!(group("2001:db8::1"), group("2001:db8:0:1::1"));
        assert_eq!(group("::ffff:10.0.0.1"), group("10.0.0.1"));
        assert_eq!(group("2001:db8::1").to_string(), "2001:db8::/64");
    }
}
