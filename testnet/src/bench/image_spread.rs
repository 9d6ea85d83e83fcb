//! A large image to five nodes at once, over slow links.
//!
//! The image is published from a file at a sixth node, which runs no containers. Its layer cannot
//! be compressed. Each node is in a network of its own, whose link passes 100 Mbit/s either way.
//! The clock runs from the end of the upload at the source, when `shoal run --no-wait` returns.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::{Against, Figures};
use crate::chaos::net::Net;
use crate::engines::image;
use crate::engines::{Engine, Kind};
use crate::real::cleanup::Folder;
use crate::real::{Cluster, Options, eventually_within, held, shown};
use crate::workspace::Workspace;

/// Nodes that shall get the image, besides the source.
const RECEIVERS: usize = 5;
/// Megabits a second that each link passes.
const LINK: u32 = 100;
/// The port of the plain copy.
const COPY_PORT: u16 = 7900;
/// Far above the time that the links need for all copies one after the other.
const WITHIN: Duration = Duration::from_secs(300);
/// Time between two looks, whose traffic is local.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One image.
struct Spread {
    /// Bytes that left the source, by the image's.
    share: f64,
    held: f64,
    healthy: f64,
}

pub(super) fn measure(
    workspace: &Workspace,
    options: &Options,
    runs: u32,
    megabytes: u64,
) -> Result<Vec<Figures>> {
    if let Some(why) = Kind::Podman.impossible() {
        println!("  skipped: {why}");
        return Ok(Vec::new());
    }
    let (folder, net) = (Folder::new(false)?, Net::new(RECEIVERS + 1)?);
    let (mut engines, mut places) = (Vec::new(), Vec::new());
    for node in 0..=RECEIVERS {
        let mut place = net.place(node);
        place.engine = Some("none".to_owned());
        if node > 0 {
            let files = folder.path().join(format!("engine-{node}"));
            fs::create_dir_all(&files)
                .with_context(|| format!("cannot make {}", files.display()))?;
            let engine = Engine::start(Kind::Podman, &place, &files)?;
            place.engine = Some(engine.socket());
            engines.push(engine);
        }
        places.push(place);
    }
    net.shape(LINK)?;
    let cluster = Cluster::start_at(options, places)?;
    let (mut all, mut copies) = (Vec::new(), Vec::new());
    for run in 1..=runs {
        let files = folder.path().join(format!("image-{run}"));
        fs::create_dir_all(&files).with_context(|| format!("cannot make {}", files.display()))?;
        let archive = image::write(workspace, &files, megabytes * 1_000_000)?;
        let size = fs::metadata(&archive).context("the image is gone")?.len();
        let copy = plain_copy(&net, size)?;
        let spread = spread(&cluster, &net, archive.to_str().context("not text")?, run, size);
        let spread = cluster.report_failure(spread)?;
        println!(
            "  {run}/{runs}: {:.2} images left the source, held after {:.1} s, healthy after \
             {:.1} s; a plain copy took {copy:.1} s",
            spread.share, spread.held, spread.healthy
        );
        all.push(spread);
        copies.push(copy);
        fs::remove_dir_all(&files).context("cannot remove the image")?;
    }
    Ok(figures(&all, copies))
}

fn figures(all: &[Spread], copies: Vec<f64>) -> Vec<Figures> {
    let figures = |case, unit, goal, values| Figures {
        bench: "image-spread",
        case,
        unit,
        goal,
        values,
        against: None,
    };
    let values = |of: fn(&Spread) -> f64| all.iter().map(of).collect::<Vec<_>>();
    let copy = figures("tcp-copy", "s", "none: a plain copy to one node", copies);
    let against = Some(Against { name: "tcp-copy", p50: copy.percentile(50) });
    let held = figures("held", "s", "1.5x the plain copy", values(|it| it.held));
    vec![
        figures("bytes", "images", "1.2", values(|it| it.share)),
        Figures { against, ..held },
        figures("healthy", "s", "none", values(|it| it.healthy)),
        copy,
    ]
}

fn spread(cluster: &Cluster, net: &Net, archive: &str, run: u32, size: u64) -> Result<Spread> {
    let (name, replicas) = (format!("big-{run}"), RECEIVERS.to_string());
    let before = sent(net)?;
    let began = Instant::now();
    cluster.shoal(
        0,
        &[
            "run",
            archive,
            "--name",
            &name,
            "--port",
            "8080",
            "--memory",
            "16MiB",
            "--stop-signal",
            "SIGKILL",
            "--replicas",
            &replicas,
            "--no-wait",
        ],
    )?;
    let uploaded = Instant::now();
    println!("  uploaded after {:.1} s", (uploaded - began).as_secs_f64());
    let api = cluster.nodes[0].api();
    let mut held_at = None;
    eventually_within(WITHIN, LOOK_EVERY, "all run it", || {
        let view = api.workload(&name)?;
        if held_at.is_none() && view.artifact_holders > RECEIVERS {
            held_at = Some(Instant::now());
        }
        ensure!(view.healthy as usize == RECEIVERS && held_at.is_some(), "{}", shown(&view));
        let nodes: std::collections::BTreeSet<_> = held(&view).map(|one| &one.node).collect();
        ensure!(nodes.len() == RECEIVERS, "two replicas are on one node");
        Ok(())
    })?;
    let (healthy_at, after) = (Instant::now(), sent(net)?);
    cluster.shoal(0, &["rm", &name])?;
    Ok(Spread {
        share: (after - before) as f64 / size as f64,
        held: (held_at.unwrap_or(healthy_at) - uploaded).as_secs_f64(),
        healthy: (healthy_at - uploaded).as_secs_f64(),
    })
}

/// Bytes that have left the source over its link.
fn sent(net: &Net) -> Result<u64> {
    let text = net.within(0, || fs::read_to_string("/proc/thread-self/net/dev"))??;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("eth0:"));
    let sent = line.and_then(|line| line.split_whitespace().nth(8)?.parse().ok());
    sent.context("the kernel does not count what the source sends")
}

/// Seconds of a plain copy from the source to one node.
fn plain_copy(net: &Net, size: u64) -> Result<f64> {
    let address = SocketAddr::new(net.ip(0)?, COPY_PORT);
    let listener = net.within(0, move || TcpListener::bind(address))??;
    // A socket stays in the namespace in which it was made.
    let sender = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        let (chunk, mut left) = (vec![7u8; 256 * 1024], size);
        while left > 0 {
            let length = usize::try_from(left).map_or(chunk.len(), |left| left.min(chunk.len()));
            stream.write_all(&chunk[..length])?;
            left -= length as u64;
        }
        Ok(())
    });
    let taken = net.within(1, move || -> Result<f64> {
        let started = Instant::now();
        let mut stream = TcpStream::connect(address)?;
        let mut chunk = vec![0; 256 * 1024];
        let mut got = 0;
        loop {
            match stream.read(&mut chunk)? {
                0 => break,
                length => got += length as u64,
            }
        }
        ensure!(got == size, "the copy ended early");
        Ok(started.elapsed().as_secs_f64())
    })??;
    sender.join().map_err(|_| anyhow!("the sender panicked"))??;
    Ok(taken)
}
