//! Measures the load of replicas whose number follows from it, and tells the core.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use shoal_protocol::model::{Load, ReplicaId};
use shoal_runtimes::{InstanceId, Usage};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::driver::DriverHandle;
use crate::executor::instance_id;
use crate::ingress::{Meters, Reading};
use crate::runtimes::RuntimeSet;

/// How often loads are measured and told.
const EVERY: Duration = Duration::from_secs(5);
/// Instances that are measured at a time: an engine takes a while for each.
const AT_A_TIME: usize = 8;

/// What was measured of an instance.
#[derive(Clone, Copy, Debug)]
struct Measured {
    at: Instant,
    usage: Usage,
    requests: Reading,
}

/// Measures and tells until `stop`.
pub async fn tell(
    handle: DriverHandle,
    runtimes: RuntimeSet,
    meters: Arc<Meters>,
    stop: CancellationToken,
) {
    let measure = async {
        let mut changes = handle.changes();
        let mut before: BTreeMap<InstanceId, Measured> = BTreeMap::new();
        loop {
            sleep(EVERY).await;
            meters.keep(&before.keys().cloned().collect());
            // Without such replicas nothing is asked until something changes.
            if before.is_empty() && !changes.has_changed().unwrap_or(false) {
                continue;
            }
            changes.borrow_and_update();
            let Ok(replicas) = handle.query(|node| node.measured()).await else { return };
            let instances: Vec<(ReplicaId, InstanceId)> = replicas
                .into_iter()
                .map(|(name, replica, generation)| {
                    (replica, instance_id(&name, &replica, &generation))
                })
                .collect();
            let wanted: BTreeSet<InstanceId> = instances.iter().map(|(_, id)| id.clone()).collect();
            before.retain(|id, _| wanted.contains(id));
            let runtimes = &runtimes;
            let measured = instances.into_iter().map(|(replica, id)| async move {
                let usage = runtimes.usage(&id).await?;
                Some((replica, id, usage))
            });
            let measured = futures::stream::iter(measured).buffer_unordered(AT_A_TIME);
            let measured: Vec<_> = measured.filter_map(std::future::ready).collect().await;
            let mut loads = Vec::new();
            for (replica, id, usage) in measured {
                let requests = meters.read(&id);
                let now = Measured { at: Instant::now(), usage, requests };
                if let Some(before) = before.insert(id, now) {
                    loads.push((replica, load(&before, &now)));
                }
            }
            if !loads.is_empty() && handle.measured(loads).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = measure => {}
        () = stop.cancelled() => {}
    }
}

/// The load between two measurements.
fn load(before: &Measured, now: &Measured) -> Load {
    let took = now.at.saturating_duration_since(before.at).max(Duration::from_millis(1));
    let thousandths = |spent: Duration| {
        let share = spent.as_micros().saturating_mul(1_000) / took.as_micros();
        u32::try_from(share).unwrap_or(u32::MAX)
    };
    // Counters of an instance begin again when it is started again.
    let Reading { begun, busy } = now.requests;
    let begun = begun.checked_sub(before.requests.begun).unwrap_or(begun);
    let busy = busy.checked_sub(before.requests.busy).unwrap_or(busy);
    Load {
        cpu: thousandths(now.usage.cpu.saturating_sub(before.usage.cpu)),
        memory: now.usage.memory,
        in_flight: thousandths(busy),
        requests: u32::try_from(begun).unwrap_or(u32::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_the_average_between_two_measurements() {
        let start = Instant::now();
        let at = |seconds: u64, cpu: u64, begun, busy: u64| Measured {
            at: start + Duration::from_secs(seconds),
            usage: Usage { memory: 7, cpu: Duration::from_millis(cpu), ..Usage::default() },
            requests: Reading { begun, busy: Duration::from_millis(busy) },
        };
        let shared = load(&at(0, 1_000, 5, 100), &at(10, 3_500, 9, 25_100));
        assert_eq!(shared, Load { cpu: 250, memory: 7, in_flight: 2_500, requests: 4 });
        let again = load(&at(0, 9_000, 50, 9_000), &at(10, 500, 2, 1_000));
        assert_eq!(again, Load { cpu: 0, memory: 7, in_flight: 100, requests: 2 });
    }
}
