//! `shoal down` with a real daemon.

use anyhow::{Context, Result, ensure};
use shoal_testnet::real::{Cluster, Options};
use shoal_testnet::workspace::{Profile, Workspace};

/// Restarts in a row: if `down` answers a few milliseconds too early, most of them fail.
const RESTARTS: usize = 10;

/// `down` answered while the daemon still held its folder: the next `up` was refused, or the folder
/// was moved under a daemon that still wrote to it. When `down` returns, the process must have
/// ended, its socket be gone, and another daemon must start at once.
#[test]
fn after_down_the_next_up_starts_at_once() {
    let workspace = Workspace::find().expect("the test runs from a checkout");
    let options = Options::build(&workspace, Profile::Dev).expect("the daemon can be built");
    let mut cluster = Cluster::start(&options, 1).unwrap_or_else(|error| panic!("{error:#}"));
    let ended = (1..=RESTARTS)
        .try_for_each(|round| restarted(&mut cluster).with_context(|| format!("restart {round}")));
    cluster.report_failure(ended).unwrap_or_else(|error| panic!("{error:#}"));
    // Without a daemon `down` must fail, with another exit code than a stop that worked.
    cluster.shoal(0, &["down"]).unwrap_or_else(|error| panic!("{error:#}"));
    let none = cluster.nodes[0].shoal(&["down"]).status().expect("the command starts");
    assert_eq!(none.code(), Some(6));
}

fn restarted(cluster: &mut Cluster) -> Result<()> {
    cluster.shoal(0, &["down"])?;
    cluster.nodes[0].check_ended()?;
    ensure!(!cluster.nodes[0].state().join("api.sock").exists(), "the socket is still there");
    cluster.restart(0)
}
