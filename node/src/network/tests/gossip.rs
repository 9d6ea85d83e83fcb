//! Broadcasts reach every peer, also one that redialled.

use super::*;

/// a and c are linked to b alone. b accepts every second message of a; c gets only those.
#[tokio::test]
async fn gossip_is_relayed_only_after_a_verdict() {
    let (mut a, mut b, mut c) = (peer(1).await, peer(2).await, peer(3).await);
    a.dial(&b);
    c.dial(&b);
    a.link_up().await;
    c.link_up().await;
    // Subscriptions travel after the link: messages are repeated until one gets through.
    let mut number = 0;
    let mut next = |network: &Network| {
        number += 1;
        network.broadcast(&numbered(number));
        number
    };
    let received = |input: Option<Input>| match input {
        Some(Input::Gossip { ticket, from, message }) => (ticket, from, message),
        other => panic!("gossip was expected, not {other:?}"),
    };
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    let mut accepted = Vec::new();
    let (from, relayed) = within("gossip", async {
        let mut toggle = false;
        loop {
            tokio::select! {
                _ = beat.tick() => drop(next(&a.network)),
                input = b.inbox.gossip.recv() => {
                    let (ticket, from, message) = received(input);
                    assert_eq!(from, a.id);
                    toggle = !toggle;
                    if toggle {
                        b.network.verdict(ticket, Verdict::Ignore);
                    } else {
                        accepted.push(message);
                        b.network.verdict(ticket, Verdict::Accept);
                    }
                }
                input = c.inbox.gossip.recv() => {
                    let (_, from, message) = received(input);
                    break (from, message);
                }
            }
        }
    })
    .await;
    assert_eq!(from, b.id, "the relay, not the writer");
    assert!(accepted.contains(&relayed), "only what was accepted is relayed");
}

/// After a change of its address, a peer has lost its old connection silently while that still
/// stands here. It dials anew; its gossip must still arrive.
#[tokio::test]
async fn gossip_arrives_from_a_peer_that_redialled() {
    let mut a = peer(1).await;
    // The lower id decides which connection carries the link.
    let seed = (2..).find(|seed| id(*seed) < a.id).unwrap();
    let (mut before, mut anew) = (peer(seed).await, peer(seed).await);
    for b in [&mut before, &mut anew] {
        b.dial(&a);
        b.link_up().await;
    }
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    let from = within("gossip", async {
        for number in 0.. {
            tokio::select! {
                _ = beat.tick() => anew.network.broadcast(&numbered(number)),
                Some(Input::Gossip { from, .. }) = a.inbox.gossip.recv() => return from,
            }
        }
        unreachable!("numbers do not end")
    })
    .await;
    assert_eq!(from, anew.id);
}

/// Without peers a broadcast is no error.
#[tokio::test]
async fn a_lone_node_may_broadcast() {
    let mut a = peer(1).await;
    a.network.broadcast(&numbered(1));
    // Commands are handled in order: this one's answer means that the broadcast is done.
    assert!(a.network.dial(DialTarget::Address("kitchen".into()), vec!["kitchen".into()]));
    a.dial_failed().await;
    assert_eq!((a.count("net_gossip_sent"), a.count("net_gossip_dropped")), (1, 0));
}
