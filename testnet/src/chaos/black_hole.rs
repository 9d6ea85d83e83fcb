//! black-hole: the path between two nodes loses packets of full size, as behind a tunnel that drops what it should refuse.
//! Small messages pass, so both nodes are well; a large component must arrive all the same, and people be told.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use super::outage::Clients;
use super::weather::Seen;
use super::world::{EACH, World};
use super::{Findings, Setup};
use crate::kill::HELLO;
use crate::real::eventually;

/// Bytes of the longest packet that passes.
const LONGEST: usize = 1_000;
/// Bytes of the component that is published: thousands of packets, more than all buffers on the way hold.
const LARGE: usize = 5_000_000;
/// What people must be told.
const WORDS: &str = "small messages pass, transfers stall";
/// The workload whose component is large.
const NAME: &str = "large";

pub(super) fn play(setup: &Setup) -> Result<Findings> {
    World::run(setup, "black-hole", |world| {
        // A guardian gets what is published at once, and from the only holder: the node where it is published.
        world.publish(0, NAME, 1)?;
        let (publisher, guardian) = pair(world)?;
        let hole = world.net.as_mut().context("there is no network of its own")?.hole(publisher, guardian, LONGEST)?;
        world.say(&format!(
            "between {} and {} packets of more than {LONGEST} bytes are lost",
            world.name(publisher),
            world.name(guardian)
        ));
        world.rest()?;
        let before = Seen::of(world)?;
        let links = links_made(world)?;
        let clients = Clients::of(world, EACH, &world.others(&[]))?;
        let replicas = u32::try_from(world.cluster.nodes.len())?;
        let component = large(world)?;
        world.cluster.publish(publisher, &component, NAME, replicas)?;
        world.wishes.insert(NAME.to_owned(), replicas);
        world.say(&format!("{LARGE} bytes were published and run on {replicas} nodes"));
        ensure!(hole.lost() > 0, "no packet was lost: nothing was tried");
        let told = told(world, publisher, guardian)?;
        world.say(&format!("`nodes` says: {told}"));
        let outage = clients.done()?;
        let after = Seen::of(world)?;
        after.nobody_down(world, &before)?;
        ensure!(links_made(world)? == links, "a link broke: what is large was in the way of what is small");
        let came = hole.passed();
        ensure!(came < LARGE as u64 / 2, "{came} bytes passed between the two: the component came that way");
        let what = format!(
            "{} long packets lost, {} KB of small ones passed; the component came from others, nobody was taken for dead, \
             no link broke; {outage}; gap: between answers",
            hole.lost(),
            came / 1000
        );
        Ok(Findings { what, worst_gap: Some(outage.worst) })
    })
}

/// A node that does not guard the workload more than another does, and one that guards it.
fn pair(world: &World) -> Result<(usize, usize)> {
    let view = world.cluster.nodes[0].api().workload(NAME)?;
    let guards = |node: usize| view.guardians.iter().any(|name| name == world.name(node));
    let nodes = || 0..world.cluster.nodes.len();
    let guardian = nodes().rev().find(|node| guards(*node)).context("nobody guards the workload")?;
    let publisher = nodes().find(|node| *node != guardian).context("there is only one node")?;
    Ok((publisher, guardian))
}

/// The example component with five megabytes that it never looks at: a section of a kind that engines skip.
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

/// Waits until both ends of the path say what is the matter with it; what one of them says.
fn told(world: &World, one: usize, other: usize) -> Result<String> {
    let mut said = String::new();
    for (at, of) in [(one, other), (other, one)] {
        let (name, of_name) = (world.name(at), world.name(of));
        said = eventually(&format!("{name} tells of its path to {of_name}"), || {
            let nodes = world.cluster.nodes[at].api().nodes()?;
            let peer = nodes.iter().find(|node| node.name == of_name).context("the peer is a member")?;
            match &peer.path {
                Some(note) if note.contains(WORDS) && note.contains(name) => Ok(note.clone()),
                note => bail!("{name} says of {of_name}: {note:?}"),
            }
        })?;
        let events = world.cluster.nodes[at].api().events()?;
        let is_told = |node: &Option<String>| node.as_deref() == Some(of_name);
        let event = events.iter().find(|event| event.kind == "transfers-stall" && is_told(&event.node));
        ensure!(event.is_some_and(|event| event.message.contains(WORDS)), "{name} has no such event");
    }
    Ok(said)
}

/// How many links each node has made since its start.
fn links_made(world: &World) -> Result<Vec<Option<u64>>> {
    let count = |node: &crate::real::Daemon| Ok(node.api().status()?["counters"]["net_links_up"].as_u64());
    world.cluster.nodes.iter().map(count).collect()
}
