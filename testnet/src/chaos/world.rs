//! The stage of one scenario: a cluster, its network and disks, and what is wished for.

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

/// Replicas by name of workload.
pub(super) type Desired = BTreeMap<String, u32>;

/// A workload with one replica for every node, so that each node serves something.
pub(super) const EACH: &str = "each";
/// A workload of two replicas.
pub(super) const PAIR: &str = "pair";
/// A workload of one replica.
pub(super) const ONE: &str = "one";

/// Dropped, all of it is gone; nodes first, since they hold the rest.
pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) disks: Vec<Disk>,
    pub(super) net: Option<Net>,
    pub(super) desired: Desired,
    began: Instant,
}

impl World {
    /// Sets the stage, lets `play` go on it, and sees that all comes to rest. What failed is told
    /// with the nodes' last lines; logs and views are saved where the error says.
    pub(super) fn run(
        setup: &Setup,
        name: &str,
        play: impl FnOnce(&mut World) -> Result<Findings>,
    ) -> Result<Findings> {
        Self::run_at(setup, name, |_| Ok(Vec::new()), play)
    }

    /// The same with nodes that listen on every interface that there is and will be.
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

    /// The same; `prepare` may change where nodes run, and makes the disks that they need for it.
    pub(super) fn run_at(
        setup: &Setup,
        name: &str,
        prepare: impl FnOnce(&mut Vec<Place>) -> Result<Vec<Disk>>,
        play: impl FnOnce(&mut World) -> Result<Findings>,
    ) -> Result<Findings> {
        let net = if setup.no_net.is_none() { Some(Net::new(setup.nodes)?) } else { None };
        Self::run_in(setup, name, net, prepare, play)
    }

    /// The same in a network that is made already.
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
            "at rest, and it stays so: of one mind, every replica healthy once, nothing else \
            runs, nothing moves",
        );
        Ok(findings)
    }

    /// A line of progress.
    pub(super) fn say(&self, what: &str) {
        println!("{:>8.1} s  {what}", self.began.elapsed().as_secs_f64());
    }

    /// The network; scenarios that ask for it are not played without.
    pub(super) fn net(&self) -> Result<&Net> {
        self.net.as_ref().context("there is no network of its own")
    }

    /// What a person calls a node.
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

    /// Waits until all is as it should be; see [`rest`].
    pub(super) fn rest(&mut self) -> Result<()> {
        rest::at_rest(&mut self.cluster, &self.desired)
    }

    /// The same while these two have no way to one another.
    pub(super) fn rest_without(&mut self, one: usize, other: usize) -> Result<()> {
        rest::at_rest_apart(&mut self.cluster, &self.desired, &[one, other])
    }

    /// The replicas that a node holds, as it sees it itself.
    pub(super) fn held_by(&self, node: usize) -> Result<Vec<String>> {
        let id = self.cluster.nodes[node].id();
        let workloads = self.cluster.nodes[node].api().workloads()?;
        let replicas =
            workloads.iter().flat_map(held).filter(|one| one.node.as_deref() == Some(id));
        Ok(replicas.map(|one| one.replica.clone()).collect())
    }

    /// The node that holds a place, as in `one/0`.
    pub(super) fn holder(&self, at: usize, name: &str, place: usize) -> Result<usize> {
        let view = self.cluster.nodes[at].api().workload(name)?;
        let wanted = format!("{name}/{place}");
        let one = held(&view)
            .find(|one| one.replica == wanted)
            .with_context(|| format!("nobody holds {wanted}"))?;
        self.cluster.by_id(one.node.as_deref().context("a held replica has a holder")?)
    }

    /// Waits until everything that is wished for is healthy without these nodes, as `at` sees it;
    /// returns when it was.
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

    /// Nodes that are not among these.
    pub(super) fn others(&self, than: &[usize]) -> Vec<usize> {
        (0..self.cluster.nodes.len()).filter(|node| !than.contains(node)).collect()
    }

    /// Logs of all nodes, and what those that run have to say.
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

/// Whether each place is healthy on a node that is not lost.
fn whole_without(view: &WorkloadView, lost: &[&str]) -> bool {
    let alive = |node: &Option<String>| node.as_deref().is_some_and(|node| !lost.contains(&node));
    let healthy = view.replicas.iter().filter(|one| one.phase == "healthy" && alive(&one.node));
    let mut places: Vec<&str> = healthy.map(|one| one.replica.as_str()).collect();
    places.sort_unstable();
    places.dedup();
    places.len() == view.desired as usize
}
