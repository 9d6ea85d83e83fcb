//! Paths that lose large packets: the holders that are asked for bytes, and what people see.

use super::bidder::Bidder;
use super::*;
use crate::auction;
use crate::model::Price;

const WORDS: &str = "small messages pass, transfers stall";

fn digest() -> Digest {
    Digest::of(b"bytes")
}

/// The price that the bidder asks of its owner.
fn asks(bidder: &mut Bidder) -> Price {
    let (auction, ReplicaId { uid, place }) = (bidder.auction(), bidder.replica);
    let generation = bidder.generation;
    let announce = auction::Announce {
        auction,
        uid,
        generation,
        places: vec![place],
        answer_ms: 100,
        hold_ms: 5_000,
    };
    match &bidder.receive(auction::Message::Announce(announce))[..] {
        [Message::Auction(auction::Message::Bid { prices, .. })] => prices[0],
        other => panic!("a bid was expected, not {other:?}"),
    }
}

/// The view of a node shows that transfers stall on the path to it, and one event reports it. Both
/// end when transfers pass again.
#[test]
fn stalling_path_is_shown_until_transfers_pass() {
    let mut bidder = Bidder::new();
    let owner = bidder.auction().owner;
    let note = |bidder: &Bidder| {
        let nodes = bidder.harness.node.nodes();
        nodes.into_iter().find(|node| node.id == owner.to_string()).unwrap().path
    };
    assert_eq!(note(&bidder), None);
    let version = bidder.harness.node.views_version();
    bidder.harness.input(Input::PathChanged { peer: owner, is_stalling: true });
    let text = note(&bidder).unwrap();
    assert!(text.contains(WORDS) && text.contains("since 08:00 UTC"), "{text}");
    assert!(bidder.harness.node.views_version() > version);
    let count = |bidder: &Bidder, kind: &str| {
        bidder.harness.effects.iter().filter(|text| text.contains(kind)).count()
    };
    bidder.harness.input(Input::PathChanged { peer: owner, is_stalling: true });
    assert_eq!(count(&bidder, "transfers-stall"), 1, "known is no news");
    let other =
        bidder.harness.node.nodes().into_iter().find(|node| node.id != owner.to_string()).unwrap();
    assert_eq!((other.path, other.state.as_str()), (None, "up"));
    bidder.harness.input(Input::PathChanged { peer: owner, is_stalling: false });
    assert_eq!((note(&bidder), count(&bidder, "transfers-pass")), (None, 1));
}

/// Two nodes hold the bytes, and transfers from one of them stall: it is asked last, and not left
/// out.
#[test]
fn holders_on_stalling_paths_are_asked_last() {
    let asked = |is_stalling: bool| {
        let cluster = cluster();
        let mut founder = Harness::new(cluster.founder(Saved::default()));
        let (one, other) = (
            cluster.join_member(20, &mut founder).node.id(),
            cluster.join_member(30, &mut founder).node.id(),
        );
        let (first, second) = (one.min(other), one.max(other));
        for node in [one, other] {
            founder.input(Input::Message {
                from: node,
                message: Message::Have { node, digest: digest() },
            });
        }
        if is_stalling {
            founder.input(Input::PathChanged { peer: first, is_stalling });
        }
        founder.fetch_error = Some("not now");
        founder.publish(&cluster, &spec(1, 32 << 20));
        let asked = founder
            .effects
            .iter()
            .find(|text| text.contains("Fetch"))
            .expect("it wants the bytes")
            .clone();
        let place = |node: NodeId| asked.find(&format!("{node:?}")).expect("each is asked");
        place(first) < place(second)
    };
    assert!(asked(false), "by id, as long as nothing is known");
    assert!(!asked(true));
}

/// A node that could not fetch an artifact still bids, because it may be the only one that can run
/// it.
#[test]
fn bidder_that_could_not_fetch_has_the_highest_price() {
    let mut bidder = Bidder::new();
    let dearest = auction::Config::default().price_of_fetch_at_most;
    assert!(asks(&mut bidder).fetch < dearest, "it has not tried");
    let mut bidder = Bidder::new();
    bidder.harness.fetch_error = Some(WORDS);
    bidder
        .harness
        .input(Input::Fetched { digest: digest(), outcome: FetchOutcome::Failed(WORDS.into()) });
    assert_eq!(asks(&mut bidder).fetch, dearest);
}

/// The views of the workload and of the place show why the replica is still starting.
#[test]
fn replica_whose_artifact_stalls_says_so() {
    let mut bidder = Bidder::new();
    bidder.harness.fetch_error = Some("small messages pass, transfers stall: packets are lost");
    bidder
        .harness
        .input(Input::Fetched { digest: digest(), outcome: FetchOutcome::Failed(WORDS.into()) });
    asks(&mut bidder);
    bidder.receive(bidder.award());
    let view = bidder.harness.node.workload(&"web".parse().unwrap()).unwrap();
    let mine = &view.replicas[0];
    let reason = mine.reason.clone().unwrap_or_default();
    assert!(mine.phase == "starting" && reason.contains(WORDS), "{mine:?}");
    let explained = bidder.harness.node.explain(&"web/0".parse().unwrap()).unwrap();
    assert!(
        explained.now[0].reason.as_ref().is_some_and(|reason| reason.contains(WORDS)),
        "{explained:?}"
    );
}
