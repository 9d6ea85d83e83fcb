//! Addresses that pass from one device to another.

use super::net::{MS, Net, SECOND};
use crate::membership::{Answerer, State};

const OLD: &str = "/node/1";
const NEW: &str = "/node/1/elsewhere";

/// The old address of node 1 belongs to node 2 by now. It is not dialled any more until node 1 is
/// seen there again or issues a record with other addresses.
#[test]
fn address_answered_by_another_node_is_dropped() {
    let mut net = Net::running(3, 1);
    let (moved, other) = (net.devices[1].id, net.devices[2].id);
    net.sighted(0, 1, &[NEW]);
    assert_eq!(net.room(0).addresses(&moved), [NEW, OLD]);
    net.answered(0, 1, OLD, Answerer::Node(other));
    assert_eq!(net.room(0).addresses(&moved), [NEW]);
    // Without another address it is dialled all the same: it may be node 1's again.
    net.answered(0, 1, NEW, Answerer::Node(other));
    assert_eq!(net.room(0).addresses(&moved), [NEW, OLD]);
    net.sighted(0, 1, &[OLD]);
    assert_eq!(net.room(0).addresses(&moved), [OLD], "it was seen there again");
    net.answered(0, 1, OLD, Answerer::Node(other));
    net.moves(1, NEW);
    net.run(SECOND);
    assert_eq!(
        net.room(0).addresses(&moved),
        [OLD, NEW],
        "a record with other addresses says all afresh"
    );
}

/// Another node was met at the new address of node 1. When node 1 is seen there again, the address
/// is its own again.
#[test]
fn sighting_restores_an_address() {
    let mut net = Net::running(3, 6);
    let (node, other) = (net.devices[1].id, net.devices[2].id);
    net.sighted(0, 1, &[NEW]);
    net.answered(0, 1, NEW, Answerer::Node(other));
    assert_eq!(net.room(0).addresses(&node), [OLD]);
    net.sighted(0, 1, &[NEW]);
    assert_eq!(net.room(0).addresses(&node), [NEW, OLD]);
}

/// Another node was met at node 1's address. Then node 1 states new addresses; it may have got the
/// old one back as well, so both are dialled.
#[test]
fn moved_node_restores_all_its_addresses() {
    let mut net = Net::running(3, 7);
    let (node, other) = (net.devices[1].id, net.devices[2].id);
    net.sighted(0, 1, &[OLD]);
    net.answered(0, 1, OLD, Answerer::Node(other));
    net.moves(1, NEW);
    net.run(SECOND);
    assert_eq!(net.room(0).addresses(&node), [OLD, NEW]);
}

/// A stranger or a refusal at a member's address proves nothing, since a member that restarts
/// refuses as well: the address is dialled on, users are told, and a link clears it.
#[test]
fn stranger_or_refusal_keeps_the_address() {
    let mut net = Net::running(3, 2);
    let node = net.devices[1].id;
    net.cut_off(0, 1);
    net.answered(0, 1, OLD, Answerer::Nobody);
    assert_eq!(net.room(0).addresses(&node), [OLD], "a member that restarts refuses, too");
    let told: Vec<_> = net.room(0).answers_at(&node).map(|(at, by)| (at.as_str(), *by)).collect();
    assert_eq!(told, [(OLD, Answerer::Nobody)]);
    net.answered(0, 1, "/node/7", Answerer::Stranger);
    assert_eq!(net.room(0).answers_at(&node).count(), 1, "no address of it");
    net.restore(0, 1);
    net.run_until(15 * SECOND, |net| net.room(0).has_link(&node)).expect("linked again");
    assert_eq!(net.room(0).answers_at(&node).count(), 0, "it answers for itself");
    net.cut_off(0, 1);
    assert_eq!(
        net.room(0).answers_at(&node).count(),
        0,
        "what was met before the link is long ago"
    );
}

/// Another node has the only address that node 0 knows of node 1, and refuses there: that is no
/// evidence against node 1, only silence is.
#[test]
fn refusal_at_a_lost_address_is_no_evidence() {
    for seed in 0..10 {
        let mut net = Net::running(2, seed);
        net.answered(0, 1, OLD, Answerer::Node(crate::model::NodeId([7; 32])));
        net.unreachable = [(0, 1), (1, 0)].into();
        net.close_link(0, 1);
        net.run(500 * MS);
        assert_eq!(net.state(0, 1), State::Up, "seed {seed}");
        // Nothing was heard over any path, and that counts in the end.
        net.run_until(5 * SECOND, |net| net.state(0, 1) == State::Down)
            .expect("silence decides in the end");
        assert!(net.room(0).why_down(&net.devices[1].id).unwrap().contains("nothing was heard"));
    }
}

/// The observers of a moved node are refused at its old address, all but one. As long as that one
/// hears the node, it is not down.
#[test]
fn refusal_is_no_death_while_one_node_hears_it() {
    for seed in 0..10 {
        for hears in [1, 2, 3, 4] {
            let mut net = Net::running(5, seed);
            let deaf = (1..5).filter(|n| *n != hears);
            net.unreachable = deaf.clone().flat_map(|n| [(n, 0), (0, n)]).collect();
            deaf.for_each(|n| net.close_link(n, 0));
            net.run(30 * SECOND);
            assert!(net.downs().is_empty(), "seed {seed}, heard by {hears}: {:?}", net.downs());
        }
    }
}

/// A new address becomes known while a dial to the old one hangs: it is dialled at once, without
/// waiting for the time-out.
#[test]
fn new_address_is_dialled_beside_the_old() {
    let mut net = Net::running(2, 4);
    let node = net.devices[1].id;
    net.cuts = [(0, 1), (1, 0)].into();
    net.close_link(0, 1);
    net.run(60 * SECOND);
    net.run_until(60 * SECOND, |net| net.room(0).dialling.contains(&node))
        .expect("dialled for ever");
    net.cuts.clear();
    net.sighted(0, 1, &[NEW]);
    let took = net.run_until(15 * SECOND, |net| net.room(0).has_link(&node)).expect("found");
    assert!(took < 100 * MS, "{took:?}");
}

/// A dial of node 1 meets node 2, which this node had lost: that address is dialled for node 2.
#[test]
fn member_answering_for_another_is_found() {
    let mut net = Net::running(3, 5);
    let other = net.devices[2].id;
    net.cut_off(0, 2);
    net.answered(0, 1, OLD, Answerer::Node(other));
    assert_eq!(net.room(0).addresses(&other), [OLD, "/node/2"]);
}
