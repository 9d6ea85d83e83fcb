//! moved-while-off: every device gets another address while all are off, as after a power cut and
//! with a new router. All records are outdated and no invite is given: nodes find one another on
//! the local network, by mDNS. Another cluster is on the same network; no node may even dial it.

use anyhow::{Context, Result, ensure};

use super::net::{Clutter, Net};
use super::world::World;
use super::{Findings, Setup};
use crate::real::{Cluster, Place, readable};

/// Number of nodes of the other cluster.
const OTHERS: usize = 2;

pub(super) fn play(setup: &Setup) -> Result<Findings> {
    let net = Net::cluttered(setup.nodes + OTHERS, Clutter::AnyAddress)?;
    let others: Vec<Place> =
        (setup.nodes..setup.nodes + OTHERS).map(|node| net.place(node)).collect();
    World::run_in(
        setup,
        "moved-while-off",
        Some(net),
        |_| Ok(Vec::new()),
        |world| {
            let others = Cluster::start_at(&setup.options, others)?;
            let nodes = world.others(&[]);
            for node in &nodes {
                world.cluster.nodes[*node].kill()?;
            }
            let net = world.net.as_mut().context("there is no network of its own")?;
            for node in &nodes {
                net.readdress(*node)?;
            }
            for node in &nodes {
                let place = net.place(*node);
                let daemon = &mut world.cluster.nodes[*node];
                daemon.start(&["--http", &place.http])?;
                daemon.place = place;
            }
            for node in &nodes {
                world.cluster.nodes[*node].ready()?;
            }
            let back = std::time::Instant::now();
            world.say(&format!("all {} nodes are back, each at another address", nodes.len()));
            world.cluster.settled()?;
            let found = back.elapsed();
            world.say(&format!("they found one another after {}", readable(found)));
            for node in world.cluster.nodes.iter().chain(&others.nodes) {
                let status = node.api().status()?;
                let strangers = status["counters"]["net_connections_refused"].as_u64();
                ensure!(
                    strangers == Some(0),
                    "{} was dialled by strangers: {strangers:?}",
                    node.name
                );
                let sent = status["counters"]["net_mdns_sent"].as_u64();
                ensure!(sent > Some(0), "{} says nothing by mDNS", node.name);
            }
            let what = "all found one another at new addresses, and none dialled the other \
                cluster; gap: until linked";
            Ok(Findings { what: what.to_owned(), worst_gap: Some(found) })
        },
    )
}
