//! A large cluster that has been up for long. Its common knowledge is built once, and every node
//! starts with it; only the links have to be made.

use std::collections::BTreeMap;
use std::time::Duration;

use rand_chacha::rand_core::RngCore;
use shoal_protocol::membership;

use shoal_protocol::model::{
    Artifact, AuctionId, Award, Chain, Change, ChangeBody, Claim, ClusterId, Digest, Key, KeyPair,
    NodeId, NodeRecord, Phase, Place, ReplicaId, Resources, Signed, Slot, Spec, SpecForm, Time,
    Token, Value, WallClock, codec,
};
use shoal_protocol::node::{Config, Identity, Input, Message, Node, Saved, Ticket};
use shoal_protocol::ring::{Probes, Ring};
use shoal_protocol::trust;

use super::clock::EPOCH;
use super::device::Running;
use super::disk::Disk;
use super::world::{World, address, facts};

/// The size of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub nodes: usize,
    pub workloads: usize,
    /// Replicas of each workload.
    pub replicas: u32,
}

/// Distinct artifacts of all workloads: few, so that a device need not store thousands.
const ARTIFACTS: usize = 16;
/// Time after which a node without peers acts alone, microseconds: longer than its sync grace.
const ALONE: u64 = 5_000_000;

/// Everything that a formed cluster has signed.
pub struct FormedState {
    changes: Vec<Change>,
    records: Vec<Signed<NodeRecord>>,
    slots: Vec<(NodeId, Signed<Slot>)>,
    claims: Vec<(usize, Claim)>,
    /// The first node's identity.
    identity: Identity,
}

impl World {
    /// A linked cluster of this shape, 20 seconds after its nodes started.
    pub fn formed(seed: u64, shape: Shape) -> Result<World, String> {
        let mut world = World::new(seed);
        world.is_hashed = false;
        world.network.is_meshed = true;
        world.watch.is_off = true;
        for _ in 0..shape.nodes {
            world.add();
        }
        let formed = world.form(shape);
        let template = world.first_node(&formed)?;
        world.now = ALONE;
        let disk = formed.disk();
        for device in 0..shape.nodes {
            world.devices[device].disk = disk.clone();
        }
        for (device, claim) in &formed.claims {
            world.starts += 1;
            let running = Running {
                generation: claim.generation,
                healthy: true,
                old: None,
                unready: None,
                again: None,
                start: world.starts,
                image: None,
            };
            world.devices[*device].runtime.replicas.insert(claim.replica, running);
            world.devices[*device].artifacts.insert(artifact(&claim.name.to_string()));
        }
        for device in 1..shape.nodes {
            world.start_formed(device, &template)?;
        }
        // The first node's effects were dropped while it received the records, so it starts anew as
        // a clone of the second.
        let second = world.node(1).cloned().ok_or("a cluster has two nodes at least")?;
        world.start_formed(0, &second)?;
        // The nodes link and compare.
        world.run_for(Duration::from_secs(20))?;
        Ok(world)
    }

    fn start_formed(&mut self, device: usize, template: &Node) -> Result<(), String> {
        let mut seed = [0; 32];
        self.rng.fill_bytes(&mut seed);
        let (config, now) = (self.config(device, device == 0), self.now);
        let it = &mut self.devices[device];
        it.boot += 1;
        it.clock.restart(now);
        let node = template.simulator_clone(
            config,
            it.identity.clone(),
            facts(),
            it.clock.wall(now),
            seed,
            Time::ZERO,
        );
        it.node = Some(node.ok_or_else(|| format!("n{device} is not known to the others"))?);
        self.drain(device);
        Ok(())
    }

    /// A node that has received all records.
    fn first_node(&mut self, formed: &FormedState) -> Result<Node, String> {
        let it = &self.devices[0];
        let saved = Saved {
            incarnation: 1,
            changes: formed.changes.iter().map(Change::raw).collect(),
            slots: formed.slots.iter().map(|(node, slot)| (*node, slot.wire())).collect(),
            nodes: Vec::new(),
            rulings: Vec::new(),
            old_versions: Vec::new(),
        };
        let wall = it.clock.wall(0);
        let mut node = Node::new(
            self.config(0, true),
            it.identity.clone(),
            saved,
            facts(),
            wall,
            [0; 32],
            Time::ZERO,
        );
        // Without peers it acts on its own knowledge. Then it receives the records of all others at
        // once.
        let alone = Time::from_micros(ALONE);
        node.handle_timeout(alone);
        for record in formed.records.iter().skip(1) {
            let message = Message::Membership(membership::Message::Record(record.wire()));
            node.handle(
                alone,
                Input::Gossip { ticket: Ticket(0), from: self.devices[1].id, message },
            );
            while node.poll_effect().is_some() {}
        }
        node.settle_repair();
        let status = node.status();
        let wished = formed.changes.len() - self.devices.len();
        if status.workloads != wished {
            return Err(format!("a cluster holds {} of {wished} workloads", status.workloads));
        }
        match status.ready && status.nodes_up == self.devices.len() {
            true => Ok(node),
            false => Err(format!(
                "only {} of {} nodes are up, ready: {}",
                status.nodes_up,
                self.devices.len(),
                status.ready
            )),
        }
    }

    /// Signs everything that the formed cluster knows.
    fn form(&mut self, shape: Shape) -> FormedState {
        let cluster = self.genesis.cluster();
        let ids: Vec<NodeId> = self.devices.iter().map(|it| it.id).collect();
        let salts: Vec<u64> =
            ids.iter().map(|id| trust::admission_salt(&self.genesis, id)).collect();
        let ring = Ring::new(ids.iter().copied().zip(salts.iter().copied()));
        let mut changes: Vec<Change> = ids.iter().map(|id| self.admission(*id)).collect();
        let index: BTreeMap<NodeId, usize> =
            ids.iter().enumerate().map(|(index, id)| (*id, index)).collect();
        let (mut claims, mut next) = (Vec::new(), 0);
        for number in 0..shape.workloads {
            let spec = large_workload(number, shape.replicas);
            let change = self.change(&spec);
            let uid = change.uid();
            let key = Probes::of(&change.signed.key.hash());
            changes.push(change);
            let owner = ring.owner(&key).expect("nodes are there");
            for place in 0..shape.replicas {
                // The first node holds nothing: it is the template of all others.
                next = next % (shape.nodes - 1) + 1;
                let replica = ReplicaId { uid, place: Place::Ordinal(place) };
                let claim = self.claim(
                    &spec,
                    replica,
                    ids[next],
                    &self.devices[index[&owner]].identity.keys,
                    claims.len(),
                );
                claims.push((next, claim));
            }
        }
        let records = (0..shape.nodes).map(|device| self.record(device, &cluster)).collect();
        let slots = self.slots(&claims, &cluster);
        FormedState { changes, records, slots, claims, identity: self.devices[0].identity.clone() }
    }

    fn change(&self, spec: &Spec) -> Change {
        let writer = trust::writer_id(&self.root.public(), &[0; 16]);
        let serial = EPOCH << 16;
        let body = ChangeBody {
            key: Key::Workload(spec.name.clone()),
            writer,
            serial,
            clock: [(writer, serial)].into(),
            uid: None,
            value: Value::workload(spec),
        };
        trust::sign_change(&self.genesis, &self.root, &Chain::default(), body)
            .expect("the root may write")
    }

    fn claim(
        &self,
        spec: &Spec,
        replica: ReplicaId,
        to: NodeId,
        owner: &KeyPair,
        number: usize,
    ) -> Claim {
        let by = NodeId(owner.public().0);
        let token = Token { counter: 1, by, incarnation: 1 };
        let auction = AuctionId { owner: by, number: (1 << 32) | number as u64 };
        let generation = spec.revision();
        let award = Signed::sign(
            Award { auction, replica, generation, token, to },
            owner,
            &self.genesis.cluster(),
        );
        let since = WallClock(EPOCH);
        Claim {
            update: None,
            replica,
            name: spec.name.clone(),
            generation,
            token,
            phase: Phase::Healthy,
            since,
            award: award.wire(),
        }
    }

    fn record(&self, device: usize, cluster: &ClusterId) -> Signed<NodeRecord> {
        let record = NodeRecord {
            counter: 1,
            incarnation: 1,
            name: format!("n{device}"),
            addresses: vec![address(device, 0)],
            facts: facts(),
            version: "0".into(),
            ready: true,
            leaving: false,
            no_way_to: Vec::new(),
        };
        Signed::sign(record, &self.devices[device].identity.keys, cluster)
    }

    fn slots(&self, claims: &[(usize, Claim)], cluster: &ClusterId) -> Vec<(NodeId, Signed<Slot>)> {
        let mut sheets: BTreeMap<(usize, u8), Vec<Claim>> = BTreeMap::new();
        for (device, claim) in claims {
            sheets.entry((*device, claim.replica.slot())).or_default().push(claim.clone());
        }
        let signed = |((device, slot), mut claims): ((usize, u8), Vec<Claim>)| {
            claims.sort_by_key(|claim| claim.replica);
            let it = &self.devices[device];
            (
                it.id,
                Signed::sign(
                    Slot { slot, counter: 1 << 32, claims, newer: Vec::new() },
                    &it.identity.keys,
                    cluster,
                ),
            )
        };
        sheets.into_iter().map(signed).collect()
    }
}

impl FormedState {
    /// The signed state of a cluster of this shape.
    pub fn new(seed: u64, shape: Shape) -> FormedState {
        let mut world = World::new(seed);
        for _ in 0..shape.nodes {
            world.add();
        }
        world.form(shape)
    }

    /// The first node, loaded from its own copy of the records, so that it shares no memory.
    pub fn newcomer(&self) -> Node {
        fn apart<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
            codec::decode(&codec::encode(value)).expect("what was encoded can be decoded")
        }
        let saved = Saved {
            incarnation: 1,
            changes: self.changes.iter().map(|change| apart(&change.raw())).collect(),
            slots: self.slots.iter().map(|(node, slot)| (*node, apart(&slot.wire()))).collect(),
            nodes: self.records.iter().skip(1).map(|record| apart(&record.wire())).collect(),
            rulings: Vec::new(),
            old_versions: Vec::new(),
        };
        let wall = WallClock(EPOCH);
        let config = Config { name: "n0".into(), founder: true, ..Config::default() };
        let mut node =
            Node::new(config, self.identity.clone(), saved, facts(), wall, [0; 32], Time::ZERO);
        while node.poll_effect().is_some() {}
        node
    }

    /// A disk with all records.
    fn disk(&self) -> Disk {
        let mut disk = Disk { incarnation: 1, ..Disk::default() };
        for change in &self.changes {
            disk.desired.insert(change.signed.key.hash(), vec![change.raw()]);
        }
        for (node, slot) in &self.slots {
            disk.slots.insert((*node, slot.slot), slot.wire());
        }
        for record in &self.records {
            disk.nodes.insert(NodeId(record.by().0), record.wire());
        }
        disk
    }
}

/// The spec of workload `number`.
pub fn large_workload(number: usize, replicas: u32) -> Spec {
    let name = format!("w{number}");
    let digest = artifact(&name);
    SpecForm::wasm_service(
        name.parse().expect("a good name"),
        Artifact { digest, size: 60_000 },
        replicas,
        Resources { memory: 8 << 20, cpu: 5 },
    )
    .try_into()
    .expect("a good spec")
}

/// The artifact of a workload, by its name.
fn artifact(name: &str) -> Digest {
    let number: usize =
        name.rsplit('w').next().and_then(|number| number.parse().ok()).unwrap_or_default();
    Digest::of(&[(number % ARTIFACTS) as u8])
}
