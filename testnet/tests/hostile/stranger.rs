//! Strangers: a key of their own, and the cluster's id from an invite that they once saw.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use futures::io::{AsyncReadExt, AsyncWriteExt};
use shoal_protocol::model::{Digest, Lane, PublicKey};
use shoal_protocol::node::Message;
use shoal_protocol::trust::{self, Invite, serial_at};
use shoal_testnet::hostile::{Attacker, Connection, Link, Target, within};
use shoal_testnet::real::eventually;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::scene::{Scene, outside};

/// The protocols of members.
const MEMBERS_PROTOCOLS: [&str; 6] =
    ["artifact/1", "http/1", "hop/1", "pieces/1", "ping/1", "stalled/1"];
/// Requests to join, with an invite that has ended.
const JOINS: usize = 1000;
/// Streams that a stranger fills on each of its connections, and the bytes on each.
const STREAMS: usize = 250;
const STUFFING: usize = 256 * 1024;

/// A stranger completes a handshake, and may only greet: whatever else it does, it learns nothing,
/// takes little, and is hung up on.
#[test]
fn strangers_learn_nothing_and_are_hung_up_on() {
    Scene::run(false, |scene| {
        let line = scene.cluster.shoal(0, &["invite", "--quiet", "--ttl", "1s"])?;
        let stale: Invite = line.trim().parse()?;
        let (attacker, targets) = (scene.attacker.clone(), scene.targets.clone());
        scene.during("strangers that are silent, curious or talk too much", async move {
            let mut all = JoinSet::new();
            for (number, target) in targets.into_iter().enumerate() {
                let stranger = |last: usize| attacker.stranger(outside((10 * number + last) as u8));
                all.spawn(silence(stranger(1), target));
                all.spawn(greetings(stranger(2), target));
                all.spawn(gossip(stranger(3), target));
                all.spawn(curiosity(stranger(4), target));
                all.spawn(giant_length(stranger(5), target));
            }
            joined(all).await
        })?;
        let heard = scene.count("net_messages_dropped")?;
        ensure!(heard > 0, "no word of a stranger was dropped");
        ensure!(scene.count("net_streams_refused")? > 0, "no stream of a stranger was refused");
        for node in &scene.cluster.nodes {
            let events = node.api().events()?;
            let told = ["not-admitted", "transfers-stall"];
            let told =
                events.iter().map(|event| event.kind.as_str()).filter(|it| told.contains(it));
            let told: Vec<&str> = told.collect();
            ensure!(told.is_empty(), "strangers wrote into the events: {told:?}");
        }

        let (attacker, targets) = (scene.attacker.clone(), scene.targets.clone());
        scene.during(
            "messages that do not end, on as many streams as there may be",
            async move {
                let mut all = JoinSet::new();
                for target in targets {
                    for last in 0..32 {
                        let stranger = attacker.stranger(outside(100 + last % 4));
                        all.spawn(half_messages(stranger.clone(), target));
                        if last % 4 == 0 {
                            all.spawn(stuffing(attacker.stranger(outside(110)), target));
                        }
                    }
                }
                joined(all).await
            },
        )?;
        let cut_off = scene.count("net_handshakes_strangers_talkative")?;
        ensure!(cut_off > 0, "nobody was cut off who sent too much");

        eventually("the invite has ended", || {
            let ends = stale.check()?.context("it never ends")?;
            ensure!(wall() > ends.0, "it holds");
            Ok(())
        })?;
        let (attacker, targets) = (scene.attacker.clone(), scene.targets.clone());
        scene.during("a thousand requests to join with a stale invite", async move {
            let (mut all, stale) = (JoinSet::new(), Arc::new(stale));
            let places = Arc::new(Semaphore::new(24));
            for number in 0..JOINS {
                let stranger = attacker.stranger(outside((number % 200) as u8 + 1));
                let target = targets[number % targets.len()];
                let (stale, places) = (stale.clone(), places.clone());
                all.spawn(async move {
                    let _place = places.acquire().await?;
                    stale_join(stranger, target, &stale).await
                });
            }
            joined(all).await
        })?;
        let nodes = scene.cluster.nodes[0].api().nodes()?.len();
        ensure!(nodes == scene.targets.len(), "{nodes} nodes are known");
        Ok(())
    });
}

async fn joined(all: JoinSet<Result<()>>) -> Result<()> {
    all.join_all().await.into_iter().collect()
}

async fn silence(stranger: Attacker, target: Target) -> Result<()> {
    let connection = within("a handshake", Connection::dial(&stranger, &target)).await??;
    within("the end of a silent stranger", connection.ended()).await
}

/// Says the same again and again.
async fn greetings(stranger: Attacker, target: Target) -> Result<()> {
    let mut link = Link::open(&stranger, &target).await?;
    for number in 0..200 {
        let why = format!("a stranger says {number}");
        let greeting = Message::NotAdmitted { why, changes: Vec::new() };
        if link.send(Lane::Urgent, &greeting).await.is_err() {
            break;
        }
    }
    within("the end of a talkative stranger", link.connection.ended()).await?;
    is_told_nothing(link)
}

/// Nothing of the cluster was said to a stranger.
fn is_told_nothing(mut link: Link) -> Result<()> {
    let told: Vec<&str> = link.heard().iter().map(Message::kind).collect();
    ensure!(told.iter().all(|kind| *kind == "not-admitted"), "it was told {told:?}");
    Ok(())
}

async fn gossip(stranger: Attacker, target: Target) -> Result<()> {
    let link = Link::open(&stranger, &target).await?;
    let mut gossip = link.gossip().await?;
    let message = Message::Have { node: stranger.node(), digest: Digest([2; 32]) };
    for _ in 0..200 {
        if gossip.publish(&shoal_protocol::wire::encode(&message)).await.is_err() {
            break;
        }
    }
    within("the end of a stranger that gossips", link.connection.ended()).await?;
    is_told_nothing(link)
}

/// Opens every protocol that members have: each stream ends without a byte.
async fn curiosity(stranger: Attacker, target: Target) -> Result<()> {
    let mut link = Link::open(&stranger, &target).await?;
    link.send(Lane::Bulk, &Message::AskHolder { digest: Digest([1; 32]) }).await?;
    for name in MEMBERS_PROTOCOLS {
        let protocol = stranger.protocol(name);
        let opened = link.connection.select(&protocol);
        let Ok(mut stream) = within("a stream", opened).await? else { continue };
        let mut answer = Vec::new();
        let asked = async {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: hello.localhost\r\n\r\n").await?;
            stream.flush().await?;
            stream.read_to_end(&mut answer).await
        };
        // Refused by a reset, or by its end.
        let _ = within("the end of a stream", asked).await?;
        ensure!(answer.is_empty(), "{name} answered {} bytes", answer.len());
    }
    within("the end of a curious stranger", link.connection.ended()).await?;
    is_told_nothing(link)
}

async fn giant_length(stranger: Attacker, target: Target) -> Result<()> {
    let mut link = Link::open(&stranger, &target).await?;
    link.send_bytes(Lane::Urgent, &[0xff; 4]).await?;
    within("the end of a stranger with a giant message", link.connection.ended()).await
}

/// Announces the longest messages on both lanes, and sends a byte of each.
async fn half_messages(stranger: Attacker, target: Target) -> Result<()> {
    // There may be no place for it any more.
    let Ok(mut link) = Link::open(&stranger, &target).await else { return Ok(()) };
    for lane in [Lane::Urgent, Lane::Bulk] {
        let _ = link.send_bytes(lane, &[0, 4, 0, 0, 2]).await;
    }
    within("the end of half a message", link.connection.ended()).await
}

/// Fills as many streams as it can.
async fn stuffing(stranger: Attacker, target: Target) -> Result<()> {
    // There may be no place for it any more.
    let Ok(Ok(connection)) = within("a handshake", Connection::dial(&stranger, &target)).await
    else {
        return Ok(());
    };
    let _streams = within("streams to fill", connection.fill(STREAMS, STUFFING)).await?;
    within("the end of a stranger that sends too much", connection.ended()).await
}

/// Asks to be admitted, with a ticket from an invite that has ended.
async fn stale_join(stranger: Attacker, target: Target, stale: &Invite) -> Result<()> {
    // There may be no place for it: it asks somebody else, as a device would.
    let Ok(mut link) = Link::open(&stranger, &target).await else { return Ok(()) };
    let (by, serial) =
        (PublicKey(target.node.0), serial_at(shoal_protocol::model::WallClock(wall())));
    let ticket = trust::ticket(&stale.genesis(), &stale.keys(), by, stranger.node(), serial);
    let record = link.record(1, Vec::new()).wire();
    let join = Message::Join { record, chain: stale.chain.with(ticket) };
    if link.send(Lane::Urgent, &join).await.is_err() {
        return Ok(());
    }
    while let Some(message) = link.next().await? {
        match message {
            Message::NotAdmitted { why, .. } => ensure!(why.contains("ended"), "it says {why}"),
            other => bail!("a stale invite was answered with {}", other.kind()),
        }
    }
    within("the end of a stale invite", link.connection.ended()).await
}

fn wall() -> u64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    since.as_millis() as u64
}
