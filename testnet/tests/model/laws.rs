//! The laws of every state, and of every state at rest.

use std::sync::Arc;

use shoal_protocol::claims::{self, awarded_under};
use shoal_protocol::model::{Claim, Phase, Resources};
use shoal_protocol::node::Message;

use super::device::Running;
use super::setup::{NODES, Setup};
use super::world::{State, Step};

/// A law that can be broken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Law {
    /// No two nodes claim under one award, and none claims twice under it.
    OneWinner,
    /// Reserved and committed resources together never exceed the node's capacity, and cover its
    /// claim.
    Fits,
    /// No award is taken under a counter that the winner has seen.
    NewCounter,
    /// A claim is on disk before it is announced and before its replica runs.
    WrittenBeforeSaid,
    /// A holder gives up a replica only if it fails, or after the keeper said that it is healthy,
    /// which was true.
    YieldsToTheHealthy,
    /// A keeper to which another node yielded goes on holding.
    KeeperStays,
    /// At rest exactly one node holds each replica, healthy and of the last version, and nothing is
    /// reserved.
    RestsWell,
    /// Of a workload that is updated one by one, one replica is replaced at a time that no other
    /// node runs.
    OneAtATime,
    /// Of its two replicas one serves at all times.
    Serves,
}

/// Checks a state and the step that led to it.
pub fn check_step(setup: &Setup, before: &State, step: &Step, after: &mut State) {
    let mut broken = Vec::new();
    for node in 0..NODES {
        if Arc::ptr_eq(&before.devices[node], &after.devices[node]) {
            continue;
        }
        let (Some(_), Some(now)) = (&before.devices[node].node, &after.devices[node].node) else {
            continue;
        };
        let promised = now.promised().size;
        let claimed = after.devices[node].claim().map_or(Resources::default(), |_| setup.size);
        if !setup.size.holds(promised) || !promised.holds(claimed) {
            broken.push(Law::Fits);
        }
        let (old, new) =
            (before.devices[node].claim().cloned(), after.devices[node].claim().cloned());
        match (old, new) {
            (Some(old), None) => broken.extend(let_go(before, step, after, node, &old)),
            (old, Some(new)) if old.as_ref().map(awarded_under) != Some(awarded_under(&new)) => {
                broken.extend(took(before, after, node, &new));
            }
            _ => {}
        }
    }
    if setup.update.is_some() {
        let runs = || after.devices.iter().filter_map(|device| device.runtime.as_ref());
        // One that a further node has taken over meanwhile, and runs, is out of the update: its
        // holder yields.
        let runs_elsewhere =
            |it: &&Running| runs().any(|other| other.replica == it.replica && other.healthy);
        let replaced = runs().filter(|it| it.old.is_some() && !runs_elsewhere(it));
        if replaced.count() > 1 {
            broken.push(Law::OneAtATime);
        }
        if after.is_updating && !runs().any(|it| it.healthy || it.old.is_some()) {
            broken.push(Law::Serves);
        }
    }
    after.broken.extend(broken);
    if after.is_at_rest() && !rests_well(setup, after) {
        after.broken.insert(Law::RestsWell);
    }
}

fn took(before: &State, after: &mut State, node: usize, claim: &Claim) -> Vec<Law> {
    let award = awarded_under(claim);
    let mut broken = Vec::new();
    if after.won.insert((claim.replica, award), node).is_some() {
        broken.push(Law::OneWinner);
    }
    let seen = before.devices[node].node.as_ref().and_then(|node| node.seen_token(&claim.replica));
    if seen.is_some_and(|seen| seen.counter >= award.counter) {
        broken.push(Law::NewCounter);
    }
    broken
}

fn let_go(before: &State, step: &Step, after: &State, node: usize, claim: &Claim) -> Vec<Law> {
    if matches!((&claim.phase, step), (Phase::Failing { .. }, Step::Pass(_) | Step::PassEarly(_))) {
        return Vec::new();
    }
    let (Step::Deliver(label) | Step::Repeat(label)) = step else {
        return vec![Law::YieldsToTheHealthy];
    };
    let item = before.in_flight.iter().find(|item| item.digest == label.digest);
    let Some(item) = item.filter(|item| {
        let keeping = |message: &Message| {
            matches!(message, Message::Claims(claims::Message::Keeping { healthy: true, .. }))
        };
        item.to == node && keeping(&item.message)
    }) else {
        return vec![Law::YieldsToTheHealthy];
    };
    let keeper = &after.devices[item.from];
    let gone = keeper.node.is_some() && keeper.claim().is_none() && !after.failed;
    if gone { vec![Law::KeeperStays] } else { Vec::new() }
}

fn rests_well(setup: &Setup, state: &State) -> bool {
    let mut holders = 0;
    for device in &state.devices {
        let Some(node) = &device.node else { continue };
        let claim = device.claim();
        let holds = claim.is_some();
        let healthy = claim.is_none_or(|claim| claim.phase == Phase::Healthy);
        let runs = device.runtime.as_ref().is_some_and(|it| it.healthy);
        let promised = if holds { setup.size } else { Resources::default() };
        if !healthy || runs != holds || node.promised().size != promised {
            return false;
        }
        holders += usize::from(holds);
        let last = setup.update.as_ref().filter(|_| state.is_updating);
        let is_last = |claim: &Claim| {
            last.is_none_or(|last| {
                claim.generation == last.spec.revision() && claim.update.is_none()
            })
        };
        if !claim.is_none_or(is_last) {
            return false;
        }
    }
    holders == setup.replicas
}
