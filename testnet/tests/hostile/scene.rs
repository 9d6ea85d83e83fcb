//! The cluster that is attacked, and what must hold meanwhile.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use shoal_protocol::model::view::WorkloadView;
use shoal_testnet::hostile::{Attacker, Target};
use shoal_testnet::kill::{HELLO, HELLO_HOST};
use shoal_testnet::real::traffic::{Sample, Traffic};
use shoal_testnet::real::{Cluster, Options, eventually, held, shown};
use shoal_testnet::workspace::{Profile, Workspace};
use tokio::runtime::Runtime;

/// Daemons that run on.
pub const GOOD: usize = 3;
/// Files that a daemon may have open beyond those at rest: its places, and connections that a busy
/// machine has accepted and not looked at yet; 543 were seen. Below the connections of a flood, so
/// that a daemon that keeps them all fails.
const MORE_FILES: usize = 768;
/// Files that may stay open after an attack: API, gossip and carriers come and go.
const LEFT_FILES: usize = 24;
/// Memory that strangers may take, above what the daemon has at rest, and that may be left: of
/// theirs some tens of connections with half a megabyte each, and what a publish takes. The
/// allocator keeps what was freed last.
const STRANGERS_MEMORY: [u64; 2] = [96 << 20, 64 << 20];
/// The same of a member, who may fill its streams: 64 MiB of a connection, and those of one that is
/// being closed.
const MEMBERS_MEMORY: [u64; 2] = [160 << 20, 128 << 20];
/// Requests to each node's HTTP port, in turn.
const PACE: Duration = Duration::from_millis(20);

/// Where attackers come from: an address at which no member was ever met.
pub fn outside(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 66, 0, last))
}

/// A cluster under attack.
pub struct Scene {
    pub cluster: Cluster,
    /// The key of a member that was stopped, or of the first node where there is none.
    pub attacker: Attacker,
    /// The ports of the good daemons.
    pub targets: Vec<Target>,
    pub runtime: Runtime,
    places: BTreeMap<String, Option<String>>,
    quiet: Vec<Usage>,
    traffic: Traffic,
    published: u32,
    /// Bytes during an attack and after it, above those at rest.
    memory: [u64; 2],
}

/// What a process takes.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    files: usize,
    memory: u64,
}

impl Scene {
    /// Runs a test in a fresh cluster; one with a stolen member has a fourth daemon, which is
    /// stopped before anything is published.
    pub fn run(has_stolen: bool, test: impl FnOnce(&mut Scene) -> Result<()>) {
        let workspace = Workspace::find().expect("the test runs from a checkout");
        let options = Options::build(&workspace, Profile::Dev).expect("the daemon can be built");
        let size = GOOD + usize::from(has_stolen);
        let cluster = Cluster::start(&options, size).unwrap_or_else(|error| panic!("{error:#}"));
        let mut scene = Self::of(cluster).unwrap_or_else(|error| panic!("{error:#}"));
        scene.memory = if has_stolen { MEMBERS_MEMORY } else { STRANGERS_MEMORY };
        let ended = test(&mut scene);
        scene.cluster.report_failure(ended).unwrap_or_else(|error| panic!("{error:#}"));
    }

    fn of(mut cluster: Cluster) -> Result<Scene> {
        let stolen = cluster.nodes.last().context("no node")?.state();
        if cluster.nodes.len() > GOOD {
            cluster.nodes[GOOD].stop()?;
        }
        let attacker = Attacker::stolen(&stolen, outside(1))?;
        let component = cluster.guest(HELLO)?;
        let view = cluster.publish(0, &component, HELLO, 2)?;
        cluster.held_everywhere(0, HELLO)?;
        let good = &cluster.nodes[..GOOD];
        let targets = good.iter().map(Target::of).collect::<Result<Vec<_>>>()?;
        let http = good.iter().map(|node| node.http()).collect::<Result<Vec<_>>>()?;
        let quiet = good.iter().map(|node| usage(node.pid()?)).collect::<Result<Vec<_>>>()?;
        let traffic = Traffic::start(http, HELLO_HOST, PACE);
        let places = places(&view);
        let runtime = Runtime::new()?;
        Ok(Scene {
            cluster,
            attacker,
            targets,
            runtime,
            places,
            quiet,
            traffic,
            published: 0,
            memory: STRANGERS_MEMORY,
        })
    }

    /// Makes an attack; meanwhile a workload is published, and afterwards another one. Returns what
    /// the attack found out.
    pub fn during<T: Send + 'static>(
        &mut self,
        what: &str,
        attack: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let began = Instant::now();
        let peaks = Peaks::watch(self)?;
        let attack = self.runtime.spawn(attack);
        self.publishes().with_context(|| format!("during {what}"))?;
        let found = self.runtime.block_on(attack)?.with_context(|| what.to_owned())?;
        let most = peaks.end();
        self.is_at_peace().with_context(|| format!("after {what}"))?;
        self.publishes().with_context(|| format!("after {what}"))?;
        self.check_usage(what, &most)?;
        eprintln!("{what}: {:.1} s, at most {most:?}", began.elapsed().as_secs_f64());
        Ok(found)
    }

    /// Publishes a workload, waits until it answers, and removes it.
    pub fn publishes(&mut self) -> Result<()> {
        self.published += 1;
        let name = format!("more-{}", self.published);
        let component = self.cluster.guest(HELLO)?;
        let node = self.published as usize % GOOD;
        self.cluster.publish(node, &component, &name, 1)?;
        self.cluster.shoal(node, &["rm", &name]).map(drop)
    }

    /// Whether the good nodes are linked and up, nobody called one down, and the replicas are where
    /// they were and have answered every request.
    fn is_at_peace(&mut self) -> Result<()> {
        let now = Instant::now();
        let (_, before) = self.traffic.until("a good answer", |it| it.good() && it.sent >= now)?;
        if let Some(bad) = before.iter().find(|it: &&Sample| !it.good()) {
            bail!("a request was answered with {:?} {}", bad.answer, bad.text);
        }
        for node in &mut self.cluster.nodes[..GOOD] {
            node.check_alive()?;
        }
        let good = &self.cluster.nodes[..GOOD];
        for node in good {
            let name = &node.name;
            for event in node.api().events()?.iter().filter(|event| event.kind == "node-down") {
                let is_good = good.iter().any(|it| event.node.as_ref() == Some(&it.name));
                ensure!(!is_good, "{name} called a good node down: {}", event.message);
            }
            eventually(&format!("{name} has links to the others"), || {
                let views = node.api().nodes()?;
                let up = views.iter().filter(|it| it.state == "up");
                let up = up.filter(|it| good.iter().any(|node| node.id() == it.id)).count();
                let links = node.api().status()?["links"].as_u64();
                ensure!(up == GOOD && links >= Some(GOOD as u64 - 1), "up {up}, links {links:?}");
                Ok(())
            })?;
            eventually(&format!("{name} sees the replicas where they were"), || {
                let view = node.api().workload(HELLO)?;
                ensure!(view.healthy == 2 && places(&view) == self.places, "{}", shown(&view));
                Ok(())
            })?;
        }
        Ok(())
    }

    fn check_usage(&self, what: &str, most: &[Usage]) -> Result<()> {
        let [more_memory, left_memory] = self.memory;
        for ((node, quiet), most) in self.cluster.nodes.iter().zip(&self.quiet).zip(most) {
            let name = &node.name;
            let within =
                most.files <= quiet.files + MORE_FILES && most.memory <= quiet.memory + more_memory;
            ensure!(within, "{what}: {name} took {most:?}, at rest {quiet:?}");
            eventually(&format!("after {what} {name} has given back what it took"), || {
                let now = usage(node.pid()?)?;
                let within = now.files <= quiet.files + LEFT_FILES
                    && now.memory <= quiet.memory + left_memory;
                ensure!(within, "it has {now:?}, at rest {quiet:?}");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// A counter of a good daemon.
    pub fn counter(&self, node: usize, name: &str) -> Result<u64> {
        let status = self.cluster.nodes[node].api().status()?;
        let count = status["counters"][name].as_u64();
        Ok(count.unwrap_or_default())
    }

    /// A counter of all good daemons together.
    pub fn count(&self, name: &str) -> Result<u64> {
        (0..GOOD).map(|node| self.counter(node, name)).sum()
    }
}

/// The replicas that are held, and their nodes.
fn places(view: &WorkloadView) -> BTreeMap<String, Option<String>> {
    held(view).map(|it| (it.replica.clone(), it.node.clone())).collect()
}

/// The most that the good daemons take, looked at all the time.
struct Peaks {
    stop: Arc<AtomicBool>,
    looking: Option<std::thread::JoinHandle<Vec<Usage>>>,
}

impl Peaks {
    fn watch(scene: &Scene) -> Result<Peaks> {
        let pids = scene.cluster.nodes[..GOOD].iter().map(|node| node.pid());
        let pids = pids.collect::<Result<Vec<_>>>()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let looking = std::thread::spawn(move || {
            let mut most = vec![Usage::default(); pids.len()];
            while !stopped.load(Ordering::Relaxed) {
                for (pid, most) in pids.iter().zip(&mut most) {
                    let now = usage(*pid).unwrap_or_default();
                    most.files = most.files.max(now.files);
                    most.memory = most.memory.max(now.memory);
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            most
        });
        Ok(Peaks { stop, looking: Some(looking) })
    }

    fn end(mut self) -> Vec<Usage> {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.take().and_then(|looking| looking.join().ok()).unwrap_or_default()
    }
}

impl Drop for Peaks {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn usage(pid: u32) -> Result<Usage> {
    let files = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = resident.and_then(|text| text.trim().strip_suffix("kB"));
    let kilobytes: u64 = kilobytes.context("no VmRSS")?.trim().parse()?;
    Ok(Usage { files, memory: kilobytes * 1024 })
}
