//! Nodes whose addresses change.

use super::net::{MS, Net, SECOND};
use crate::membership::Fact;

/// Two nodes that have been out of reach of one another for so long that they dial rarely.
fn apart(seed: u64) -> Net {
    let mut net = Net::running(2, seed);
    net.unreachable.extend([(0, 1), (1, 0)]);
    net.close_link(0, 1);
    net.run(60 * SECOND);
    net.dials.clear();
    net.facts.clear();
    net
}

fn dials(net: &Net, from: usize) -> usize {
    net.dials.iter().filter(|(_, by, _)| *by == from).count()
}

/// The pause of ten seconds and more, grown by failed dials to the old address, used to apply to
/// the new one as well.
#[test]
fn new_address_is_dialled_without_back_off() {
    for seed in 0..5 {
        let mut net = apart(seed);
        net.learns(0, 1, "/node/elsewhere");
        net.run(300 * MS);
        assert!(dials(&net, 0) >= 1, "seed {seed}: {:?}", net.dials);
        let moved =
            net.facts.iter().filter(|(.., fact)| matches!(fact, Fact::Moved { .. })).count();
        assert_eq!(moved, 1, "people are told");
    }
}

/// A dial to the old address was under way when the new one came. It used to be followed by the
/// pause after a failed dial; now the new address is dialled at once.
#[test]
fn failed_dial_to_old_address_is_retried_at_new_one() {
    for seed in 0..5 {
        let mut net = Net::running(2, seed);
        net.cuts.extend([(0, 1), (1, 0)]);
        net.close_link(0, 1);
        net.run_until(30 * SECOND, |net| {
            net.dials.iter().filter(|(_, by, _)| *by == 0).count() == 6
        })
        .expect("it dials");
        net.run(SECOND);
        net.dials.clear();
        net.learns(0, 1, "/node/elsewhere");
        net.run(2 * SECOND + 10 * MS);
        assert_eq!(
            dials(&net, 0),
            2,
            "seed {seed}: beside the dial under way, and at once when that had ended"
        );
    }
}

/// A device without network dialled the others ever more rarely. When its network is back the pause
/// must not go on.
#[test]
fn returned_network_is_used_at_once() {
    for (seed, moved) in [(0, false), (1, true), (2, false), (3, true)] {
        let mut net = apart(seed);
        net.unreachable.clear();
        net.network_changed(1, moved);
        net.run(SECOND);
        assert!(net.room(1).has_link(&net.devices[0].id), "seed {seed}");
    }
}

/// An interface that flaps must not make the device dial without end.
#[test]
fn flapping_network_makes_few_dials() {
    let mut net = apart(1);
    for _ in 0..100 {
        net.network_changed(0, true);
    }
    assert!(dials(&net, 0) <= 2, "one, and one that joins it: {:?}", net.dials);
}

/// No other node can dial a device that has moved before it knows the new address: such a device
/// dials without leaving that to the lesser id.
#[test]
fn moved_device_dials_without_crossing_delay() {
    for seed in 0..5 {
        let mut net = apart(seed);
        let greater = if net.devices[0].id < net.devices[1].id { 1 } else { 0 };
        net.network_changed(greater, true);
        net.run(MS);
        assert_eq!(dials(&net, greater), 1, "seed {seed}: {:?}", net.dials);
    }
}

/// A device had no address for a while and heard nobody. After it has moved it gives the others
/// time before it holds them to be down.
#[test]
fn silence_before_a_move_is_no_evidence() {
    for seed in 0..5 {
        let mut net = Net::running(3, seed);
        net.devices[1].dark = true;
        net.run(2_700 * MS);
        assert_eq!(net.ups(1), 3, "seed {seed}: the set-up");
        net.network_changed(1, true);
        net.run(2 * SECOND);
        assert_eq!(net.ups(1), 3, "seed {seed}");
        net.run(10 * SECOND);
        assert_eq!(net.ups(1), 1, "seed {seed}: but not for ever");
    }
}
