//! Room for a replica of a higher priority: the replicas of lower ones that a bidder would stop for
//! it, and the room that it keeps free until that one has come.
//!
//! **Nothing is promised before it is free.** An owner that found no taker asks the bidder with the
//! cheapest victims to make room. The bidder lets them go, and takes part in the owner's next
//! auction as any other: it bids once they have stopped. So reserved and committed resources never
//! exceed what it offers, and an owner may die in between: the next one auctions the place as well.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::{AuctionId, Digest, Need, NeedSum, NodeId, ReplicaId, Time};

use super::bidder::Bidder;
use super::cx::Cx;
use super::fact::Fact;
use super::offer::Knowledge;

/// Workloads for which a bidder keeps room at a time. Each takes some 200 bytes.
pub(super) const MAX_KEPT: usize = 64;
/// The time for which room is kept: longer than victims take to stop, and the owner to ask again.
const KEPT_FOR: Duration = Duration::from_secs(120);

/// A replica here that may be stopped for one of a higher priority.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evictable {
    /// The replica.
    pub replica: ReplicaId,
    /// Its priority.
    pub priority: i32,
    /// All that it takes here.
    pub need: Need,
}

/// The replicas to stop, and the highest priority among them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Eviction {
    pub(super) victims: Vec<ReplicaId>,
    pub(super) highest: i32,
}

/// The cheapest way to make room for `need`: the highest priority among the victims is as low as
/// can be, and of those no more are taken than it needs. `None` if all of `held` would not do, or
/// if there is room already.
pub(super) fn choose(free: &Need, need: &Need, mut held: Vec<Evictable>) -> Option<Eviction> {
    if free.holds(need) {
        return None;
    }
    held.sort_by(|a, b| {
        (a.priority, b.need.size, a.replica).cmp(&(b.priority, a.need.size, b.replica))
    });
    let mut sum = free.clone();
    let mut victims: Vec<Evictable> = Vec::new();
    let mut rest = held.into_iter().peekable();
    while !sum.holds(need) {
        // All of one priority, so that the choice among them is free.
        let next = rest.next()?;
        let priority = next.priority;
        for victim in std::iter::once(next)
            .chain(std::iter::from_fn(|| rest.next_if(|it| it.priority == priority)))
        {
            sum = sum.plus(&victim.need);
            victims.push(victim);
        }
    }
    // The highest and smallest are spared first.
    let mut at = victims.len();
    while at > 0 {
        at -= 1;
        let without = sum.minus(&victims[at].need);
        if without.holds(need) {
            sum = without;
            victims.remove(at);
        }
    }
    let highest = victims.iter().map(|it| it.priority).max()?;
    Some(Eviction { victims: victims.into_iter().map(|it| it.replica).collect(), highest })
}

/// The room that is kept free, by workload. It is no promise: it only keeps others out.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptRooms(BTreeMap<Digest, Kept>);

#[derive(Clone, Debug)]
struct Kept {
    replica: ReplicaId,
    need: Need,
    priority: i32,
    until: Time,
}

impl KeptRooms {
    /// Keeps room for a replica of a workload. `false` if it is kept already, or for too many.
    pub(super) fn keep(
        &mut self,
        now: Time,
        replica: ReplicaId,
        need: Need,
        priority: i32,
    ) -> bool {
        let uid = replica.uid;
        self.0.retain(|_, kept| now < kept.until);
        if self.0.len() >= MAX_KEPT || self.0.contains_key(&uid) {
            return false;
        }
        self.0.insert(uid, Kept { replica, need, priority, until: now + KEPT_FOR });
        true
    }

    /// The replica has come, here or elsewhere.
    pub(super) fn free(&mut self, uid: &Digest) {
        self.0.remove(uid);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The room that a replica of this workload and priority has to leave to others, whose places
    /// are still open.
    pub(super) fn before(
        &self,
        now: Time,
        uid: &Digest,
        priority: i32,
        is_open: impl Fn(&ReplicaId) -> bool,
    ) -> NeedSum {
        let mut sum = NeedSum::default();
        let counts = |(other, kept): &(&Digest, &Kept)| {
            let counts = *other != uid && kept.priority >= priority && now < kept.until;
            counts && is_open(&kept.replica)
        };
        self.0.iter().filter(counts).for_each(|(_, kept)| sum.add(&kept.need, 1));
        sum
    }
}

impl Bidder {
    /// The room that a replica of this workload and priority has to leave to others.
    pub(super) fn kept_before(&self, cx: &Cx<'_>, uid: &Digest, priority: i32) -> NeedSum {
        self.kept.before(cx.now, uid, priority, |replica| cx.context.is_open(replica))
    }

    /// The replicas here that would have to go for one of this priority. Only one above 0 takes
    /// another's place.
    pub(super) fn eviction(
        &self,
        cx: &Cx<'_>,
        free: &Need,
        need: &Need,
        priority: i32,
    ) -> Option<Eviction> {
        let held = if priority > 0 { cx.context.evictable(priority) } else { Vec::new() };
        choose(free, need, held)
    }

    /// No node had room for a replica, and its owner found this one's victims the cheapest.
    pub(super) fn on_make_room(
        &mut self,
        cx: &mut Cx<'_>,
        from: NodeId,
        auction: AuctionId,
        generation: Digest,
        replica: ReplicaId,
    ) {
        if auction.owner != from {
            return cx.misbehaved(from, "a call for room in another owner's auction");
        }
        let Knowledge::Known { need, priority, fit: Ok(()), .. } =
            cx.context.knowledge(&replica.uid, &generation)
        else {
            return;
        };
        let is_wanted = cx.context.is_open(&replica) && cx.context.own_claim(&replica).is_none();
        if !is_wanted || cx.context.read_only() || cx.context.leaving() {
            return;
        }
        let kept = self.kept_before(cx, &replica.uid, priority);
        let free = self.ledger.without(&cx.context.committed().plus(&kept));
        let Some(Eviction { victims, .. }) = self.eviction(cx, &free, &need, priority) else {
            return;
        };
        if self.kept.keep(cx.now, replica, need, priority) {
            cx.facts.push(Fact::Evict { victims, replica });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Place, Resources};

    fn need(memory: u64, cameras: u64) -> Need {
        let counted = [("camera".to_owned(), cameras)].into_iter().collect();
        Need { size: Resources { memory, cpu: 0 }, counted }
    }

    fn held(all: &[(i32, u64, u64)]) -> Vec<Evictable> {
        let one = |(index, (priority, memory, cameras)): (usize, &(i32, u64, u64))| Evictable {
            replica: ReplicaId { uid: Digest([1; 32]), place: Place::Ordinal(index as u32) },
            priority: *priority,
            need: need(*memory, *cameras),
        };
        all.iter().enumerate().map(one).collect()
    }

    /// The places of the victims, in order, and the highest priority among them.
    fn chosen(free: Need, wanted: Need, all: &[(i32, u64, u64)]) -> Option<(Vec<u32>, i32)> {
        let Eviction { victims, highest } = choose(&free, &wanted, held(all))?;
        let index = |it: &ReplicaId| match it.place {
            Place::Ordinal(index) => index,
            _ => unreachable!(),
        };
        let mut places: Vec<u32> = victims.iter().map(index).collect();
        places.sort();
        Some((places, highest))
    }

    #[test]
    fn lowest_go_first_and_no_more_than_needed() {
        let all = [(5, 10, 0), (-3, 10, 0), (0, 10, 0), (0, 30, 0)];
        assert_eq!(chosen(need(0, 0), need(10, 0), &all), Some((vec![1], -3)));
        // The higher ones are spared, though one of them alone would do.
        assert_eq!(chosen(need(5, 0), need(25, 0), &all), Some((vec![3], 0)));
        assert_eq!(chosen(need(0, 0), need(40, 0), &all), Some((vec![1, 3], 0)));
        assert_eq!(chosen(need(0, 0), need(60, 0), &all), Some((vec![0, 1, 2, 3], 5)));
        assert_eq!(chosen(need(0, 0), need(61, 0), &all), None, "all of them would not do");
        assert_eq!(chosen(need(10, 0), need(10, 0), &all), None, "there is room");
    }

    /// One that frees nothing of what lacks is left alone.
    #[test]
    fn only_those_go_that_have_what_lacks() {
        let all = [(0, 10, 0), (1, 10, 1), (2, 10, 1)];
        assert_eq!(chosen(need(50, 0), need(10, 1), &all), Some((vec![1], 1)));
        assert_eq!(chosen(need(0, 0), need(10, 2), &all), Some((vec![1, 2], 2)));
    }

    #[test]
    fn kept_room_is_for_its_workload_and_for_higher_ones() {
        let of = |n: u8| ReplicaId { uid: Digest([n; 32]), place: Place::Ordinal(0) };
        let (mine, other, now) = (of(1).uid, of(2).uid, Time::ZERO);
        let mut kept = KeptRooms::default();
        assert!(kept.keep(now, of(1), need(10, 1), 5));
        assert!(!kept.keep(now, of(1), need(10, 1), 5), "it is kept already");
        let sum = |kept: &KeptRooms, now, uid, priority| {
            kept.before(now, uid, priority, |_| true).narrow()
        };
        assert_eq!(kept.before(now, &other, 5, |_| false).narrow(), Need::default(), "taken");
        assert_eq!(sum(&kept, now, &mine, 5), Need::default());
        assert_eq!(sum(&kept, now, &other, 5), need(10, 1));
        assert_eq!(sum(&kept, now, &other, 6), Need::default());
        assert_eq!(sum(&kept, now + KEPT_FOR, &other, 0), Need::default());
        kept.free(&mine);
        assert_eq!(sum(&kept, now, &other, 5), Need::default());
        let keep = |kept: &mut KeptRooms, n: u8| kept.keep(now, of(n), need(1, 0), 1);
        assert_eq!((0..200).filter(|n| keep(&mut kept, *n)).count(), MAX_KEPT);
        assert!(kept.keep(now + KEPT_FOR, of(1), need(1, 0), 1), "old ones make room");
    }
}
