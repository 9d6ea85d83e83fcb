//! Mailboxes that keep the latest value: a later order for a replica replaces the earlier one, a
//! later report the earlier one of the same generation. And which instance each replica has.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shoal_protocol::model::{Digest, InstanceState, Place, ReplicaId};
use shoal_protocol::node::{Order, Report};
use shoal_runtimes::InstanceId;
use tokio::sync::Notify;

/// Orders that the task has not taken yet. A replica has one, and one more that starts its old
/// version again, so they are bounded by the number of replicas that a node can hold.
#[derive(Clone, Default)]
pub(super) struct Inbox(Arc<Mailbox>);

#[derive(Default)]
struct Mailbox {
    /// By replica, and whether it is an order besides the last run; and whether no more are taken.
    latest: Mutex<(Waiting, bool)>,
    wake: Notify,
}

type Waiting = BTreeMap<(ReplicaId, bool), Order>;

/// Reports that the driver has not taken yet: the latest one of each generation of a replica, in
/// their order. That an old instance ended never hides that its replacement runs.
#[derive(Clone, Default)]
pub(super) struct Outbox(Arc<Reported>);

#[derive(Default)]
struct Reported {
    of: Mutex<BTreeMap<ReplicaId, VecDeque<Report>>>,
    wake: Notify,
}

/// Generations of a replica that are reported on at one time: the wanted one, those that it
/// replaces, and some more.
const GENERATIONS: usize = 8;

impl Inbox {
    pub(super) fn put(&self, order: Order) {
        let (replica, is_again) = match &order {
            Order::Run { replica, .. } | Order::Stop { replica } => (*replica, false),
            Order::Again { replica, .. } => (*replica, true),
        };
        let mut latest = lock(&self.0.latest);
        if !latest.1 {
            if matches!(order, Order::Stop { .. }) {
                latest.0.remove(&(replica, true));
            }
            latest.0.insert((replica, is_again), order);
            self.0.wake.notify_one();
        }
    }

    /// Waits for orders, and takes all of them.
    pub(super) async fn take(&self) -> Vec<(ReplicaId, Order)> {
        loop {
            let orders = std::mem::take(&mut lock(&self.0.latest).0);
            if !orders.is_empty() {
                return orders.into_iter().map(|((replica, _), order)| (replica, order)).collect();
            }
            self.0.wake.notified().await;
        }
    }

    /// Drops all orders from now on: the node stops.
    pub(super) fn close(&self) {
        let mut latest = lock(&self.0.latest);
        latest.0.clear();
        latest.1 = true;
    }
}

impl Outbox {
    pub(super) fn put(&self, report: Report) {
        let mut all = lock(&self.0.of);
        let of = all.entry(report.replica).or_default();
        of.retain(|other| other.generation != report.generation);
        // Then nothing of it runs.
        if report.state == InstanceState::Stopped {
            of.clear();
        }
        if of.len() >= GENERATIONS {
            of.pop_front();
        }
        of.push_back(report);
        self.0.wake.notify_one();
    }

    pub(super) async fn next(&self) -> Report {
        loop {
            if let Some(report) = self.first() {
                return report;
            }
            self.0.wake.notified().await;
        }
    }
}

impl Outbox {
    fn first(&self) -> Option<Report> {
        let mut all = lock(&self.0.of);
        let mut first = all.first_entry()?;
        let report = first.get_mut().pop_front();
        if first.get().is_empty() {
            first.remove();
        }
        report
    }
}

/// Ended replicas whose logs can still be read.
const REMEMBERED: usize = 512;

/// The current or last instance of each replica on this node.
#[derive(Clone, Default)]
pub struct Directory(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    latest: BTreeMap<ReplicaId, InstanceId>,
    /// The instances of orders that are not stopped yet, also those that are being replaced.
    begun: BTreeMap<InstanceId, ReplicaId>,
    ended: VecDeque<ReplicaId>,
}

impl Directory {
    /// The latest instance of this replica on this node.
    pub fn instance(&self, replica: &ReplicaId) -> Option<InstanceId> {
        lock(&self.0).latest.get(replica).cloned()
    }

    /// The places of a workload that were begun here and have not ended.
    pub fn running(&self, uid: &Digest) -> Vec<Place> {
        let known = lock(&self.0);
        let of_it = known.latest.keys().filter(|replica| replica.uid == *uid);
        of_it
            .filter(|replica| !known.ended.contains(replica))
            .map(|replica| replica.place)
            .collect()
    }

    /// Whether an order of this process began the instance, and it is not stopped.
    pub(super) fn has_begun(&self, instance: &InstanceId) -> bool {
        lock(&self.0).begun.contains_key(instance)
    }

    pub(super) fn began(&self, replica: ReplicaId, instance: InstanceId) {
        let mut known = lock(&self.0);
        known.ended.retain(|ended| *ended != replica);
        known.latest.insert(replica, instance.clone());
        known.begun.insert(instance, replica);
    }

    /// An instance of a replica that has another one is started again.
    pub(super) fn began_again(&self, replica: ReplicaId, instance: InstanceId) {
        lock(&self.0).begun.insert(instance, replica);
    }

    /// An instance of a replica that has another one is stopped.
    pub(super) fn stopped(&self, instance: &InstanceId) {
        lock(&self.0).begun.remove(instance);
    }

    pub(super) fn ended(&self, replica: ReplicaId) {
        let mut known = lock(&self.0);
        known.begun.retain(|_, of| *of != replica);
        if known.latest.contains_key(&replica) && !known.ended.contains(&replica) {
            known.ended.push_back(replica);
        }
        if known.ended.len() > REMEMBERED
            && let Some(oldest) = known.ended.pop_front()
        {
            known.latest.remove(&oldest);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change under these locks is one statement, so a panic elsewhere leaves no half-done
    // change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
