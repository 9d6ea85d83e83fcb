//! The same with a container: its node is killed, and another node's engine starts one.

use std::fs;

use anyhow::{Context, Result};

use super::{PACE, after, answered, in_a_line, say, shoal};
use crate::chaos::net::Net;
use crate::engines::image::{self, PORT};
use crate::engines::{Engine, Kind};
use crate::kill::{HELLO, HELLO_HOST, holder, kill_under_traffic};
use crate::real::cleanup::Folder;
use crate::real::{Cluster, Options};
use crate::workspace::Workspace;

/// Nodes, of which the first two have an engine.
const NODES: usize = 3;

/// Shows it, or says why it cannot be shown here.
pub(super) fn tell(workspace: &Workspace, options: &Options) -> Result<()> {
    let missing: Vec<_> = Kind::ALL.into_iter().filter_map(Kind::impossible).collect();
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.impossible().is_none()) else {
        say("without a container: there is no engine that the demo could start");
        println!("  {}", missing.join("\n  "));
        return Ok(());
    };
    let engine_name = kind.name();
    say(&format!("a container, on two nodes with a {engine_name} each and one without"));
    let (folder, net) = (Folder::new(options.keep)?, Net::new(NODES)?);
    let archive = image::write(workspace, folder.path(), 0)?;
    let (mut engines, mut places) = (Vec::new(), Vec::new());
    for node in 0..NODES {
        let mut place = net.place(node);
        place.engine = Some("none".to_owned());
        if node < NODES - 1 {
            let files = folder.path().join(format!("engine-{node}"));
            fs::create_dir_all(&files)
                .with_context(|| format!("cannot make {}", files.display()))?;
            let engine = Engine::start(kind, &place, &files)?;
            place.engine = Some(engine.socket());
            engines.push(engine);
        }
        places.push(place);
    }
    let mut cluster = Cluster::start_at(options, places)?;
    let shown = fail_over(&mut cluster, archive.to_str().context("a path that is not text")?);
    cluster.report_failure(shown)
}

fn fail_over(cluster: &mut Cluster, archive: &str) -> Result<()> {
    // Published through the node without an engine: its file goes to those that have one.
    let (through, port) = (NODES - 1, PORT.to_string());
    shoal(
        cluster,
        through,
        &["run", archive, "--name", HELLO, "--port", &port, "--stop-signal", "SIGKILL"],
    )?;
    let view = cluster.healthy(through, HELLO)?;
    let at = cluster.nodes[through].http()?;
    let sample = answered(at, HELLO_HOST)?;
    println!("\n  http://{HELLO_HOST}/ at {at} answers: {}", in_a_line(&sample.text));

    let victim = holder(cluster, &view)?;
    say(&format!("kill -9 {}, whose container serves {HELLO}/0", cluster.nodes[victim].name));
    let (killed_at, first, traffic) = kill_under_traffic(cluster, victim, PACE)?;
    drop(traffic);
    println!("  first good answer of another container  {:>7}", after(killed_at, first.ended));
    println!("  it says: {}", in_a_line(&first.text));
    shoal(cluster, through, &["ps", HELLO])
}
