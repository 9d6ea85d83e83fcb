//! A peer that is no member: what it may say, what it hears, and what changes once it is one.

use super::super::types::{Command, Signal};
use super::*;

/// A stranger with a key of its own said whatever it liked, and got gossip as everybody.
#[tokio::test]
async fn stranger_may_only_greet() {
    let (mut a, mut b) = (peer(1).await, peer(2).await);
    b.network.set_roster([b.id].into_iter().collect());
    let mut services = b.network.accept(Purpose::Artifact).await;
    a.dial(&b);
    assert_eq!((a.link_up().await, b.link_up().await), (b.id, a.id));
    a.network.send(&b.id, Lane::Urgent, &numbered(1));
    let greeting = Message::NotAdmitted { why: "who are you?".into(), changes: Vec::new() };
    a.network.send(&b.id, Lane::Urgent, &greeting);
    assert_eq!(b.received().await, (a.id, greeting), "the first word is not passed on");
    assert_eq!(b.count("net_messages_dropped"), 1);
    // Its stream is reset; one that it opens as a member arrives.
    if let Ok(mut refused) = a.network.open(b.id, Purpose::Artifact).await {
        let mut answer = Vec::new();
        let read = within("an end", refused.read_to_end(&mut answer)).await;
        assert!(read.is_err() || answer.is_empty(), "{answer:?}");
    }
    b.network.set_roster(everybody());
    let mut stream = within("a stream", a.network.open(b.id, Purpose::Artifact)).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.flush().await.unwrap();
    let incoming = within("the stream", services.next()).await.expect("the network runs");
    assert_eq!(incoming.from, a.id);
}

/// A device is admitted over the link that it has: it must get gossip from then on, and be heard.
#[tokio::test]
async fn admitted_device_hears_gossip_over_the_same_link() {
    let (mut a, mut b) = (peer(1).await, peer(2).await);
    for one in [&a, &b] {
        one.network.set_roster([one.id].into_iter().collect());
    }
    a.dial(&b);
    assert_eq!((a.link_up().await, b.link_up().await), (b.id, a.id));
    for one in [&b, &a] {
        one.network.set_roster(everybody());
    }
    let mut beat = tokio::time::interval(Duration::from_millis(50));
    let (mut number, mut heard) = (0, (false, false));
    within("gossip in both directions", async {
        while heard != (true, true) {
            tokio::select! {
                _ = beat.tick() => {
                    number += 1;
                    a.network.broadcast(&numbered(number));
                    b.network.broadcast(&numbered(1 << 32 | number));
                }
                Some(_) = a.inbox.gossip.recv() => heard.0 = true,
                Some(_) = b.inbox.gossip.recv() => heard.1 = true,
            }
        }
    })
    .await;
}

/// A stranger said that its transfers stall, and the event named it: one for each of its keys.
#[tokio::test]
async fn strangers_stall_is_nobodys_news() {
    let (mut a, mut b) = (peer(1).await, peer(2).await);
    b.network.set_roster([b.id].into_iter().collect());
    a.dial(&b);
    assert_eq!((a.link_up().await, b.link_up().await), (b.id, a.id));
    let (reply, is_taken) = tokio::sync::oneshot::channel();
    let signal = Command::Signal { node: b.id, signal: Signal::Stalled, reply };
    a.network.commands.send(signal).await.unwrap();
    assert!(within("the signal", is_taken).await.unwrap());
    let greeting = Message::NotAdmitted { why: "who are you?".into(), changes: Vec::new() };
    a.network.send(&b.id, Lane::Urgent, &greeting);
    assert_eq!(b.received().await, (a.id, greeting), "nothing came before it");
}

/// A message takes room as it comes: of a long one that was only announced, little is there.
#[tokio::test]
async fn long_message_arrives_in_pieces() {
    let (a, mut b) = linked(1, 2).await;
    let why: String = "long".repeat(wire::MAX_MESSAGE / 5);
    let long = Message::NotAdmitted { why, changes: Vec::new() };
    a.network.send(&b.id, Lane::Urgent, &long);
    assert_eq!(b.received().await, (a.id, long));
}
