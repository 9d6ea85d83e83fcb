//! `cargo testnet demo`: three nodes, one workload, two kills, explained to a person; and a
//! container that fails over, where an engine can be started.

mod containers;

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use shoal_protocol::model::view::WorkloadView;

use crate::kill::{HELLO, HELLO_HOST, kill_under_traffic};
use crate::real::traffic::{Sample, ask_once};
use crate::real::{Cluster, Options, eventually};
use crate::workspace::{Profile, Workspace};

/// Time between two requests, which the survivors get in turn.
const PACE: Duration = Duration::from_millis(10);

/// Runs the demo. Nothing is left behind, except the folder with `keep`.
pub fn run(workspace: &Workspace, keep: bool) -> Result<()> {
    say("building the daemon and the example component (the first time takes some minutes)");
    let options = Options { keep, ..Options::build(workspace, Profile::Dev)? };
    say("three nodes on this machine, each with a folder of its own");
    let mut cluster = Cluster::start(&options, 3)?;
    let told = tell(&mut cluster);
    cluster.report_failure(told)?;
    say("stopping what is left");
    cluster.stop()?;
    drop(cluster);
    containers::tell(workspace, &options)?;
    println!("{}", WHAT_NEXT.trim_end());
    Ok(())
}

const WHAT_NEXT: &str = "
Nothing is left: no process, file or port. What to try next:

  cargo testnet kill --times 20     the same kill, again and again
  cargo testnet bench failover      how long it takes, measured with release binaries
  cargo run -p shoal -- up          a node of your own; `shoal invite` lets others join
";

fn tell(cluster: &mut Cluster) -> Result<()> {
    shoal(cluster, 0, &["nodes"])?;
    turned_away(cluster)?;

    say("publishing a WASM component that answers HTTP, twice");
    let component = cluster.guest(HELLO)?;
    let component = component.to_str().context("the component's path is not text")?;
    shoal(cluster, 0, &["run", component, "--name", HELLO, "--replicas", "2"])?;
    let view = cluster.healthy(0, HELLO)?;
    shoal(cluster, 0, &["ps", HELLO])?;
    let sample = ask_once(cluster.nodes[0].http()?, HELLO_HOST);
    ensure!(sample.good(), "the workload does not answer: {:?} {}", sample.answer, sample.text);
    println!("\n  http://{HELLO_HOST}/ at {} answers: {}", sample.asked, in_a_line(&sample.text));

    first_kill(cluster, &view)?;
    second_kill(cluster)
}

/// An invite admits one device until it ends.
fn turned_away(cluster: &Cluster) -> Result<()> {
    say("an invite for one device that holds for a second, and a device that comes too late");
    let line = cluster.shoal(0, &["invite", "--quiet", "--ttl", "1s"])?;
    let line = line.trim();
    println!(
        "  n1 $ shoal invite --ttl 1s\n  {}... ({} characters)",
        line.get(..40).unwrap_or(line),
        line.len()
    );
    std::thread::sleep(Duration::from_millis(1_200));
    let mut late = cluster.stranger("late", line)?;
    let refused = eventually("the refusal", || {
        let warnings = late.api().status()?["warnings"].to_string();
        ensure!(warnings.contains("the invite ended"), "it says {warnings}");
        Ok(warnings)
    })?;
    println!("  late $ shoal status\n  {}", refused.trim_matches(['[', ']', '"']));
    late.stop()
}

fn first_kill(cluster: &mut Cluster, view: &WorkloadView) -> Result<()> {
    let place = view.replicas.first().context("nothing is placed")?;
    let victim = cluster.by_id(place.node.as_deref().context("nobody holds the first replica")?)?;
    let (name, id) = (cluster.nodes[victim].name.clone(), cluster.nodes[victim].id().to_owned());
    say(&format!(
        "kill -9 {name}, which serves {}, while requests go on at the two others",
        place.replica
    ));

    let (killed_at, first, traffic) = kill_under_traffic(cluster, victim, PACE)?;
    let survivor = cluster.running().first().copied().context("a node runs")?;
    let what = "two of two are healthy without the dead node";
    let (healed_at, _) =
        cluster.nodes[survivor].api().watch(HELLO, what, |view| whole(view, &[&id]))?;
    let rest = traffic.stop();
    let since: Vec<&Sample> =
        rest.iter().chain([&first]).filter(|sample| sample.sent >= killed_at).collect();
    let failed = since.iter().filter(|sample| !sample.good()).count();
    let slowest = since.iter().map(|sample| sample.ended - sample.sent).max().unwrap_or_default();

    println!("  first good answer at a survivor  {:>7}", after(killed_at, first.ended));
    println!("  two of two healthy again         {:>7}", after(killed_at, healed_at));
    println!(
        "  of {} requests since then, {failed} failed; the slowest took {}",
        since.len(),
        millis(slowest)
    );

    say("the auction that closed the gap");
    shoal(cluster, survivor, &["explain", &place.replica])
}

fn second_kill(cluster: &mut Cluster) -> Result<()> {
    let [victim, last] = cluster.running()[..] else { bail!("two nodes should run") };
    let dead: Vec<String> = cluster
        .nodes
        .iter()
        .enumerate()
        .filter(|(index, _)| *index != last)
        .map(|(_, node)| node.id().to_owned())
        .collect();
    let dead: Vec<&str> = dead.iter().map(String::as_str).collect();
    let (gone, stays) = (cluster.nodes[victim].name.clone(), cluster.nodes[last].name.clone());
    say(&format!("kill -9 {gone} as well: {stays} is alone"));

    let (killed_at, first, traffic) = kill_under_traffic(cluster, victim, PACE)?;
    let what = "the last survivor runs both";
    let (healed_at, _) = cluster.nodes[last].api().watch(HELLO, what, |view| whole(view, &dead))?;
    drop(traffic);
    println!("  first good answer                {:>7}", after(killed_at, first.ended));
    println!("  two of two healthy again         {:>7}", after(killed_at, healed_at));
    shoal(cluster, last, &["ps", HELLO])?;

    say("the last survivor still takes a publish");
    let component = cluster.guest(HELLO)?;
    let component = component.to_str().context("the component's path is not text")?;
    shoal(cluster, last, &["run", component, "--name", "second", "--replicas", "1"])?;
    let port = cluster.nodes[last].http()?;
    let sample = answered(port, "second.localhost")?;
    println!("\n  http://second.localhost/ at {port} answers: {}", in_a_line(&sample.text));
    shoal(cluster, last, &["ps"])
}

/// Whether the desired number of replicas is healthy on nodes that are not dead.
fn whole(view: &WorkloadView, dead: &[&str]) -> bool {
    let healthy = view.replicas.iter().filter(|replica| replica.phase == "healthy");
    let is_alive = |node: &str| !dead.contains(&node);
    let alive = healthy.filter(|replica| replica.node.as_deref().is_some_and(is_alive));
    alive.count() as u32 == view.desired
}

fn answered(port: SocketAddr, host: &str) -> Result<Sample> {
    eventually(&format!("an answer of {host}"), || {
        let sample = ask_once(port, host);
        ensure!(sample.good(), "{:?} {}", sample.answer, sample.text.trim());
        Ok(sample)
    })
}

/// Runs `shoal` and shows the command and its output.
fn shoal(cluster: &Cluster, index: usize, arguments: &[&str]) -> Result<()> {
    let node = &cluster.nodes[index];
    let shown: Vec<&str> = arguments
        .iter()
        .map(|word| word.rsplit('/').next().filter(|_| word.starts_with('/')).unwrap_or(word))
        .collect();
    println!("\n  {} $ shoal {}", node.name, shown.join(" "));
    let mut command = node.shoal(arguments);
    let status = command
        .stdout(Stdio::inherit())
        .stderr(Stdio::inherit())
        .status()
        .context("cannot run shoal")?;
    ensure!(status.success(), "`shoal {}` failed: {status}", arguments.join(" "));
    Ok(())
}

fn in_a_line(text: &str) -> String {
    text.lines().collect::<Vec<_>>().join(" | ")
}

fn say(what: &str) {
    println!("\n== {what}");
}

fn after(from: Instant, to: Instant) -> String {
    millis(to.saturating_duration_since(from))
}

fn millis(duration: Duration) -> String {
    format!("{:.0} ms", duration.as_secs_f64() * 1000.0)
}
