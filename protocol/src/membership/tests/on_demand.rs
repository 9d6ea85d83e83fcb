//! Links on demand to nodes without a standing link.

use std::collections::BTreeSet;

use super::super::on_demand::{MAX_KEPT_LINKS, MAX_PENDING_LINKS};
use super::net::{MS, Net, SECOND};
use crate::membership::{Config, DialConfig, LinkConfig};

const NODES: usize = 120;

/// A cluster above a full mesh that has been up for a while.
fn large(config: Config) -> Net {
    let links = LinkConfig { full_mesh: 0, ..config.links };
    let mut net = Net::with(NODES, 21, Config { links, ..config });
    net.start_all();
    net.run(60 * SECOND);
    net.dials.clear();
    net
}

/// Nodes to which `n` has no link.
fn far_from(net: &Net, n: usize) -> Vec<usize> {
    (0..NODES)
        .filter(|other| *other != n && !net.room(n).has_link(&net.devices[*other].id))
        .collect()
}

fn is_linked(net: &Net, one: usize, other: usize) -> bool {
    net.room(one).has_link(&net.devices[other].id)
}

/// Only two dials may be under way at a time. The next one begins when another has ended, not at
/// the next timer.
#[test]
fn links_on_demand_are_all_dialled_at_once() {
    let dialing = DialConfig { max: 2, ..DialConfig::default() };
    let mut net = large(Config { dialing, ..Config::default() });
    let far = far_from(&net, 5);
    assert!(far.len() > MAX_PENDING_LINKS, "{}", far.len());
    let hopeful: Vec<usize> =
        far.iter().copied().filter(|other| net.link_on_demand(5, *other)).collect();
    assert_eq!(hopeful.len(), MAX_PENDING_LINKS);
    let all_dialled = |net: &Net| {
        let dialled: BTreeSet<usize> =
            net.dials.iter().filter(|(_, from, _)| *from == 5).map(|(.., to)| *to).collect();
        hopeful.iter().all(|other| dialled.contains(other))
    };
    net.run_until(100 * MS, all_dialled).expect("all of them are dialled");
    // The others are accepted right afterwards.
    let rest: Vec<usize> = far.into_iter().filter(|other| !hopeful.contains(other)).collect();
    net.run(10 * MS);
    assert!(rest.iter().all(|other| net.link_on_demand(5, *other)));
}

/// If the link were dialled again, both ends would dial and hang up in turns for as long as one of
/// them keeps the link.
#[test]
fn closed_on_demand_link_is_not_redialled() {
    let mut net = large(Config::default());
    let other = far_from(&net, 5)[0];
    assert!(net.link_on_demand(5, other));
    net.run_until(SECOND, |net| is_linked(net, 5, other)).expect("they are linked");
    net.dials.clear();
    net.close_link(5, other);
    net.run(5 * SECOND);
    assert!(!is_linked(&net, 5, other));
    assert!(
        net.downs().is_empty() && !net.dials.iter().any(|(_, from, to)| [*from, *to] == [5, other])
    );
    assert!(net.link_on_demand(5, other));
    net.run_until(SECOND, |net| is_linked(net, 5, other)).expect("a new request makes a new link");
}

/// A node with too many links keeps those in use until they are idle: messages on their way would
/// be lost.
#[test]
fn surplus_links_close_once_idle() {
    let config = Config::default();
    let mut net = large(config.clone());
    let callers: Vec<usize> = far_from(&net, 5)
        .into_iter()
        .take(2 * config.links.max - net.room(5).links().count())
        .collect();
    for caller in &callers {
        assert!(net.link_on_demand(*caller, 5));
        net.run(5 * MS);
    }
    assert!(net.room(5).links().count() > config.links.max + 20);
    assert!(callers.iter().all(|caller| is_linked(&net, *caller, 5)));
    net.run(3 * SECOND);
    assert!(net.room(5).links().count() <= config.links.max, "{}", net.room(5).links().count());
    assert!(net.downs().is_empty());
    let kept = net.room(callers[0]).links().count();
    assert!(kept <= 32 + MAX_KEPT_LINKS, "{kept}");
}
