//! The world of a scenario: a cluster, its network and disks, and the desired replicas.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use shoal_protocol::model::view::WorkloadView;

use super::disk::Disk;
use super::net::Net;
use super::{Findings, Setup, rest};
use crate::kill::HELLO;
use crate::real::{Cluster, Place, held};

/// Number of desired replicas by name of workload.
pub(super) type Desired = BTreeMap<String, u32>;

/// A workload with a replica for every node, so that each node serves requests.
pub(super) const EACH: &str = "each";
/// A workload of two replicas.
pub(super) const PAIR: &str = "pair";
/// A workload of one replica.
pub(super) const ONE: &str = "one";

/// Drop removes all of it, nodes first, since they use the disks and the network.
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) disks: Vec<Disk>,
    pub(super) net: Option<Net>,
    pub(super) desired: Desired,
    began: Instant,
}

impl World {
    /// Starts the world, runs `play` in it, and checks that all comes to rest. On failure it prints
    /// the nodes' last lines and saves logs and views; the error names their folder.
    pub(super) fn run(
        setup: &Setup,
        name: &str,
        play: impl FnOnce(&mut World) -> Result<Findings>,
    ) -> Result<Findings> {
        Self::run_at(setup, name, |_| Ok(Vec::new()), play)
    }

    /// As [`World::run`], with nodes that listen on all present and later interfaces.
    pub(super) fn run_anywhere(
        setup: &Setup,
        name: &str,
        play: impl FnOnce(&mut World) -> Result<Findings>,
    ) -> Result<Findings> {
        let began = Instant::now();
        let net = Net::new(setup.nodes)?;
        let places = (0..setup.nodes).map(|node| net.place_anywhere(node)).collect();
        Self::run_with(setup, name, began, Some(net), places, Vec::new(), play)
    }

    /// As [`World::run`]; `prepare` may change the places of nodes, and makes the disks for them.
    pub(super) fn run_at(
        setup: &Setup,
        name: &str,
        prepare: impl FnOnce(&mut Vec<Place>) -> Result<Vec<Disk>>,
        play: impl FnOnce(&mut World) -> Result<Findings>,
    ) -> Result<Findings> {
        let net = if setup.no_net.is_none() { Some(Net::new(setup.nodes)?) } else { None };
        Self::run_in(setup, name, net, prepare, play)
    }

    /// As [`World::run_at`], in a network that exists already.
    pub(super) fn run_in(
        setup: &Setup,
        name: &str,
        net: Option<Net>,
        prepare: impl FnOnce(&mut Vec<Place>) -> Result<Vec<Disk>>,
        play: impl FnOnce(&mut World) -> Result<Findings>,
    ) -> Result<Findings> {
        let began = Instant::now();
        let place = |node| net.as_ref().map_or_else(Place::loopback, |net| net.place(node));
        let mut places: Vec<Place> = (0..setup.nodes).map(place).collect();
        let disks = prepare(&mut places)?;
        Self::run_with(setup, name, began, net, places, disks, play)
    }

    fn run_with(
        setup: &Setup,
        name: &str,
        began: Instant,
        net: Option<Net>,
        places: Vec<Place>,
        disks: Vec<Disk>,
        play: impl FnOnce(&mut World) -> Result<Findings>,
    ) -> Result<Findings> {
        let cluster = Cluster::start_at(&setup.options, places)?;
        let mut world = World { cluster, disks, net, desired: Desired::new(), began };
        world.say(&format!("{name}: {} nodes are in step", setup.nodes));
        let outcome = world.play(setup, play);
        if outcome.is_ok() {
            return outcome;
        }
        let outcome = world.cluster.report_failure(outcome);
        let folder = setup.evidence.join(name);
        match world.save(&folder) {
            Ok(()) => outcome
                .map_err(|seen| anyhow!("{seen:#}\nlogs and views are in {}", folder.display())),
            Err(error) => outcome
                .map_err(|seen| anyhow!("{seen:#}\nlogs and views were not saved: {error:#}")),
        }
    }

    fn play(
        &mut self,
        setup: &Setup,
        play: impl FnOnce(&mut World) -> Result<Findings>,
    ) -> Result<Findings> {
        let status = self.cluster.nodes[0].api().status()?;
        let known = status["roots"].is_object() && !status["instances"].is_null();
        ensure!(
            known,
            "the daemon's status shows no `roots` or `instances`: it is older than these checks"
        );
        let each = u32::try_from(setup.nodes).expect("few nodes");
        for (name, replicas) in [(EACH, each), (PAIR, 2), (ONE, 1)] {
            self.publish(0, name, replicas)?;
        }
        self.rest()?;
        self.say(&format!("{} replicas of {} workloads run", each + 3, self.desired.len()));
        let findings = play(self)?;
        self.say("waiting for rest");
        self.rest()?;
        rest::stays(&self.cluster, &self.desired)?;
        self.say(
            "at rest, and it stays so: nodes agree, every replica is healthy once, nothing else \
             runs, nothing moves",
        );
        Ok(findings)
    }

    /// Prints a line of progress.
    pub(super) fn say(&self, what: &str) {
        println!("{:>8.1} s  {what}", self.began.elapsed().as_secs_f64());
    }

    /// The network; scenarios that need it are skipped where there is none.
    pub(super) fn net(&self) -> Result<&Net> {
        self.net.as_ref().context("there is no network of its own")
    }

    /// The node's name, as in `n1`.
    pub(super) fn name(&self, node: usize) -> &str {
        &self.cluster.nodes[node].name
    }

    /// Publishes the example component under a name.
    pub(super) fn publish(&mut self, at: usize, name: &str, replicas: u32) -> Result<()> {
        self.publish_of(at, HELLO, name, replicas)
    }

    /// Publishes another component.
    pub(super) fn publish_of(
        &mut self,
        at: usize,
        guest: &str,
        name: &str,
        replicas: u32,
    ) -> Result<()> {
        let guest = self.cluster.guest(guest)?;
        self.cluster.publish(at, &guest, name, replicas)?;
        self.desired.insert(name.to_owned(), replicas);
        Ok(())
    }

    /// Waits until the cluster is at rest; see [`rest`].
    pub(super) fn rest(&mut self) -> Result<()> {
        rest::at_rest(&mut self.cluster, &self.desired)
    }

    /// As [`World::rest`], while these two cannot reach one another.
    pub(super) fn rest_without(&mut self, one: usize, other: usize) -> Result<()> {
        rest::at_rest_apart(&mut self.cluster, &self.desired, &[one, other])
    }

    /// The replicas that a node holds, in its own view.
    pub(super) fn held_by(&self, node: usize) -> Result<Vec<String>> {
        let id = self.cluster.nodes[node].id();
        let workloads = self.cluster.nodes[node].api().workloads()?;
        let replicas =
            workloads.iter().flat_map(held).filter(|one| one.node.as_deref() == Some(id));
        Ok(replicas.map(|one| one.replica.clone()).collect())
    }

    /// The index of the node that holds a place, as in `one/0`.
    pub(super) fn holder(&self, at: usize, name: &str, place: usize) -> Result<usize> {
        let view = self.cluster.nodes[at].api().workload(name)?;
        let wanted = format!("{name}/{place}");
        let one = held(&view)
            .find(|one| one.replica == wanted)
            .with_context(|| format!("nobody holds {wanted}"))?;
        self.cluster.by_id(one.node.as_deref().context("a held replica has a holder")?)
    }

    /// Waits until all desired replicas are healthy on other nodes than `lost`, as `at` sees it;
    /// returns the time of that.
    pub(super) fn rescued(&self, at: usize, lost: &[usize]) -> Result<Instant> {
        let lost: Vec<&str> = lost.iter().map(|node| self.cluster.nodes[*node].id()).collect();
        let api = self.cluster.nodes[at].api();
        let mut last = Instant::now();
        for name in self.desired.keys() {
            let what = format!("{name} is healthy on the others, as {} sees it", self.name(at));
            last = api.watch(name, &what, |view| whole_without(view, &lost))?.0;
        }
        Ok(last)
    }

    /// Indices of all nodes but these.
    pub(super) fn others(&self, than: &[usize]) -> Vec<usize> {
        (0..self.cluster.nodes.len()).filter(|node| !than.contains(node)).collect()
    }

    /// Saves the logs of all nodes, and the views of those that run.
    fn save(&self, folder: &Path) -> Result<()> {
        if folder.exists() {
            fs::remove_dir_all(folder)
                .with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for node in &self.cluster.nodes {
            node.save_logs(folder)?;
            for view in ["status", "nodes", "workloads", "events"] {
                let path: PathBuf = folder.join(format!("{}.{view}.json", node.name));
                let text = node
                    .api()
                    .text(&format!("/v1/{view}"))
                    .unwrap_or_else(|error| format!("{error:#}\n"));
                fs::write(&path, text)
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        Ok(())
    }
}

/// Whether each place is healthy on a node that is not in `lost`.
fn whole_without(view: &WorkloadView, lost: &[&str]) -> bool {
    let alive = |node: &Option<String>| node.as_deref().is_some_and(|node| !lost.contains(&node));
    let healthy = view.replicas.iter().filter(|one| one.phase == "healthy" && alive(&one.node));
    let mut places: Vec<&str> = healthy.map(|one| one.replica.as_str()).collect();
    places.sort_unstable();
    places.dedup();
    places.len() == view.desired as usize
}
