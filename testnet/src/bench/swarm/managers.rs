//! Three engines that form a Swarm, all of them managers, with one service of one replica.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::engine::{Engine, PROGRAMS};
use super::image::{self, PROGRAM};
use super::view::View;
use crate::bench::failover::{Case, NODES, PACE};
use crate::chaos::net::{Net, missing_of};
use crate::real::cleanup::{self, Folder, PREFIX};
use crate::real::eventually_within;
use crate::real::resources::Resource;
use crate::real::traffic::{Sample, Traffic, ask_once};
use crate::workspace::Workspace;

/// The port between managers, which is Swarm's default.
const PORT: u16 = 2377;
/// Any host: the service ignores it.
const HOST: &str = "answerer";

/// How long Swarm may take to recover. After a cut it may elect a new leader, to which nodes report
/// again with pauses of up to 8 s; only then does the node that was cut off learn which task it
/// must end. 50 s were seen.
const RECOVERY: Duration = Duration::from_secs(240);
/// Time between two looks, which must not keep the managers busy.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A loss of the node that runs the replica.
pub(super) struct Loss {
    victim: usize,
    case: Case,
    /// Name of the lost node, as in `s1`.
    pub(super) name: String,
    /// From just before the loss to the end of the first good answer of a survivor.
    pub(super) milliseconds: f64,
}

/// Three engines, their network and folder. Drop removes all of them.
pub(super) struct Swarm {
    engines: Vec<Engine>,
    /// By engine: its id as a node, and the address at which its replica would answer.
    nodes: Vec<(String, SocketAddr)>,
    cgroup: Resource,
    // Dropped after the engines, which run in them.
    net: Net,
    folder: Folder,
}

impl Swarm {
    /// The reason why Swarm cannot run here, for people; none when it can.
    pub(super) fn impossible() -> Option<String> {
        Net::impossible().or_else(|| missing_of(PROGRAMS))
    }

    /// Starts the engines, joins them, starts the service, and waits until it answers.
    pub(super) fn start(workspace: &Workspace) -> Result<Self> {
        let (folder, net) = (Folder::new(false)?, Net::new(NODES)?);
        let cgroup = format!("{PREFIX}{}-swarm", std::process::id());
        let cgroup_resource = cleanup::register(Resource::Cgroup(cgroup.clone()))?;
        let mut swarm =
            Swarm { engines: Vec::new(), nodes: Vec::new(), cgroup: cgroup_resource, net, folder };
        let ready = swarm.add_engines(&cgroup).and_then(|()| swarm.serve(workspace));
        swarm.report_failure(ready)?;
        Ok(swarm)
    }

    fn add_engines(&mut self, cgroup: &str) -> Result<()> {
        for index in 0..NODES {
            let (name, place) = (format!("s{}", index + 1), self.net.place(index));
            let address: SocketAddr = place.http.parse().context("a node's address")?;
            let folder = self.folder.path().join(&name);
            self.engines.push(Engine::new(&name, place, folder, cgroup)?);
            let engine = &mut self.engines[index];
            engine.start()?;
            let own = SocketAddr::new(address.ip(), PORT).to_string();
            match self.nodes.first() {
                None => engine
                    .post("/swarm/init", &json!({ "ListenAddr": own, "AdvertiseAddr": own }))?,
                Some((_, first)) => {
                    let first = SocketAddr::new(first.ip(), PORT).to_string();
                    let swarm = self.engines[0].get("/swarm")?;
                    let token = &swarm["JoinTokens"]["Manager"];
                    let join = json!({
                        "ListenAddr": own, "AdvertiseAddr": own,
                        "RemoteAddrs": [first], "JoinToken": token,
                    });
                    self.engines[index].post("/swarm/join", &join)?;
                }
            }
            let info = self.engines[index].get("/info")?;
            let id =
                info["Swarm"]["NodeID"].as_str().context("an engine of a Swarm has an id in it")?;
            self.nodes.push((id.to_owned(), address));
        }
        Ok(())
    }

    fn serve(&self, workspace: &Workspace) -> Result<()> {
        let image = image::give(workspace, self.folder.path(), &self.engines)?;
        let (_, address) = self.nodes.first().context("there are nodes")?;
        let listen = format!("0.0.0.0:{}", address.port());
        // SIGKILL, since the first process of a container ignores SIGTERM by default, and stopping
        // it would take long.
        let command = [format!("/{PROGRAM}"), listen];
        let container = json!({ "Image": image, "Command": command, "StopSignal": "SIGKILL" });
        let service = json!({
            "Name": HOST,
            "TaskTemplate": { "ContainerSpec": container, "Networks": [{ "Target": "host" }] },
            "Mode": { "Replicated": { "Replicas": 1 } },
        });
        self.engines[0].post("/services/create", &service)?;
        self.whole()
    }

    /// Loses the node that runs the replica, until a survivor answers.
    pub(super) fn lose(&mut self, case: Case) -> Result<Loss> {
        let lost = self.lose_holder(case);
        self.report_failure(lost)
    }

    fn lose_holder(&mut self, case: Case) -> Result<Loss> {
        let victim = self.follower()?;
        let others = self.nodes.iter().enumerate().filter(|(index, _)| *index != victim);
        let traffic =
            Traffic::start(others.map(|(_, (_, address))| *address).collect(), HOST, PACE);
        let (at, lost) = match case {
            Case::Kill | Case::Bridges | Case::Docker | Case::Podman => {
                self.engines[victim].kill().map(|at| (at, at))?
            }
            Case::Cut => {
                let at = Instant::now();
                self.net.cut(victim)?;
                (at, Instant::now())
            }
        };
        let good = |sample: &Sample| sample.good() && sample.sent >= lost;
        let (answer, _) = traffic.until("an answer of Swarm's service at a survivor", good)?;
        drop(traffic);
        let milliseconds = (answer.ended - at).as_secs_f64() * 1000.0;
        Ok(Loss { victim, case, name: self.engines[victim].name.clone(), milliseconds })
    }

    /// Brings a lost node back, and waits until Swarm has recovered.
    pub(super) fn bring_back(&mut self, loss: &Loss) -> Result<()> {
        let back = match loss.case {
            Case::Kill | Case::Bridges | Case::Docker | Case::Podman => {
                self.engines[loss.victim].start()
            }
            Case::Cut => self.net.mend(loss.victim),
        };
        let whole = back.and_then(|()| self.whole());
        self.report_failure(whole)
    }

    /// Waits until all managers are sound and agree, and only the one replica answers.
    fn whole(&self) -> Result<()> {
        let what = "three managers that agree, and a service that answers";
        eventually_within(RECOVERY, LOOK_EVERY, what, || self.look().map(drop))
    }

    /// As [`Swarm::whole`], until the replica is at an engine that does not lead, which is
    /// returned. A replica at the leader is moved.
    fn follower(&self) -> Result<usize> {
        let mut barred = None;
        eventually_within(RECOVERY, LOOK_EVERY, "a replica at a manager that does not lead", || {
            let (holder, leader) = self.look()?;
            if holder != leader {
                return Ok(holder);
            }
            // Only once for each leader, since each time the replica starts anew.
            if barred != Some(leader) {
                self.bar(leader)?;
                barred = Some(leader);
            }
            bail!("{} leads and runs it", self.engines[leader].name)
        })
    }

    /// Makes Swarm move the replica to another engine.
    fn bar(&self, engine: usize) -> Result<()> {
        let mut service = self.engines[engine].get(&format!("/services/{HOST}"))?;
        let constraint = format!("node.id!={}", self.nodes[engine].0);
        service["Spec"]["TaskTemplate"]["Placement"] = json!({ "Constraints": [constraint] });
        let version = &service["Version"]["Index"];
        self.engines[engine]
            .post(&format!("/services/{HOST}/update?version={version}"), &service["Spec"])
    }

    /// The engine that runs the replica and the one that leads, when Swarm has recovered.
    fn look(&self) -> Result<(usize, usize)> {
        let views = self
            .engines
            .iter()
            .map(|engine| View::of(&engine.get("/nodes")?, &engine.get("/tasks")?));
        let views = views.collect::<Result<Vec<View>>>()?;
        let view = views.first().context("there are engines")?;
        ensure!(views.iter().all(|other| other == view), "the managers differ: {views:?}");
        let (holder, leader) = view.whole(NODES).with_context(|| format!("not whole: {view:?}"))?;
        let index = |id: &str| {
            let found = self.nodes.iter().position(|(own, _)| own == id);
            found.with_context(|| format!("no engine of ours is the node {id}"))
        };
        let (holder, leader) = (index(holder)?, index(leader)?);
        for (other, (_, address)) in self.nodes.iter().enumerate() {
            let sample = ask_once(*address, HOST);
            let name = &self.engines[other].name;
            ensure!(sample.good() == (other == holder), "asked at {name}: {:?}", sample.answer);
        }
        Ok((holder, leader))
    }

    /// Passes a result on; prints the last lines of every engine when it is an error.
    fn report_failure<T>(&self, result: Result<T>) -> Result<T> {
        if result.is_err() {
            for engine in &self.engines {
                eprintln!("{}", engine.last_lines(10));
            }
        }
        result
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.engines.clear();
        cleanup::remove(&self.cgroup);
    }
}
