//! Latest-value mailboxes: a later order or report for a replica replaces the earlier one. And
//! which instance each replica has.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shoal_protocol::model::{Digest, Place, ReplicaId};
use shoal_protocol::node::{Order, Report};
use shoal_runtimes::InstanceId;
use tokio::sync::Notify;

/// Orders that the task has not taken yet. One place a replica, so bounded by the number of
/// replicas that a node can hold.
#[derive(Clone, Default)]
pub(super) struct Inbox(Arc<Mailbox<Order>>);

/// Reports that the driver has not taken yet; one place a replica.
#[derive(Clone, Default)]
pub(super) struct Outbox(Arc<Mailbox<Report>>);

struct Mailbox<T> {
    latest: Mutex<(BTreeMap<ReplicaId, T>, bool)>,
    wake: Notify,
}

impl<T> Default for Mailbox<T> {
    fn default() -> Self {
        Mailbox { latest: Mutex::default(), wake: Notify::new() }
    }
}

impl<T> Mailbox<T> {
    fn put(&self, replica: ReplicaId, value: T) {
        let mut latest = lock(&self.latest);
        if !latest.1 {
            latest.0.insert(replica, value);
            self.wake.notify_one();
        }
    }
}

impl Inbox {
    pub(super) fn put(&self, order: Order) {
        let replica = match &order {
            Order::Run { replica, .. } | Order::Stop { replica } => *replica,
        };
        self.0.put(replica, order);
    }

    /// Waits for orders, and takes all of them.
    pub(super) async fn take(&self) -> BTreeMap<ReplicaId, Order> {
        loop {
            let orders = std::mem::take(&mut lock(&self.0.latest).0);
            if !orders.is_empty() {
                return orders;
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
        self.0.put(report.replica, report);
    }

    pub(super) async fn next(&self) -> Report {
        loop {
            let first = lock(&self.0.latest).0.pop_first();
            if let Some((_, report)) = first {
                return report;
            }
            self.0.wake.notified().await;
        }
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
