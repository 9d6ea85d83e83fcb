//! Quotas: what may be placed, whatever the order in which changes came.

use super::*;
use crate::model::change::Quota;

fn quota(replicas: u64) -> Value {
    Value::Quota(Quota { replicas: Some(replicas), ..Quota::default() })
}

fn over(desired: &Desired, text: &str) -> Option<u32> {
    desired.over_quota(desired.workload(&name(text)).unwrap()).map(|it| it.allowed)
}

/// The later write waits, the earlier one keeps what it has; nothing else is touched.
#[test]
fn later_write_waits_for_the_quota() {
    let ada = author(1);
    let mut desired = Desired::default();
    let limit = ada.write(&desired, &Key::Quota("default".parse().unwrap()), quota(5));
    fresh(&mut desired, &limit);
    for (text, replicas, wall) in [("a", 3, NOW.0), ("b", 3, NOW.0 + 1), ("c", 1, NOW.0 + 2)] {
        let change = ada.write_at(&desired, &key(text), workload(text, replicas), WallClock(wall));
        fresh(&mut desired, &change);
    }
    assert_eq!(
        [over(&desired, "a"), over(&desired, "b"), over(&desired, "c")],
        [None, Some(2), Some(0)]
    );
    // The room that `a` gives back goes to those that wait, in their order.
    let less = ada.write_at(&desired, &key("a"), workload("a", 1), WallClock(NOW.0 + 3));
    fresh(&mut desired, &less);
    assert_eq!([over(&desired, "a"), over(&desired, "b"), over(&desired, "c")], [None; 3]);
    let changes: Vec<Change> = desired
        .iter()
        .flat_map(|(_, changes)| changes)
        .map(|raw| Change {
            signed: raw.change.verify(&ClusterId([0; 32])).unwrap(),
            chain: raw.chain,
        })
        .collect();
    for seed in 0..20 {
        let other = replica(&shuffled(&changes, seed));
        assert_eq!(over(&other, "b"), None, "seed {seed}");
    }
}

/// A user is told before anything is written; who takes less is never refused.
#[test]
fn spec_beyond_the_quota_is_refused_before_it_is_written() {
    let ada = author(1);
    let mut desired = Desired::default();
    let other = ada.write(&desired, &key("a"), workload("a", 4));
    fresh(&mut desired, &other);
    assert_eq!(desired.would_exceed(&spec("b", 100)), None, "there is no quota");
    let memory = Quota { memory: Some(64 << 20), replicas: Some(5), ..Quota::default() };
    let key = Key::Quota("default".parse().unwrap());
    let limit = ada.write(&desired, &key, Value::Quota(memory));
    fresh(&mut desired, &limit);
    let refused = desired.would_exceed(&spec("b", 1)).unwrap();
    assert_eq!((refused.allowed, refused.wanted), (0, 1));
    assert!(refused.to_string().contains("64 MiB of memory"), "{refused}");
    assert_eq!(desired.would_exceed(&spec("a", 3)), None);
    assert_eq!(desired.would_exceed(&spec("a", 5)).map(|it| it.allowed), Some(1));
}
