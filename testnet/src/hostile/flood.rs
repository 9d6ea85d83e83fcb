//! A flood of connections: so many at a time, to each of some nodes, until it is stopped.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Attacker, Connection, Target, connect};

/// How long one connection is held at most, when the node does not hang up before.
const HELD: Duration = Duration::from_secs(20);
/// The pause before a connection that was lost is made again.
const AGAIN: Duration = Duration::from_millis(500);
/// After this the flood ends, even if nobody stops it.
const LONGEST: Duration = Duration::from_secs(600);
/// Files beside those of the flood.
const OTHER_FILES: u64 = 512;

/// A flood that runs. Dropping it ends it.
pub struct Flood {
    stop: watch::Sender<()>,
    open: Arc<AtomicUsize>,
    made: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// How a connection behaves.
#[derive(Clone, Copy)]
enum Kind {
    /// TCP alone.
    Silent,
    /// A stranger's handshake, and then silence.
    Stranger,
    /// Bytes that are no handshake.
    Garbage,
}

impl Flood {
    /// Keeps `connections` at a time open to each target, from `sources` addresses: a third TCP
    /// alone, a third strangers with keys of their own, a third garbage.
    pub fn start(
        attacker: &Attacker,
        targets: Vec<Target>,
        connections: usize,
        sources: usize,
    ) -> Result<Flood> {
        allow_files((connections * targets.len()) as u64 + OTHER_FILES)?;
        let (stop, stopped) = watch::channel(());
        let (open, made) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (attacker, counts) = (attacker.clone(), (open.clone(), made.clone()));
        let run = async move {
            let mut stopped = stopped;
            let mut all = tokio::task::JoinSet::new();
            for target in targets {
                for number in 0..connections {
                    let kind = [Kind::Silent, Kind::Stranger, Kind::Garbage][number % 3];
                    let from = Ipv4Addr::new(127, 7, 0, (number % sources) as u8 + 1);
                    let attacker = attacker.stranger(IpAddr::V4(from));
                    all.spawn(keep(attacker, target, kind, number, counts.clone()));
                }
            }
            // An error means that the flood was dropped.
            drop(timeout(LONGEST, stopped.changed()).await);
        };
        let thread = std::thread::Builder::new()
            .name("flood".into())
            .spawn(move || {
                // A real attacker has processors of its own: this one leaves them to the daemons.
                _ = rustix::process::setpriority_process(None, 19);
                runtime.block_on(run)
            })
            .context("no thread for the flood")?;
        Ok(Flood { stop, open, made, thread: Some(thread) })
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Connections that were made since the start.
    pub fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.send_replace(());
        if let Some(thread) = self.thread.take() {
            // If it panicked, there is no flood any more either.
            let _ = thread.join();
        }
    }
}

async fn keep(
    attacker: Attacker,
    target: Target,
    kind: Kind,
    number: usize,
    (open, made): (Arc<AtomicUsize>, Arc<AtomicUsize>),
) {
    // Spread, so that they do not come in waves.
    sleep(AGAIN.mul_f64(number as f64 / 1000.0 % 1.0)).await;
    loop {
        open.fetch_add(1, Ordering::Relaxed);
        made.fetch_add(1, Ordering::Relaxed);
        // However it ends, another one follows.
        let _ = timeout(HELD, hold(&attacker, &target, kind)).await;
        open.fetch_sub(1, Ordering::Relaxed);
        sleep(AGAIN).await;
    }
}

/// Holds one connection until the node hangs up.
async fn hold(attacker: &Attacker, target: &Target, kind: Kind) -> std::io::Result<()> {
    match kind {
        Kind::Stranger => {
            let connection = Connection::dial(attacker, target).await?;
            connection.ended().await;
            Ok(())
        }
        Kind::Silent | Kind::Garbage => {
            let mut stream = connect(attacker.from, target.address).await?;
            if matches!(kind, Kind::Garbage) {
                stream.write_all(&[0x5a; 4096]).await?;
            }
            while stream.read(&mut [0; 256]).await? > 0 {}
            Ok(())
        }
    }
}

/// Raises the limit on this process's open files, within what the system allows.
pub(super) fn allow_files(wanted: u64) -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
        setrlimit(Resource::Nofile, limit).context("cannot open so many files")?;
    }
    Ok(())
}
