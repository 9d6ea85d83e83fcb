//! The core promise in one test: three real nodes, one workload, one kill, and another node
//! answers.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use shoal_protocol::model::view::{AuctionView, WorkloadView};

use crate::real::traffic::{Sample, Traffic};
use crate::real::{Cluster, Options, eventually, held};

/// The name of the example workload.
pub const HELLO: &str = "hello";
/// The host under which every node's HTTP port serves it.
pub const HELLO_HOST: &str = "hello.localhost";

/// The course of one kill.
pub struct Outcome {
    /// The node that was killed.
    pub victim: String,
    /// The node that answered next.
    pub survivor: String,
    /// From the kill to the first good answer at a survivor.
    pub gap: Duration,
    /// The auction that the survivor won.
    pub auction: AuctionView,
}

/// Starts three nodes, publishes a workload of one replica, kills its node, and waits until a
/// survivor serves it, explains its auction, and is the only holder. All processes and files are
/// gone when this returns.
pub fn once(options: &Options) -> Result<Outcome> {
    let mut cluster = Cluster::start(options, 3)?;
    let outcome = kill_the_holder(&mut cluster);
    cluster.report_failure(outcome)
}

fn kill_the_holder(cluster: &mut Cluster) -> Result<Outcome> {
    let view = cluster.publish(0, &cluster.guest(HELLO)?, HELLO, 1)?;
    let victim = holder(cluster, &view)?;
    let (at, answer, traffic) = kill_under_traffic(cluster, victim, Duration::from_millis(10))?;
    drop(traffic);

    let survivor = server(cluster, &answer)?;
    ensure!(survivor != victim, "the dead node answered");
    let name = cluster.nodes[survivor].name.clone();
    let api = cluster.any()?.api();
    let id = cluster.nodes[survivor].id();
    api.watch(HELLO, "the survivor is its only holder", |view| {
        view.healthy == 1
            && held(view).count() == 1
            && held(view).all(|one| one.node.as_deref() == Some(id))
    })?;
    // The first answer may come before the owner's summary of the auction.
    let auction = eventually("an auction that names the survivor", || {
        let explained = api.explain(HELLO, 0)?;
        let winner = |auction: &AuctionView| auction.winner.as_deref() == Some(&name);
        explained
            .auctions
            .into_iter()
            .find(winner)
            .with_context(|| format!("no auction was won by {name}"))
    })?;
    let victim = cluster.nodes[victim].name.clone();
    Ok(Outcome { victim, survivor: name, gap: answer.ended.duration_since(at), auction })
}

/// Sends requests to all other nodes at a steady pace, kills `victim`, and waits for the first good
/// answer to a request sent after that. Returns the time of the kill, the answer, and the traffic,
/// which goes on.
pub fn kill_under_traffic(
    cluster: &mut Cluster,
    victim: usize,
    pace: Duration,
) -> Result<(Instant, Sample, Traffic)> {
    under_traffic(cluster, victim, pace, |cluster, victim| {
        cluster.nodes[victim].kill().map(|at| (at, at))
    })
}

/// As [`kill_under_traffic`], with another way to lose a node. `lose` returns the time just before,
/// and the time from which the node cannot answer: answers to requests sent in between do not
/// count.
pub fn under_traffic(
    cluster: &mut Cluster,
    victim: usize,
    pace: Duration,
    lose: impl FnOnce(&mut Cluster, usize) -> Result<(Instant, Instant)>,
) -> Result<(Instant, Sample, Traffic)> {
    let others = cluster.running().into_iter().filter(|index| *index != victim);
    let targets = others.map(|index| cluster.nodes[index].http()).collect::<Result<Vec<_>>>()?;
    let traffic = Traffic::start(targets, HELLO_HOST, pace);
    traffic.until("a good answer before the loss", Sample::good)?;
    let (at, lost) = lose(cluster, victim)?;
    let (answer, _) = traffic
        .until("a good answer at a survivor", |sample| sample.good() && sample.sent >= lost)?;
    Ok((at, answer, traffic))
}

/// The index of the node that holds a workload's only replica.
pub fn holder(cluster: &Cluster, view: &WorkloadView) -> Result<usize> {
    let held: Vec<_> = held(view).collect();
    let [replica] = held[..] else { bail!("{} is held {} times", view.name, held.len()) };
    cluster.by_id(replica.node.as_deref().context("nobody holds the replica")?)
}

/// The index of the node that served an answer, by its header: a name or an id, whole or short.
pub fn server(cluster: &Cluster, answer: &Sample) -> Result<usize> {
    let said =
        answer.served_by.as_deref().context("the answer does not say which node served it")?;
    let found = cluster
        .nodes
        .iter()
        .position(|node| node.name == said || (said.len() >= 8 && node.id().starts_with(said)));
    found.with_context(|| format!("the answer comes from {said}, which is no node of ours"))
}

/// `cargo testnet kill`: the same kill again and again, each in a fresh cluster. True when all were
/// survived.
pub fn run(options: &Options, times: u32) -> Result<bool> {
    let mut gaps = Vec::new();
    for turn in 1..=times {
        match once(options) {
            Ok(outcome) => {
                let Outcome { victim, survivor, gap, auction } = outcome;
                let gap = gap.as_secs_f64() * 1000.0;
                println!(
                    "{turn:>3}/{times}  killed {victim}, {survivor} answered after {gap:.0} ms  \
                        ({})",
                    auction.outcome
                );
                gaps.push(gap);
            }
            Err(error) => {
                println!("{turn:>3}/{times}  FAILED: {error:#}");
                return Ok(false);
            }
        }
    }
    let (least, most) =
        gaps.iter().fold((f64::MAX, 0f64), |(least, most), gap| (least.min(*gap), most.max(*gap)));
    println!("{times} of {times} kills were survived, after {least:.0} to {most:.0} ms");
    Ok(true)
}
