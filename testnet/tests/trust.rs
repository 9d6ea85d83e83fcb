//! Devices are let in and put out, with real daemons.

use anyhow::{Context, Result, ensure};
use shoal_testnet::kill::HELLO;
use shoal_testnet::real::{Cluster, Daemon, Options, eventually};
use shoal_testnet::workspace::{Profile, Workspace};

fn cluster(size: usize) -> Cluster {
    let workspace = Workspace::find().expect("the test runs from a checkout");
    let options = Options::build(&workspace, Profile::Dev).expect("the daemon can be built");
    Cluster::start(&options, size).unwrap_or_else(|error| panic!("{error:#}"))
}

fn warnings(node: &Daemon) -> Result<String> {
    Ok(node.api().status()?["warnings"].to_string())
}

/// A single-use invite lets one device in. The next one is told why not, hears nothing of the
/// cluster, and no node shows it.
#[test]
fn invite_is_used_once() {
    let cluster = cluster(1);
    let ended = used_once(&cluster);
    cluster.report_failure(ended).unwrap_or_else(|error| panic!("{error:#}"));
}

fn used_once(cluster: &Cluster) -> Result<()> {
    let line = cluster.shoal(0, &["invite", "--quiet"])?;
    let first = cluster.stranger("first", line.trim())?;
    eventually("the first device is a member", || {
        let status = first.api().status()?;
        ensure!(status["nodes"] == 2 && status["ready"] == true, "it says {status}");
        Ok(())
    })?;
    let second = cluster.stranger("second", line.trim())?;
    eventually("the second device is refused", || {
        let warnings = warnings(&second)?;
        ensure!(warnings.contains("used already by first"), "it says {warnings}");
        Ok(())
    })?;
    let status = second.api().status()?;
    ensure!(status["nodes"] == 0 && status["links"] == 0, "it knows of the cluster: {status}");
    let nodes = cluster.shoal(0, &["nodes"])?;
    ensure!(!nodes.contains("second"), "it is shown: {nodes}");
    Ok(())
}

/// A stolen device is cut off, what it ran is placed elsewhere, and it runs nothing any more.
#[test]
fn revoked_node_is_out_and_its_work_is_elsewhere() {
    let cluster = cluster(3);
    let ended = revoked(&cluster);
    cluster.report_failure(ended).unwrap_or_else(|error| panic!("{error:#}"));
}

fn revoked(cluster: &Cluster) -> Result<()> {
    let component = cluster.guest(HELLO)?;
    let view = cluster.publish(0, &component, HELLO, 2)?;
    // Any holder but the node that is asked.
    let asked = cluster.nodes[0].id().to_owned();
    let holders = view.replicas.iter().filter_map(|replica| replica.node.as_deref());
    let stolen = holders.clone().find(|node| *node != asked).context("two nodes hold it")?;
    let index = cluster.by_id(stolen)?;
    let (node, name) = (&cluster.nodes[index], cluster.nodes[index].name.clone());
    cluster.shoal(0, &["revoke", &name, "--why", "stolen"])?;
    let others = [0, 1, 2].into_iter().filter(|other| *other != index);
    for other in others {
        eventually("the others have no link to it", || {
            let status = cluster.nodes[other].api().status()?;
            ensure!(status["nodes"] == 2 && status["links"] == 1, "it says {status}");
            Ok(())
        })?;
    }
    cluster.nodes[0].api().watch(HELLO, "both replicas are elsewhere", |view| {
        let good = view.replicas.iter().filter(|it| it.phase == "healthy");
        good.filter(|it| it.node.as_deref().is_some_and(|node| node != stolen)).count() == 2
    })?;
    eventually("it runs nothing, and says why", || {
        let status = node.api().status()?;
        let warnings = status["warnings"].to_string();
        ensure!(warnings.contains("was revoked"), "it says {warnings}");
        ensure!(status["instances"] == 0 && status["links"] == 0, "it says {status}");
        Ok(())
    })?;
    // It is not let in again, whatever it tries.
    let again = cluster.shoal(0, &["nodes"])?;
    ensure!(!again.contains(&name), "it is back: {again}");
    Ok(())
}
