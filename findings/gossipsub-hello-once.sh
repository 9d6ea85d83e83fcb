#!/usr/bin/env bash
# libp2p-gossipsub 0.50.1 (libp2p 0.57.0): a peer that connects anew before its old connection has
# ended never learns our topics. The list of topics goes out over the first connection to a peer.
# When a second connection is made while the first still stands, the list is not sent over it, nor
# when the first closes, although the peer behind the second may be a new process.
#
# Expected: a process that has just started learns the topics, at the latest with the next
# heartbeat.
# Seen: our side knows the peer's topic, and the peer knows none of ours, five heartbeats later
# still; its publish fails with NoPeersSubscribedToTopic.
# It matters to nodes that restart, or change their address, faster than their peers notice that
# the old connection is dead: all are connected, there is no error, and one direction of gossip is
# silent until the connection is made once more.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir "$folder/src"
cat > "$folder/Cargo.toml" <<'T'
[package]
name = "finding"
version = "0.0.0"
edition = "2024"
[dependencies]
futures = "=0.3.33"
libp2p-gossipsub = "=0.50.1"
tokio = { version = "1", features = ["rt", "time", "macros"] }
[dependencies.libp2p]
version = "=0.57.0"
default-features = false
features = ["tokio", "tcp", "noise", "yamux", "gossipsub", "ed25519"]
T
cat > "$folder/src/main.rs" <<'R'
use std::time::Duration;

use futures::StreamExt;
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, Event, IdentTopic, MessageAuthenticity, PublishError,
};
use libp2p::identity::Keypair;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, noise, tcp, yamux};

fn peer(keys: &Keypair) -> Swarm<Behaviour> {
    let heartbeat =
        ConfigBuilder::default().heartbeat_interval(Duration::from_millis(300)).build().unwrap();
    let mut gossip = Behaviour::new(MessageAuthenticity::Signed(keys.clone()), heartbeat).unwrap();
    gossip.subscribe(&IdentTopic::new("news")).unwrap();
    libp2p::SwarmBuilder::with_existing_identity(keys.clone())
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| gossip)
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(60)))
        .build()
}

fn is_subscription(event: &SwarmEvent<Event>) -> bool {
    matches!(event, SwarmEvent::Behaviour(Event::Subscribed { .. }))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let keys = Keypair::generate_ed25519();
    let mut ours = peer(&Keypair::generate_ed25519());
    ours.listen_on("/ip4/127.0.0.1/tcp/0".parse().unwrap()).unwrap();
    let address: Multiaddr = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = ours.select_next_some().await {
            break address;
        }
    };
    // The peer before it restarts: both ends learn the topic.
    let mut before = peer(&keys);
    before.dial(address.clone()).unwrap();
    let (mut here, mut there) = (false, false);
    while !(here && there) {
        tokio::select! {
            event = ours.select_next_some() => here |= is_subscription(&event),
            event = before.select_next_some() => there |= is_subscription(&event),
        }
    }
    println!("first connection: both know the topic of the other");
    // The peer restarts and connects while its old connection still stands here.
    let mut anew = peer(&keys);
    anew.dial(address).unwrap();
    loop {
        tokio::select! {
            event = ours.select_next_some() => {
                if matches!(event, SwarmEvent::ConnectionEstablished { .. }) {
                    break;
                }
            }
            _ = anew.select_next_some() => {}
            _ = before.select_next_some() => {}
        }
    }
    drop(before);
    let mut closed = false;
    let heartbeats = tokio::time::sleep(Duration::from_millis(300 * 6));
    tokio::pin!(heartbeats);
    loop {
        tokio::select! {
            event = ours.select_next_some() => {
                closed |= matches!(event, SwarmEvent::ConnectionClosed { num_established: 1, .. });
            }
            _ = anew.select_next_some() => {}
            () = &mut heartbeats => break,
        }
    }
    assert!(closed, "the old connection was to end, and the new one to stay");
    let topics = |swarm: &Swarm<Behaviour>| {
        swarm.behaviour().all_peers().map(|(_, topics)| topics.len()).sum::<usize>()
    };
    let said = anew.behaviour_mut().publish(IdentTopic::new("news"), b"hello".to_vec());
    println!(
        "topics of the peer known here: {}; ours known to the peer: {}; its publish: {said:?}",
        topics(&ours),
        topics(&anew)
    );
    assert_eq!((topics(&ours), topics(&anew)), (1, 0));
    assert!(matches!(said, Err(PublishError::NoPeersSubscribedToTopic)));
}
R
CARGO_TARGET_DIR="$folder/target" cargo run --quiet --manifest-path "$folder/Cargo.toml"
