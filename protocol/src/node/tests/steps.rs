//! A large step: what is said and written of many replicas at once.

use std::collections::BTreeMap;

use super::*;
use crate::model::{Phase, Resources, Slot};

/// Replicas so small that a node holds hundreds.
fn tiny(replicas: u32) -> Spec {
    let SpecForm { name, runtime, artifact, env, require, .. } = spec(replicas, 2 << 20).into();
    let resources = Resources { memory: 2 << 20, cpu: 1 };
    SpecForm { name, runtime, artifact, replicas, resources, env, require }.try_into().unwrap()
}

fn told(bottle: &Bottle) -> Vec<Slot> {
    let slots = bottle.told_all.iter().filter_map(|message| match message {
        Message::Slot(slot) => Some(slot.peek().unwrap()),
        _ => None,
    });
    slots.collect()
}

/// Each claim and each phase was a message to all, with all of its slot in it: hundreds in one moment for four hundred replicas,
/// and others' inboxes hold 256.
#[test]
fn a_step_of_hundreds_is_told_by_few_messages() {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    bottle.publish(&cluster, &tiny(400));
    bottle.run_for(Duration::from_secs(3));
    let healthy = bottle.node.own_claims().filter(|claim| claim.phase == Phase::Healthy).count();
    assert_eq!(healthy, 400);
    let told = told(&bottle);
    assert!(told.len() < 200, "{} messages", told.len());
    // What was told last is how it is.
    let last: BTreeMap<u8, Slot> = told.into_iter().map(|slot| (slot.slot, slot)).collect();
    let claims = last.values().flat_map(|slot| &slot.claims);
    assert_eq!(claims.filter(|claim| claim.phase == Phase::Healthy).count(), 400);
}

/// One replica, as after a failover: neither its claim nor its health waits for anything but the disk.
#[test]
fn a_single_replica_is_told_at_once() {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    bottle.publish(&cluster, &tiny(1));
    let phase = |slot: &Slot| slot.claims.first().map(|claim| claim.phase.clone());
    assert_eq!(told(&bottle).last().and_then(phase), Some(Phase::Healthy), "no time has passed");
}
