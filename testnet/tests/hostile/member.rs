//! A stolen member: its key and its admission are good, and nothing that it says is.

use anyhow::{Context, Result, bail, ensure};
use futures::io::AsyncWriteExt;
use shoal_protocol::membership;
use shoal_protocol::model::{AuctionId, ChangeBody};
use shoal_protocol::model::{
    Award, Chain, Claim, Digest, KeyPair, Lane, NodeRecord, Phase, Place, RawChange, ReplicaId,
    Ruling, RulingBody, Signed, Slot, Token, Unverified, WallClock, codec,
};
use shoal_protocol::node::Message;
use shoal_protocol::wire;
use shoal_testnet::hostile::{Attacker, Connection, Link, Target, within};
use shoal_testnet::kill::HELLO;
use shoal_testnet::real::eventually;

use super::scene::{GOOD, Scene};

/// Copies of each statement that is said again.
const AGAIN: usize = 100;
const HAVE: usize = 20_000;
const RULINGS: u64 = 2_000;
const RECORDS: u64 = 10_000;
/// Claims of each replica, one after another.
const CLAIMS: usize = 60;
/// Streams of one connection, below the most that a node takes, and what a window takes.
const STREAMS: usize = 240;
const STUFFING: usize = 256 * 1024;
/// Connections that are filled, one after another: together more than a node may take.
const FILLED: usize = 6;

/// What a member hears of the others.
#[derive(Clone, Default)]
struct Heard {
    /// The admission of the member itself.
    lineage: Vec<RawChange>,
    slots: Vec<Unverified<Slot>>,
    changes: Vec<RawChange>,
    records: Vec<Unverified<NodeRecord>>,
}

/// A stolen member breaks the protocols, lies about others and about itself, and repeats itself
/// without end. In the end it is revoked.
#[test]
fn stolen_member_disturbs_nobody() {
    Scene::run(true, |scene| {
        let heard = listen(scene)?;
        let (attacker, targets) = (scene.attacker.clone(), scene.targets.clone());
        scene.during("broken messages of a member", async move {
            for target in targets {
                garbage(&attacker, &target).await?;
                half_messages(&attacker, &target).await?;
                stuffing(&attacker, &target).await?;
            }
            Ok(())
        })?;
        ensure!(scene.count("net_garbage")? >= 8 * GOOD as u64, "garbage was not counted");

        let (attacker, targets) = (scene.attacker.clone(), scene.targets.clone());
        let (lies, wanted) = (heard.clone(), theirs(scene)?);
        scene.during("other nodes' claims, and claims of other nodes' replicas", async move {
            for (turn, target) in (1..).zip(targets) {
                let mut link = Link::as_member(&attacker, &target).await?;
                forged(&mut link, &attacker, &lies).await?;
                claims(&mut link, &attacker, &wanted, turn * 1000).await?;
            }
            Ok(())
        })?;
        ensure!(scene.count("garbage")? >= GOOD as u64, "no forgery was counted");
        let disputed = scene.count("duplicates")? + scene.count("claims_doubted")?;
        ensure!(disputed > 0, "nobody saw the claims");

        let (attacker, targets) = (scene.attacker.clone(), scene.targets.clone());
        let uid = scene.cluster.nodes[0].api().workload(HELLO)?.uid.parse()?;
        let said = heard.clone();
        scene.during("old and new statements without end", async move {
            let floods = targets.into_iter().map(|target| {
                let (attacker, heard) = (attacker.clone(), said.clone());
                async move {
                    let mut link = Link::as_member(&attacker, &target).await?;
                    replays(&mut link, &heard).await?;
                    many(&mut link, &attacker, uid).await?;
                    is_heard(&mut link, &mut Heard::default()).await
                }
            });
            futures::future::try_join_all(floods).await.map(drop)
        })?;
        ensure!(scene.count("rulings_delayed")? > 0, "no ruling was left out");

        // It goes by another name now: its own record said so.
        scene.cluster.shoal(0, &["revoke", "stolen", "--why", "its key was stolen"])?;
        let (attacker, targets) = (scene.attacker.clone(), scene.targets.clone());
        let lineage = heard.lineage.clone();
        scene.during("a revoked member that comes again", async move {
            for target in targets {
                let mut told = 0;
                for _ in 0..20 {
                    told += u32::from(is_told_why(&attacker, &target, lineage.clone()).await?);
                }
                ensure!(told > 0, "it was hung up on without a word");
            }
            Ok(())
        })?;
        eventually("all nodes but the stolen one are known", || {
            let status = scene.cluster.nodes[0].api().status()?;
            ensure!(status["nodes"] == GOOD, "it says {status}");
            Ok(())
        })
    });
}

/// Listens as a member while a workload comes and goes.
fn listen(scene: &mut Scene) -> Result<Heard> {
    let listening = async {
        let mut link = Link::open_anew(&scene.attacker, &scene.targets[0]).await?;
        let lineage = link.lineage().await?;
        link.greet(lineage.clone()).await?;
        let gossip = link.gossip().await?;
        anyhow::Ok((link, gossip, lineage))
    };
    let (mut link, _gossip, lineage) = scene.runtime.block_on(listening)?;
    let mut heard = Heard { lineage, ..Heard::default() };
    // Gossip takes a heartbeat to find the listener.
    while heard.slots.len() < 3 || heard.changes.is_empty() || heard.records.is_empty() {
        scene.publishes()?;
        scene.runtime.block_on(is_heard(&mut link, &mut heard)).context("listening")?;
    }
    heard.slots.truncate(16);
    Ok(heard)
}

/// The node still answers over the link: it has taken all that was said before. Notes what it said.
async fn is_heard(link: &mut Link, heard: &mut Heard) -> Result<()> {
    let probe = membership::Message::Probe { seq: u64::MAX, intent: membership::ProbeIntent::None };
    link.send(Lane::Urgent, &Message::Membership(probe)).await?;
    loop {
        match link.next().await?.context("it was hung up on")? {
            Message::Membership(membership::Message::Answer { seq: u64::MAX, .. }) => return Ok(()),
            Message::Slot(slot) => heard.slots.push(slot),
            Message::Changed { change, .. } => heard.changes.push(change),
            Message::Membership(membership::Message::Record(record)) => heard.records.push(record),
            Message::Membership(membership::Message::Hello { record, .. }) => {
                heard.records.extend(record)
            }
            _ => {}
        }
    }
}

async fn garbage(attacker: &Attacker, target: &Target) -> Result<()> {
    let mut link = Link::as_member(attacker, target).await?;
    let mut bytes = wire::encode(&Message::AskHolder { digest: Digest([3; 32]) });
    bytes.truncate(9);
    for number in 0..16u8 {
        bytes.push(number);
        if link.send_frame(Lane::Bulk, &bytes).await.is_err() {
            break;
        }
    }
    within("the end of a link with garbage", link.connection.ended()).await?;
    // Streams of services that say nothing sensible.
    let link = Link::as_member(attacker, target).await?;
    let mut streams = Vec::new();
    for name in ["artifact/1", "http/1", "hop/1", "pieces/1", "nothing/1"] {
        for _ in 0..24 {
            let name = attacker.protocol(name);
            let opened = within("a stream", link.connection.select(&name));
            let Ok(mut stream) = opened.await? else { continue };
            let _ = stream.write_all(&[0xff; 512]).await;
            let _ = stream.flush().await;
            streams.push(stream);
        }
    }
    let mut gossip = link.gossip().await?;
    let _ = gossip.stream.write_all(&[0xff; 4096]).await;
    let _ = gossip.stream.flush().await;
    Ok(())
}

/// Fills all the streams of a connection, which a node holds until they are negotiated.
///
/// It is done again and again: what one connection took must be free for the next.
async fn stuffing(attacker: &Attacker, target: &Target) -> Result<()> {
    for _ in 0..FILLED {
        let link = Link::as_member(attacker, target).await?;
        within("streams to fill", link.connection.fill(STREAMS, STUFFING)).await?;
    }
    let _link = Link::as_member(attacker, target).await?;
    // A connection more, which does not become the link.
    let second = within("a handshake", Connection::dial(attacker, target)).await??;
    within("the end of a connection that is no link", second.ended()).await
}

async fn half_messages(attacker: &Attacker, target: &Target) -> Result<()> {
    let mut link = Link::as_member(attacker, target).await?;
    for lane in [Lane::Urgent, Lane::Bulk] {
        link.send_bytes(lane, &[0, 4, 0, 0, 2, 1, 1, 1]).await?;
    }
    drop(link);
    let mut link = Link::as_member(attacker, target).await?;
    link.send_bytes(Lane::Urgent, &[0xff, 0xff, 0xff, 0xff, 2]).await?;
    within("the end of a giant message", link.connection.ended()).await
}

/// Slots and changes of others, altered, and signed by keys that may not.
async fn forged(link: &mut Link, attacker: &Attacker, heard: &Heard) -> Result<()> {
    let cluster = attacker.cluster();
    let nobody = KeyPair::from_seed(&[77; 32]);
    for slot in &heard.slots {
        let mut bytes = codec::encode(slot);
        for at in [1, bytes.len() / 2, bytes.len() - 1] {
            bytes[at] ^= 0x20;
            if let Ok(altered) = codec::decode(&bytes) {
                link.send(Lane::Urgent, &Message::Slot(altered)).await?;
            }
            bytes[at] ^= 0x20;
        }
        let body = Slot { counter: 1 << 40, ..slot.peek()? };
        let forged = Signed::sign(body, &nobody, &cluster).wire();
        link.send(Lane::Urgent, &Message::Slot(forged)).await?;
    }
    for change in &heard.changes {
        let body: ChangeBody = change.change.peek()?;
        for (keys, chain) in [
            (&nobody, change.chain.clone()),
            (&nobody, Chain::default()),
            (&attacker.keys, change.chain.clone()),
        ] {
            let change = Signed::sign(body.clone(), keys, &cluster).wire();
            let change = RawChange { change, chain };
            link.send(Lane::Urgent, &Message::Changed { change, holder: None }).await?;
        }
    }
    Ok(())
}

/// A replica that runs well elsewhere.
#[derive(Clone, Copy)]
struct Theirs {
    replica: ReplicaId,
    generation: Digest,
    counter: u64,
}

/// The replicas of the workload that must not move.
fn theirs(scene: &Scene) -> Result<Vec<Theirs>> {
    let view = scene.cluster.nodes[0].api().workload(HELLO)?;
    let (uid, generation) = (view.uid.parse()?, view.generation.parse()?);
    let all = view.replicas.iter().map(|it| {
        let index = it.replica.rsplit_once('/').context("a replica has a number")?.1.parse()?;
        let replica = ReplicaId { uid, place: Place::Ordinal(index) };
        Ok(Theirs { replica, generation, counter: it.token.context("it is claimed")? })
    });
    all.collect()
}

/// Claims the replicas of others, with awards that it signed itself, above and below theirs, and
/// lets go of them again.
async fn claims(
    link: &mut Link,
    attacker: &Attacker,
    all: &[Theirs],
    mut number: u64,
) -> Result<()> {
    let (me, cluster) = (attacker.node(), attacker.cluster());
    for turn in 0..CLAIMS {
        for Theirs { replica, generation, counter } in all.iter().copied() {
            let counter = [1, counter, counter + 1000][turn % 3];
            let token = Token { counter, by: me, incarnation: 1 };
            let auction = AuctionId { owner: me, number: turn as u64 };
            let award = Award { auction, replica, generation, token, to: me };
            let claim = Claim {
                replica,
                name: HELLO.parse()?,
                generation,
                token,
                phase: Phase::Healthy,
                since: WallClock(0),
                award: Signed::sign(award, &attacker.keys, &cluster).wire(),
                update: None,
            };
            for claims in [vec![claim], Vec::new()] {
                number += 1;
                let slot = replica.slot();
                let slot = Slot { slot, counter: number, claims, newer: Vec::new() };
                let slot = Signed::sign(slot, &attacker.keys, &cluster).wire();
                link.send(Lane::Urgent, &Message::Slot(slot)).await?;
                is_heard(link, &mut Heard::default()).await?;
            }
        }
    }
    Ok(())
}

/// What was true once, over the link and by gossip.
async fn replays(link: &mut Link, heard: &Heard) -> Result<()> {
    let mut gossip = link.gossip().await?;
    let record = membership::Message::Record;
    let slots = heard.slots.iter().cloned().map(Message::Slot);
    let changes = heard.changes.iter().cloned();
    let changes = changes.map(|change| Message::Changed { change, holder: None });
    let records = heard.records.iter().cloned().map(|it| Message::Membership(record(it)));
    let all: Vec<Message> = slots.chain(changes).chain(records).collect();
    for _ in 0..AGAIN {
        for message in &all {
            link.send(Lane::Urgent, message).await?;
            within("gossip", gossip.publish(&wire::encode(message))).await??;
        }
    }
    Ok(())
}

/// More than an honest member ever says.
async fn many(link: &mut Link, attacker: &Attacker, uid: Digest) -> Result<()> {
    for number in 0..HAVE {
        let digest = Digest::of(&number.to_be_bytes());
        link.send(Lane::Urgent, &Message::Have { node: attacker.node(), digest }).await?;
    }
    for tick in 0..RULINGS {
        let generation = Digest([9; 32]);
        let body = RulingBody::Frontier { below: 0 };
        let ruling = Ruling { uid, generation, tick, sequence: 1, body };
        let ruling = Signed::sign(ruling, &attacker.keys, &attacker.cluster()).wire();
        link.send(Lane::Urgent, &Message::Ruled(ruling)).await?;
    }
    for counter in 0..RECORDS {
        let address = format!("/ip4/127.0.0.1/tcp/{}", 1 + counter % 1000);
        let record = link.record(1_000_000 + counter, vec![address]).wire();
        let record = Message::Membership(membership::Message::Record(record));
        link.send(Lane::Urgent, &record).await?;
    }
    Ok(())
}

/// A revoked member is hung up on. Whether it was told why: the end of its last link may come
/// first.
async fn is_told_why(
    attacker: &Attacker,
    target: &Target,
    lineage: Vec<RawChange>,
) -> Result<bool> {
    let mut link = Link::open_anew(attacker, target).await?;
    let why = match link.greet(lineage).await {
        Ok(()) => bail!("a revoked member was let in"),
        Err(error) => format!("{error:#}"),
    };
    within("the end of a revoked member", link.connection.ended()).await?;
    Ok(why.contains("revoked"))
}
