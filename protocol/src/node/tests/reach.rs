//! The addresses of a node, and the seeds that it dials.

use super::*;

fn addresses(list: &[&str]) -> Vec<String> {
    list.iter().map(|text| (*text).to_owned()).collect()
}

fn own(list: &[&str], trouble: Option<&str>) -> Input {
    let trouble = trouble.map(str::to_owned);
    Input::Addresses(OwnAddresses { addresses: addresses(list), trouble, moved: true })
}

/// Takes the effects so far, and returns those that contain `what`.
fn asked(harness: &mut Harness, what: &str) -> Vec<String> {
    let asked = std::mem::take(&mut harness.effects);
    asked.into_iter().filter(|asked| asked.contains(what)).collect()
}

/// A node read its own addresses at its start, and told no other node when they changed.
#[test]
fn changed_address_is_sent_to_all_and_shown() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.input(own(&["/ip4/10.0.0.1/tcp/7700"], None));
    harness.broadcasts.clear();
    harness.effects.clear();
    harness.input(own(&["/ip4/10.0.0.101/tcp/7700"], None));
    let is_record = |message: &Message| match message {
        Message::Membership(membership::Message::Record(record)) => {
            record.peek().unwrap().addresses == ["/ip4/10.0.0.101/tcp/7700"]
        }
        _ => false,
    };
    assert!(harness.broadcasts.iter().any(is_record), "{:?}", harness.broadcasts);
    assert_eq!(harness.node.nodes()[0].addresses, ["/ip4/10.0.0.101/tcp/7700"]);
    let events = asked(&mut harness, "addresses-changed");
    assert!(
        events.len() == 1 && events[0].contains("10.0.0.101") && events[0].contains("10.0.0.1/"),
        "{events:?}"
    );
    // The same address again is no news.
    harness.broadcasts.clear();
    harness.input(own(&["/ip4/10.0.0.101/tcp/7700"], None));
    assert!(harness.broadcasts.is_empty() && asked(&mut harness, "addresses-changed").is_empty());
}

/// A daemon whose address was gone gave no warning, and did not come back after a restart.
#[test]
fn node_without_an_address_warns() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    harness.input(own(&[], Some("10.0.0.1:7700 is no address of this device")));
    let warns = |harness: &Harness| {
        harness.node.status().warnings.iter().any(|warning| warning.contains("10.0.0.1:7700"))
    };
    assert!(warns(&harness));
    assert_eq!(asked(&mut harness, "not-reachable").len(), 1);
    harness.input(own(&["/ip4/10.0.0.1/tcp/7700"], None));
    assert!(!warns(&harness));
    assert_eq!(asked(&mut harness, "\"reachable\"").len(), 1);
}

fn seeded(seed: &str) -> Harness {
    let config = Config { seeds: vec![seed.into()], ..Config::default() };
    let identity = cluster().identity(10);
    let node =
        Node::new(config, identity, Saved::default(), facts(), WallClock(0), [7; 32], Time::ZERO);
    let mut harness = Harness::new(node);
    harness.run_for(Duration::ZERO);
    harness
}

/// A name that could not be looked up at the start was left out for good.
#[test]
fn seed_name_is_looked_up_at_each_try() {
    let mut harness = seeded("first.example:7700");
    assert_eq!(asked(&mut harness, "Resolve").len(), 1);
    let found = |found| Input::Resolved { seed: "first.example:7700".into(), found };
    harness.input(found(Err("its name cannot be looked up".into())));
    assert_eq!(asked(&mut harness, "seed-unreachable").len(), 1);
    assert!(
        harness
            .node
            .status()
            .warnings
            .iter()
            .any(|warning| warning.contains("cannot be looked up"))
    );
    harness.run_for(Duration::from_secs(1));
    assert_eq!(asked(&mut harness, "Resolve").len(), 1, "half a second later");
    let both = addresses(&["/ip4/10.0.0.1/tcp/7700", "/ip4/10.0.0.2/tcp/7700"]);
    harness.input(found(Ok(both.clone())));
    let dialled = asked(&mut harness, "Dial {");
    assert!(
        dialled.len() == 1 && dialled[0].contains("10.0.0.1") && dialled[0].contains("10.0.0.2"),
        "{dialled:?}"
    );
    let target = DialTarget::Address("first.example:7700".into());
    harness.input(Input::DialFailed { target, how: DialFailure::TimedOut });
    harness.run_for(Duration::from_secs(2));
    assert_eq!(
        asked(&mut harness, "Resolve").len(),
        1,
        "it may be another device's address by now"
    );
    // No node answers: the name is looked up again all the same.
    harness.run_for(Duration::from_secs(60));
    assert!(!asked(&mut harness, "Resolve").is_empty());
}

/// A device that booted before its network waited for up to half a minute after the network had
/// come.
#[test]
fn failed_seeds_are_dialled_when_the_network_comes() {
    let mut harness = seeded("/ip4/10.0.0.1/tcp/7700");
    for _ in 0..8 {
        let target = DialTarget::Address("/ip4/10.0.0.1/tcp/7700".into());
        harness.input(Input::DialFailed { target, how: DialFailure::TimedOut });
    }
    harness.effects.clear();
    harness.input(own(&["/ip4/10.0.0.9/tcp/7700"], None));
    harness.run_for(Duration::ZERO);
    assert_eq!(asked(&mut harness, "Dial {").len(), 1);
}

#[test]
fn record_takes_a_bounded_number_of_addresses() {
    let cluster = cluster();
    let mut harness = Harness::new(cluster.founder(Saved::default()));
    let many: Vec<String> = (0..40).map(|n| format!("/ip4/10.0.0.{n}/tcp/7700")).collect();
    let own = OwnAddresses { addresses: many.clone(), trouble: None, moved: false };
    harness.input(Input::Addresses(own));
    assert_eq!(harness.node.nodes()[0].addresses, many[..16], "the first ones");
}
