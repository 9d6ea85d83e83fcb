//! Where a node can be dialled, and the seeds that it dials.

use super::*;

fn addresses(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn own(list: &[&str], trouble: Option<&str>) -> Input {
    let trouble = trouble.map(str::to_owned);
    Input::Addresses(OwnAddresses { addresses: addresses(list), trouble, moved: true })
}

/// What was asked for since, of this kind.
fn asked(bottle: &mut Bottle, what: &str) -> Vec<String> {
    let asked = std::mem::take(&mut bottle.asked);
    asked.into_iter().filter(|asked| asked.contains(what)).collect()
}

/// A node's own addresses were read at its start, and what became of them later nobody was told.
#[test]
fn a_changed_address_is_told_to_all_and_shown() {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    bottle.input(own(&["/ip4/10.0.0.1/tcp/7700"], None));
    bottle.told_all.clear();
    bottle.asked.clear();
    bottle.input(own(&["/ip4/10.0.0.101/tcp/7700"], None));
    let is_record = |message: &Message| match message {
        Message::Membership(membership::Message::Record(record)) => {
            record.peek().unwrap().addresses == ["/ip4/10.0.0.101/tcp/7700"]
        }
        _ => false,
    };
    assert!(bottle.told_all.iter().any(is_record), "{:?}", bottle.told_all);
    assert_eq!(bottle.node.nodes()[0].addresses, ["/ip4/10.0.0.101/tcp/7700"]);
    let events = asked(&mut bottle, "addresses-changed");
    assert!(
        events.len() == 1 && events[0].contains("10.0.0.101") && events[0].contains("10.0.0.1/"),
        "{events:?}"
    );
    // The same again is no news.
    bottle.told_all.clear();
    bottle.input(own(&["/ip4/10.0.0.101/tcp/7700"], None));
    assert!(bottle.told_all.is_empty() && asked(&mut bottle, "addresses-changed").is_empty());
}

/// A daemon whose address was gone said nothing, and was dead after a restart.
#[test]
fn a_node_that_nobody_can_connect_to_warns() {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    bottle.input(own(&[], Some("10.0.0.1:7700 is no address of this device")));
    let warns = |bottle: &Bottle| {
        bottle.node.status().warnings.iter().any(|warning| warning.contains("10.0.0.1:7700"))
    };
    assert!(warns(&bottle));
    assert_eq!(asked(&mut bottle, "not-reachable").len(), 1);
    bottle.input(own(&["/ip4/10.0.0.1/tcp/7700"], None));
    assert!(!warns(&bottle));
    assert_eq!(asked(&mut bottle, "\"reachable\"").len(), 1);
}

fn seeded(seed: &str) -> Bottle {
    let config = Config { seeds: vec![seed.into()], ..Config::default() };
    let identity = cluster().identity(10);
    let node =
        Node::new(config, identity, Saved::default(), facts(), WallClock(0), [7; 32], Time::ZERO);
    let mut bottle = Bottle::new(node);
    bottle.run_for(Duration::ZERO);
    bottle
}

/// A name that could not be looked up at the start was left out for good.
#[test]
fn a_seeds_name_is_looked_up_at_each_try() {
    let mut bottle = seeded("first.example:7700");
    assert_eq!(asked(&mut bottle, "Resolve").len(), 1);
    let found = |found| Input::Resolved { seed: "first.example:7700".into(), found };
    bottle.input(found(Err("its name cannot be looked up".into())));
    assert_eq!(asked(&mut bottle, "seed-unreachable").len(), 1);
    assert!(
        bottle.node.status().warnings.iter().any(|warning| warning.contains("cannot be looked up"))
    );
    bottle.run_for(Duration::from_secs(1));
    assert_eq!(asked(&mut bottle, "Resolve").len(), 1, "half a second later");
    let both = addresses(&["/ip4/10.0.0.1/tcp/7700", "/ip4/10.0.0.2/tcp/7700"]);
    bottle.input(found(Ok(both.clone())));
    let dialled = asked(&mut bottle, "Dial {");
    assert!(
        dialled.len() == 1 && dialled[0].contains("10.0.0.1") && dialled[0].contains("10.0.0.2"),
        "{dialled:?}"
    );
    let target = DialTarget::Address("first.example:7700".into());
    bottle.input(Input::DialFailed { target, how: DialFailure::TimedOut });
    bottle.run_for(Duration::from_secs(2));
    assert_eq!(asked(&mut bottle, "Resolve").len(), 1, "it may be another device's address by now");
    // Nobody answers: it is asked again all the same.
    bottle.run_for(Duration::from_secs(60));
    assert!(!asked(&mut bottle, "Resolve").is_empty());
}

/// A device that booted before its network waited up to half a minute after that had come.
#[test]
fn seeds_that_failed_are_dialled_when_the_network_comes() {
    let mut bottle = seeded("/ip4/10.0.0.1/tcp/7700");
    for _ in 0..8 {
        let target = DialTarget::Address("/ip4/10.0.0.1/tcp/7700".into());
        bottle.input(Input::DialFailed { target, how: DialFailure::TimedOut });
    }
    bottle.asked.clear();
    bottle.input(own(&["/ip4/10.0.0.9/tcp/7700"], None));
    bottle.run_for(Duration::ZERO);
    assert_eq!(asked(&mut bottle, "Dial {").len(), 1);
}

#[test]
fn no_more_addresses_are_told_than_a_record_takes() {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    let many: Vec<String> = (0..40).map(|n| format!("/ip4/10.0.0.{n}/tcp/7700")).collect();
    let own = OwnAddresses { addresses: many.clone(), trouble: None, moved: false };
    bottle.input(Input::Addresses(own));
    assert_eq!(bottle.node.nodes()[0].addresses, many[..16], "the first ones");
}
