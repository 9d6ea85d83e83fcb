//! `cargo testnet chaos`: faults of the field, done to real daemons, and the checks afterwards.
//!
//! Each scenario starts a cluster of its own, publishes a few workloads, causes its fault, and ends
//! with the checks of [`rest`]: all nodes agree, every replica is healthy once, nothing else runs,
//! and nothing changes any more. The network is namespaces and a bridge, see [`net`]; without root
//! only scenarios that need no network of their own are run, on loopback.

mod addresses;
mod black_hole;
mod blackout;
mod boot;
mod clock;
mod cuts;
mod disk;
mod engine_faults;
mod full_disk;
mod interfaces;
mod kills;
mod moved;
pub mod net;
mod no_way;
mod outage;
mod pause;
pub mod rest;
mod weather;
mod wire;
mod world;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::real::{Options, readable};
use crate::workspace::{Profile, Workspace};
use disk::Disk;
use net::Net;

/// Scenarios to run, and their size.
#[derive(Clone, Debug, Args)]
pub struct Chaos {
    /// Only these scenarios.
    #[arg(value_enum, value_name = "SCENARIO")]
    scenarios: Vec<Scenario>,
    /// How often kill-loop kills.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    kills: u32,
    /// How many nodes. Four, so that either half of a partition can hold an artifact twice; up to
    /// 32 all nodes are linked.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(4..=32))]
    nodes: u8,
    /// How long weather lasts.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// Nodes that get new addresses in addresses; without it one, then two, then all.
    #[arg(long, value_enum, value_name = "WHO")]
    moved: Option<Moved>,
    /// The daemon to test, instead of building it.
    #[arg(long, value_name = "PATH")]
    daemon: Option<PathBuf>,
    /// Leave the folders with state and logs.
    #[arg(long)]
    keep: bool,
}

/// Faults of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Scenario {
    /// kill -9 of a serving node, again and again.
    KillLoop,
    /// The mesh falls into two halves, both are written to, it heals.
    Partition,
    /// A node's cable is pulled, and put in again.
    CutCable,
    /// Two nodes cannot reach one another, as behind two routers that refuse connections; all
    /// others reach both.
    NoWay,
    /// A node hangs for a minute.
    Pause,
    /// A node's disk is full.
    FullDisk,
    /// Nodes whose boot clocks differ by a month, or have just begun.
    Clock,
    /// All nodes lose power at once, and come back before their network does.
    Blackout,
    /// The path between two nodes loses full-sized packets, while a large component is published.
    BlackHole,
    /// Devices with nineteen container bridges each, most with the same addresses everywhere.
    ManyInterfaces,
    /// All nodes get other addresses while they are off, beside another cluster.
    MovedWhileOff,
    /// Late and lost packets, busy cores, disks that stall: no node may be taken for dead.
    Weather,
    /// Nodes get other addresses while they run: one, two one after the other, all at once.
    Addresses,
    /// Nodes start before their network is there.
    BootBeforeNetwork,
    /// A container engine is killed, started again, and hangs: Docker's and Podman's in turn.
    EngineFaults,
}

/// Nodes that get new addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Moved {
    /// A single node.
    One,
    /// Two, one after the other, and then a restart of both.
    Two,
    /// All at once: they find one another by multicast.
    All,
}

impl Scenario {
    /// The name on the command line.
    fn name(self) -> &'static str {
        match self {
            Scenario::KillLoop => "kill-loop",
            Scenario::Partition => "partition",
            Scenario::CutCable => "cut-cable",
            Scenario::NoWay => "no-way",
            Scenario::Pause => "pause",
            Scenario::FullDisk => "full-disk",
            Scenario::Clock => "clock",
            Scenario::Blackout => "blackout",
            Scenario::BlackHole => "black-hole",
            Scenario::ManyInterfaces => "many-interfaces",
            Scenario::MovedWhileOff => "moved-while-off",
            Scenario::Weather => "weather",
            Scenario::Addresses => "addresses",
            Scenario::BootBeforeNetwork => "boot-before-network",
            Scenario::EngineFaults => "engine-faults",
        }
    }

    /// The reason why it cannot be run here; none when it can.
    fn impossible(self, setup: &Setup) -> Option<String> {
        match self {
            // They need no network of their own: blackout then restarts with the network there.
            Scenario::KillLoop | Scenario::Pause | Scenario::Blackout => None,
            Scenario::Partition | Scenario::CutCable | Scenario::BlackHole | Scenario::NoWay => {
                setup.no_net.clone()
            }
            Scenario::ManyInterfaces | Scenario::MovedWhileOff => setup.no_net.clone(),
            Scenario::Addresses | Scenario::BootBeforeNetwork => setup.no_net.clone(),
            Scenario::EngineFaults => engine_faults::impossible(),
            Scenario::Weather => setup.no_net.clone().or_else(Disk::stalls_impossible),
            Scenario::FullDisk => Disk::impossible(),
            Scenario::Clock => clock::impossible(),
        }
    }

    fn play(self, setup: &Setup) -> Result<Findings> {
        match self {
            Scenario::KillLoop => kills::play(setup),
            Scenario::Partition => cuts::partition(setup),
            Scenario::CutCable => cuts::cable(setup),
            Scenario::NoWay => no_way::play(setup),
            Scenario::Pause => pause::play(setup),
            Scenario::FullDisk => full_disk::play(setup),
            Scenario::Clock => clock::play(setup),
            Scenario::Blackout => blackout::play(setup),
            Scenario::BlackHole => black_hole::play(setup),
            Scenario::ManyInterfaces => interfaces::play(setup),
            Scenario::MovedWhileOff => moved::play(setup),
            Scenario::Weather => weather::play(setup),
            Scenario::Addresses => addresses::play(setup),
            Scenario::BootBeforeNetwork => boot::play(setup),
            Scenario::EngineFaults => engine_faults::play(setup),
        }
    }
}

/// Settings of every scenario.
struct Setup {
    workspace: Workspace,
    options: Options,
    nodes: usize,
    kills: u32,
    lasting: Duration,
    moved: Option<Moved>,
    /// The reason why there is no network of its own; none when there is.
    no_net: Option<String>,
    /// The folder for logs and views of failed scenarios.
    evidence: PathBuf,
}

/// The result of a scenario that passed.
struct Findings {
    what: String,
    /// The longest time without the desired state, as the scenario measures it.
    worst_gap: Option<Duration>,
}

enum Outcome {
    Passed(Findings),
    Skipped(String),
    Failed(String),
}

/// Runs the scenarios. True when none failed.
pub fn run(workspace: &Workspace, chaos: &Chaos) -> Result<bool> {
    let scenarios =
        if chaos.scenarios.is_empty() { Scenario::value_variants() } else { &chaos.scenarios };
    let built = Options::build_around(workspace, Profile::Dev, chaos.daemon.clone())?;
    let setup = Setup {
        workspace: workspace.clone(),
        options: Options { keep: chaos.keep, ..built },
        nodes: usize::from(chaos.nodes),
        kills: chaos.kills,
        lasting: Duration::from_secs(chaos.minutes * 60),
        moved: chaos.moved,
        no_net: Net::impossible(),
        evidence: workspace.target.join("chaos"),
    };
    println!("{} nodes of {}", setup.nodes, setup.options.binary.display());
    if let Some(why) = &setup.no_net {
        println!("on loopback, without a network that could be cut: {why}");
    }
    let mut rows = Vec::new();
    for scenario in scenarios {
        let started = Instant::now();
        let outcome = match scenario.impossible(&setup) {
            Some(why) => Outcome::Skipped(why),
            None => match scenario.play(&setup) {
                Ok(findings) => Outcome::Passed(findings),
                Err(error) => Outcome::Failed(format!("{error:#}")),
            },
        };
        match &outcome {
            Outcome::Passed(findings) => {
                println!("{}: passed: {}\n", scenario.name(), findings.what)
            }
            Outcome::Skipped(why) => println!("{}: skipped: {why}\n", scenario.name()),
            Outcome::Failed(why) => {
                println!("{}: FAILED: {why}\nagain: {}\n", scenario.name(), again(*scenario, chaos))
            }
        }
        rows.push((*scenario, started.elapsed(), outcome));
    }
    println!("{}", table(&rows));
    Ok(!rows.iter().any(|(_, _, outcome)| matches!(outcome, Outcome::Failed(_))))
}

/// The command that runs a scenario again with the same settings.
fn again(scenario: Scenario, chaos: &Chaos) -> String {
    let mut command = format!("cargo testnet chaos {} --nodes {}", scenario.name(), chaos.nodes);
    match scenario {
        Scenario::KillLoop => command += &format!(" --kills {}", chaos.kills),
        Scenario::Weather => command += &format!(" --minutes {}", chaos.minutes),
        Scenario::Addresses => {
            let moved = chaos.moved.and_then(|moved| moved.to_possible_value());
            command +=
                &moved.map(|moved| format!(" --moved {}", moved.get_name())).unwrap_or_default();
        }
        _ => {}
    }
    if let Some(daemon) = &chaos.daemon {
        command += &format!(" --daemon {}", daemon.display());
    }
    command
}

fn table(rows: &[(Scenario, Duration, Outcome)]) -> String {
    let mut table =
        format!("{:<19} {:<8} {:>8} {:>10}  what\n", "scenario", "result", "took", "worst gap");
    for (scenario, took, outcome) in rows {
        let (result, what, gap) = match outcome {
            Outcome::Passed(findings) => ("passed", &findings.what, findings.worst_gap),
            Outcome::Skipped(why) => ("skipped", why, None),
            Outcome::Failed(why) => ("FAILED", why, None),
        };
        // The full report of a failure was printed before.
        let what = what.lines().next().unwrap_or_default();
        let gap = gap.map_or("-".to_owned(), readable);
        let took = format!("{:.0} s", took.as_secs_f64());
        table += &format!("{:<19} {result:<8} {took:>8} {gap:>10}  {what}\n", scenario.name());
    }
    table
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        chaos: Chaos,
    }

    #[test]
    fn printed_command_repeats_the_scenario() {
        let given = "chaos kill-loop weather addresses --nodes 7 --kills 9 --minutes 3 --moved two";
        let chaos = Line::try_parse_from(given.split(' ')).unwrap().chaos;
        for scenario in &chaos.scenarios {
            let told = again(*scenario, &chaos);
            let told = Line::try_parse_from(told.split(' ').skip(2)).unwrap().chaos;
            assert_eq!((told.scenarios, told.nodes), (vec![*scenario], 7));
        }
        assert!(again(Scenario::KillLoop, &chaos).ends_with("--kills 9"));
        assert!(again(Scenario::Weather, &chaos).ends_with("--minutes 3"));
        assert!(again(Scenario::Addresses, &chaos).ends_with("--moved two"));
    }

    #[test]
    fn unknown_scenario_is_refused_with_a_list() {
        let refusal = Line::try_parse_from(["chaos", "meteor"]).err().unwrap().to_string();
        for scenario in Scenario::value_variants() {
            assert!(refusal.contains(scenario.name()), "{refusal}");
        }
    }

    /// A failure's report may have many lines; the table shows the first.
    #[test]
    fn table_has_one_line_for_each_scenario() {
        let passed =
            Findings { what: "200 kills".into(), worst_gap: Some(Duration::from_millis(512)) };
        let rows = [
            (Scenario::KillLoop, Duration::from_secs(61), Outcome::Passed(passed)),
            (Scenario::Clock, Duration::ZERO, Outcome::Skipped("needs root".into())),
            (Scenario::Pause, Duration::from_secs(5), Outcome::Failed("n1 died\nof this".into())),
        ];
        let table = table(&rows);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[1], "kill-loop           passed       61 s     512 ms  200 kills");
        assert_eq!(lines[2], "clock               skipped       0 s          -  needs root");
        assert_eq!(lines[3], "pause               FAILED        5 s          -  n1 died");
        assert_eq!(lines.len(), 4);
    }
}
