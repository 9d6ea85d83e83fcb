//! black-hole: the path between two nodes loses packets of full size, as behind a tunnel that drops
//! packets which it should refuse. Small messages pass, so both nodes stay linked; a large
//! component must arrive all the same, and both nodes must report the path.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::outage::Clients;
use super::weather::Snapshot;
use super::world::{EACH, World};
use super::{Findings, Setup};
use crate::kill::HELLO;
use crate::real::eventually;
use crate::real::http::{Request, ask};

/// Bytes of the longest packet that passes.
const LONGEST: usize = 1_000;
/// Bytes of the component that is published: thousands of packets, more than all buffers on the
/// path hold.
const LARGE: usize = 5_000_000;
/// Words that the nodes' reports must contain.
const WORDS: &str = "small messages pass, transfers stall";
/// A workload that gives large answers on request, and its component.
const BIG: &str = "big";
const FAULTY: &str = "faulty";
/// KiB of a large answer.
const ANSWER_KIB: usize = 500;
/// How long a large answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

pub(super) fn play(setup: &Setup) -> Result<Findings> {
    World::run(setup, "black-hole", |world| {
        world.publish_of(0, FAULTY, BIG, 1)?;
        let (near, far) = pair(world)?;
        // A guardian fetches a published component at once, from the only holder: the node that
        // published it.
        let name = guarded_by(world, far)?;
        let hole = world
            .net
            .as_mut()
            .context("there is no network of its own")?
            .hole(near, far, LONGEST)?;
        world.say(&format!(
            "between {} and {} packets of more than {LONGEST} bytes are lost",
            world.name(near),
            world.name(far)
        ));
        world.rest()?;
        let before = Snapshot::of(world)?;
        let links = links_made(world)?;
        let clients = Clients::of(world, EACH, &world.others(&[]))?;
        let replicas = u32::try_from(world.cluster.nodes.len())?;
        let component = large(world)?;
        world.cluster.publish(near, &component, &name, replicas)?;
        world.desired.insert(name, replicas);
        world.say(&format!("{LARGE} bytes were published and run on {replicas} nodes"));
        ensure!(hole.lost() > 0, "no packet was lost: nothing was tried");
        let told = told(world, near, far)?;
        world.say(&format!("`nodes` says: {told}"));
        let came = hole.passed();
        ensure!(
            came < LARGE as u64 / 2,
            "{came} bytes passed between the two: the component came that way"
        );
        // By now the nodes know the path, and use small packets for transfers on it.
        let got = big(world, near)?;
        world.say(&format!("an answer of {} KiB passed the path as well", got / 1024));
        world.cluster.shoal(near, &["rm", BIG])?;
        world.desired.remove(BIG);
        let outage = clients.done()?;
        let after = Snapshot::of(world)?;
        after.no_new_downs(world, &before)?;
        ensure!(
            links_made(world)? == links,
            "a link broke: large transfers were in the way of small messages"
        );
        let what = format!(
            "{} long packets lost; the component came from others ({} KB over the path), an \
             answer of {} KiB passed it, no node was taken for dead, no link broke; {outage}; \
             gap: between answers",
            hole.lost(),
            came / 1000,
            got / 1024
        );
        Ok(Findings { what, worst_gap: Some(outage.worst) })
    })
}

/// A node, and another that runs the only replica of the workload with large answers.
fn pair(world: &World) -> Result<(usize, usize)> {
    let far = world.holder(0, BIG, 0)?;
    let near = (0..world.cluster.nodes.len())
        .find(|node| *node != far)
        .context("there is only one node")?;
    Ok((near, far))
}

/// Publishes workloads until this node guards one; returns its name.
fn guarded_by(world: &mut World, guardian: usize) -> Result<String> {
    for number in 0..20 {
        let name = format!("large-{number}");
        world.publish(0, &name, 1)?;
        let view = world.cluster.nodes[0].api().workload(&name)?;
        if view.guardians.iter().any(|guards| guards == world.name(guardian)) {
            return Ok(name);
        }
    }
    bail!("of twenty workloads {} guards none", world.name(guardian))
}

/// Requests a large answer at a node; the replica is on the other side of the path. Returns its
/// length.
fn big(world: &World, at: usize) -> Result<usize> {
    let target = format!("/big?{ANSWER_KIB}");
    eventually("a large answer passes the path", || {
        let stream = TcpStream::connect(world.cluster.nodes[at].http()?)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        let host = format!("{BIG}.localhost");
        let answer =
            ask(stream, &Request { method: "GET", target: &target, host: &host, body: &[] })?;
        let (status, text) = (answer.status, answer.text()?);
        ensure!(
            status == 200 && text.len() == ANSWER_KIB * 1024,
            "{status}, {} bytes: {:.200}",
            text.len(),
            text
        );
        Ok(text.len())
    })
}

/// The example component with a section of five megabytes that engines skip.
fn large(world: &World) -> Result<PathBuf> {
    let guest = world.cluster.guest(HELLO)?;
    let mut bytes = fs::read(&guest).with_context(|| format!("cannot read {}", guest.display()))?;
    let name = b"ballast";
    let mut section = vec![u8::try_from(name.len())?];
    section.extend_from_slice(name);
    let mut word = 0x2545_f491_u32;
    while section.len() < LARGE {
        word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        section.extend_from_slice(&word.to_be_bytes());
    }
    bytes.push(0);
    let mut length = section.len();
    while length >= 0x80 {
        bytes.push(u8::try_from(length & 0x7f)? | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length)?);
    bytes.extend_from_slice(&section);
    let path = world.cluster.folder().join("large.wasm");
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Waits until both ends report the path; returns one of the reports.
fn told(world: &World, one: usize, other: usize) -> Result<String> {
    let mut said = String::new();
    for (at, of) in [(one, other), (other, one)] {
        let (name, of_name) = (world.name(at), world.name(of));
        said = eventually(&format!("{name} tells of its path to {of_name}"), || {
            let nodes = world.cluster.nodes[at].api().nodes()?;
            let peer =
                nodes.iter().find(|node| node.name == of_name).context("the peer is a member")?;
            match &peer.path {
                Some(note) if note.contains(WORDS) && note.contains(name) => Ok(note.clone()),
                note => bail!("{name} says of {of_name}: {note:?}"),
            }
        })?;
        let events = world.cluster.nodes[at].api().events()?;
        let is_told = |node: &Option<String>| node.as_deref() == Some(of_name);
        let event =
            events.iter().find(|event| event.kind == "transfers-stall" && is_told(&event.node));
        ensure!(
            event.is_some_and(|event| event.message.contains(WORDS)),
            "{name} has no such event"
        );
    }
    Ok(said)
}

/// Links that each node has made since its start.
fn links_made(world: &World) -> Result<Vec<Option<u64>>> {
    let count =
        |node: &crate::real::Daemon| Ok(node.api().status()?["counters"]["net_links_up"].as_u64());
    world.cluster.nodes.iter().map(count).collect()
}
