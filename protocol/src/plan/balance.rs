//! Whether a replica is better off on another node. Pure.
//!
//! **A move pays only if it makes the fuller of two nodes clearly emptier**, also after the other
//! one has taken the replica: so nothing moves back, and what is nearly even stays as it is.

use std::time::Duration;

use crate::model::{NodeId, ResourceSum, Resources};

/// How often owners look for moves that pay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BalanceConfig {
    /// The least pause between two looks of a node; up to as much again is added by chance, so that
    /// not all owners look at the same time. Sane: 30 s.
    pub every: Duration,
}

impl Default for BalanceConfig {
    fn default() -> Self {
        BalanceConfig { every: Duration::from_secs(30) }
    }
}

/// The share of a node, in millionths, that a move has to free: a fifth. A smaller gain is not
/// worth a start.
pub const PAYS: u32 = 200_000;

/// A node and what its claims reserve.
#[derive(Clone, Copy, Debug)]
pub struct Filled {
    /// The node.
    pub node: NodeId,
    /// What it offers.
    pub capacity: Resources,
    /// The sum of what its claims reserve.
    pub used: ResourceSum,
}

/// A replica that may move, and the nodes that it may move to.
#[derive(Clone, Debug)]
pub struct Movable<R> {
    /// The replica, for the caller.
    pub replica: R,
    /// What it reserves.
    pub needs: Resources,
    /// The node that runs it.
    pub from: Filled,
    /// The nodes that may run it as well.
    pub to: Vec<Filled>,
}

/// The move that pays most: the replica, and the node that is to run it.
pub fn best_move<R: Clone + Ord>(all: &[Movable<R>]) -> Option<(R, NodeId)> {
    let gains = all.iter().flat_map(|it| {
        let before = it.from.used.dominant_share(it.from.capacity);
        let gain = move |to: &Filled| {
            let mut after = to.used;
            after.add(it.needs, 1);
            let fits = to.capacity.holds(after.narrow());
            let gain = before.checked_sub(after.dominant_share(to.capacity))?;
            (fits && gain >= PAYS).then_some((gain, it.replica.clone(), to.node))
        };
        it.to.iter().filter_map(gain)
    });
    gains.max().map(|(_, replica, to)| (replica, to))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: Resources = Resources { memory: 1_000, cpu: 1_000 };
    const NEEDS: Resources = Resources { memory: 100, cpu: 10 };

    fn node(number: u8, replicas: usize) -> Filled {
        let mut used = ResourceSum::default();
        used.add(NEEDS, replicas);
        Filled { node: NodeId([number; 32]), capacity: CAPACITY, used }
    }

    fn best(from: usize, to: &[usize]) -> Option<NodeId> {
        let to = to.iter().enumerate().map(|(at, replicas)| node(at as u8 + 2, *replicas));
        let movable = Movable { replica: 0, needs: NEEDS, from: node(1, from), to: to.collect() };
        best_move(&[movable]).map(|(_, node)| node)
    }

    #[test]
    fn replica_moves_to_the_emptiest_node_if_that_pays() {
        assert_eq!(best(5, &[4, 0, 3]), Some(NodeId([3; 32])));
        assert_eq!(best(3, &[0]), Some(NodeId([2; 32])), "30 % against 10 %");
        assert_eq!(best(2, &[0]), None, "20 % against 10 %");
        assert_eq!(best(5, &[]), None);
    }

    /// Whatever it begins with, moves end, and none is taken back.
    #[test]
    fn moves_come_to_an_end() {
        for seed in 0..200u64 {
            let mut nodes: Vec<usize> =
                (0..5).map(|at| (seed.wrapping_mul(at * 7 + 3) >> at) as usize % 10).collect();
            let mut moves = 0;
            loop {
                let full = (0..5).max_by_key(|at| nodes[*at]).unwrap();
                let others: Vec<usize> = nodes.clone();
                let Some(NodeId([to, ..])) = best(nodes[full], &others) else { break };
                nodes[full] -= 1;
                nodes[usize::from(to) - 2] += 1;
                moves += 1;
                assert!(moves < 30, "seed {seed}: {nodes:?}");
            }
            let (least, most) = (nodes.iter().min().unwrap(), nodes.iter().max().unwrap());
            assert!(most - least <= 2, "seed {seed}: {nodes:?}");
        }
    }

    /// A small device is full where a large one is not: the share counts, not the number.
    #[test]
    fn share_counts_and_not_the_number_of_replicas() {
        let large = Filled { capacity: Resources { memory: 10_000, cpu: 9_999 }, ..node(2, 8) };
        let movable = Movable { replica: 0, needs: NEEDS, from: node(1, 4), to: vec![large] };
        assert_eq!(best_move(&[movable]), Some((0, large.node)));
    }
}
