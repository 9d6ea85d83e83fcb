//! A cluster that lived a little, and all that its members said meanwhile: where the search begins.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use shoal_protocol::membership::{Answerer, Message as Word};
use shoal_protocol::model::ruling::JobResult;
use shoal_protocol::model::{
    Chain, ClusterId, InstanceState, Key, KeyPair, NodeId, Ruling, RulingBody, Signable, Spec,
    Unverified, Value, WorkloadName,
};
use shoal_protocol::node::{
    Command, DialFailure, DialTarget, FetchOutcome, Input, Message, Node, Reply, Report,
};
use shoal_protocol::trust::Genesis;
use shoal_protocol::{auction, wire};

use super::body::Body;
use crate::sim::operator::{container_workload, workload};
use crate::sim::{TakenDevice, TestCluster};

/// Messages that are kept of each kind.
const KEPT: usize = 3;

/// The knowledge of an attacker: all that was said, all keys but the root's.
pub struct Real {
    /// The first is the founder; the last is the attacker's own.
    pub devices: Vec<TakenDevice>,
    pub genesis: Genesis,
    pub cluster: ClusterId,
    /// An operator that a newer program, or a thief, signs with.
    pub operator: KeyPair,
    pub chain: Chain,
    /// Encoded messages of all kinds.
    pub messages: Vec<Vec<u8>>,
    /// The bytes under signatures, by kind.
    pub bodies: Bodies,
    pub specs: Vec<Spec>,
    pub names: Vec<WorkloadName>,
}

/// The bytes under signatures, by what they are.
#[derive(Default)]
pub struct Bodies {
    pub changes: Vec<Vec<u8>>,
    pub slots: Vec<Vec<u8>>,
    pub records: Vec<Vec<u8>>,
    pub rulings: Vec<Vec<u8>>,
    pub votes: Vec<Vec<u8>>,
    pub goodbyes: Vec<Vec<u8>>,
    pub awards: Vec<Vec<u8>>,
    pub carried: Vec<Vec<u8>>,
}

impl Real {
    /// The one cluster of this process.
    pub fn get() -> &'static Real {
        static REAL: OnceLock<Real> = OnceLock::new();
        REAL.get_or_init(|| Real::make().expect("a cluster without faults comes together"))
    }

    fn make() -> Result<Real, String> {
        let mut cluster = TestCluster::new(7, 4)?;
        for words in ["publish web 3", "publish db 1 container version 2", "rule web 4 via n0"] {
            cluster.act(words)?;
            cluster.pass(Duration::from_secs(5))?;
        }
        let taken: Option<Vec<TakenDevice>> = (0..4).map(|it| cluster.take(it)).collect();
        let taken = taken.ok_or("a daemon ended")?;
        let operator = KeyPair::from_seed(&[9; 32]);
        let chain = cluster.make_publisher(operator.public());
        let mut life = Life::of(&taken);
        life.go(&cluster);
        let devices = taken.into_iter().zip(&life.bodies).map(|(it, body)| TakenDevice {
            node: body.node.clone(),
            now: body.now,
            ..it
        });
        let mut bodies = bodies(&life.heard);
        bodies.rulings = rulings(&life.bodies[0].node);
        let specs = vec![
            workload("web", 2, 3),
            container_workload("db", 2, 1),
            container_workload("shop/till", 1, 2),
            workload("new", 1, 1),
        ];
        Ok(Real {
            devices: devices.collect(),
            genesis: *cluster.genesis(),
            cluster: cluster.genesis().cluster(),
            operator,
            chain,
            bodies,
            messages: life.heard.iter().map(wire::encode).collect(),
            names: specs.iter().map(|it| it.name.clone()).collect(),
            specs,
        })
    }

    pub fn id(&self, device: usize) -> NodeId {
        self.devices[device % self.devices.len()].node.id()
    }

    pub fn keys(&self, device: usize) -> &KeyPair {
        &self.devices[device % self.devices.len()].identity.keys
    }
}

/// Four nodes that talk, without loss.
struct Life {
    bodies: Vec<Body>,
    heard: Vec<Message>,
    counts: BTreeMap<(u8, u8), usize>,
}

impl Life {
    fn of(taken: &[TakenDevice]) -> Life {
        let bodies = taken.iter().map(|it| Body::of(it, true)).collect();
        Life { bodies, heard: Vec::new(), counts: BTreeMap::new() }
    }

    /// A new workload, a change, a node that goes and returns, one that takes its leave.
    fn go(&mut self, cluster: &TestCluster) {
        self.pass(2_000);
        for spec in [workload("web", 2, 4), container_workload("shop/till", 1, 2)] {
            self.publish(cluster, &spec);
            self.pass(4_000);
        }
        self.publish(cluster, &workload("web", 2, 4)); // nothing to do: the members are asked
        let gone = self.bodies[2].node.id();
        for device in [0, 1, 3] {
            self.bodies[device].input(Input::LinkDown { peer: gone });
        }
        let others: Vec<NodeId> = [0, 1, 3].map(|it| self.bodies[it].node.id()).into();
        others.into_iter().for_each(|peer| self.bodies[2].input(Input::LinkDown { peer }));
        self.pass(6_000);
        for device in [0, 1, 3] {
            let body = &mut self.bodies[device];
            body.input(Input::LinkUp { peer: gone, dialled: true });
            let peer = body.node.id();
            self.bodies[2].input(Input::LinkUp { peer, dialled: false });
        }
        self.pass(6_000);
        self.bodies[1].input(Input::Goodbye { back_in: Duration::from_secs(60) });
        self.pass(500);
    }

    fn publish(&mut self, cluster: &TestCluster, spec: &Spec) {
        let (name, force) = (spec.name.clone(), true);
        let body = &mut self.bodies[0];
        body.ask(Command::Prepare { name, spec: Some(spec.clone()), force });
        if let Some(Reply::Prepared { draft, .. }) = body.last_reply.take() {
            let key = Key::Workload(spec.name.clone());
            let change = cluster.sign(0, key, Value::workload(spec), draft);
            body.ask(Command::Submit { change: change.raw() });
        }
    }

    fn pass(&mut self, millis: u64) {
        for _ in 0..millis / 50 {
            for at in 0..self.bodies.len() {
                self.deliver(at);
                self.bodies[at].pass(Duration::from_millis(50));
            }
        }
    }

    fn deliver(&mut self, at: usize) {
        let from = self.bodies[at].node.id();
        for (to, message) in std::mem::take(&mut self.bodies[at].mail) {
            self.hear(&message);
            if let Some(body) = self.bodies.iter_mut().find(|it| it.node.id() == to) {
                body.input(Input::Message { from, message });
            }
        }
        for message in std::mem::take(&mut self.bodies[at].said) {
            self.hear(&message);
            for (_, body) in self.bodies.iter_mut().enumerate().filter(|(it, _)| *it != at) {
                body.gossip(from, message.clone());
            }
        }
        let body = &mut self.bodies[at];
        for digest in std::mem::take(&mut body.fetches) {
            body.input(Input::Fetched { digest, outcome: FetchOutcome::Ready });
        }
        for (replica, generation) in body.orders.clone() {
            body.input(Input::Report(Report {
                replica,
                generation,
                state: InstanceState::Running,
            }));
        }
        for target in std::mem::take(&mut body.dialled) {
            if let DialTarget::Node(node) = target {
                let address = "/ip4/10.0.0.9/tcp/7700".to_owned();
                body.input(Input::Answered { node, address, by: Answerer::Nobody });
                let how = DialFailure::Refused;
                body.input(Input::DialFailed { target: DialTarget::Node(node), how });
            }
        }
    }

    fn hear(&mut self, message: &Message) {
        let bytes = wire::encode(message);
        let kind = (bytes.get(1).copied(), bytes.get(2).copied());
        let kind = (kind.0.unwrap_or_default(), kind.1.unwrap_or_default());
        // What follows the kind of a signed statement is its length: all of them are of one kind.
        let is_divided = matches!(
            message,
            Message::Membership(_) | Message::Repair(_) | Message::Claims(_) | Message::Auction(_)
        );
        let count = self.counts.entry(if is_divided { kind } else { (kind.0, 0) }).or_default();
        *count += 1;
        if *count <= KEPT && bytes.len() < 8_192 {
            self.heard.push(message.clone());
        }
    }
}

/// The signed bodies in messages.
fn bodies(messages: &[Message]) -> Bodies {
    let mut all = Bodies::default();
    for message in messages {
        match message {
            Message::Changed { change, .. } => put(&mut all.changes, &change.change),
            Message::Admitted { changes } => {
                changes.iter().for_each(|it| put(&mut all.changes, &it.change));
            }
            Message::Slot(slot) => put(&mut all.slots, slot),
            Message::Join { record, .. } => put(&mut all.records, record),
            Message::Carry(sealed) => put(&mut all.carried, sealed),
            Message::Membership(word) => match word {
                Word::Record(record) | Word::Hello { record: Some(record), .. } => {
                    put(&mut all.records, record);
                }
                Word::Vote(vote) | Word::Ask { vote: Some(vote), .. } => put(&mut all.votes, vote),
                Word::Down(notice, _) => {
                    notice.votes.iter().for_each(|it| put(&mut all.votes, it));
                }
                Word::Goodbye(goodbye) => put(&mut all.goodbyes, goodbye),
                _ => {}
            },
            Message::Auction(
                auction::Message::Award { awards, .. } | auction::Message::Notice { awards, .. },
            ) => awards.iter().for_each(|it| put(&mut all.awards, it)),
            _ => {}
        }
    }
    all
}

/// Decisions about the workload `web`: no code issues any yet, so none are heard.
fn rulings(node: &Node) -> Vec<Vec<u8>> {
    let web = "web".parse().expect("a label");
    let Some(replica) = node.wanted(&web).first().copied() else { return Vec::new() };
    let Some(generation) = node.generation(&replica.uid) else { return Vec::new() };
    let decisions = [
        RulingBody::RolloutVerdict { is_good: true },
        RulingBody::Autoscale { replicas: 3 },
        RulingBody::JobResult(JobResult::failed(1)),
        RulingBody::Frontier { below: 2 },
    ];
    let ruling = |body| Ruling { uid: replica.uid, generation, tick: 0, sequence: 2, body }.write();
    decisions.into_iter().map(ruling).collect()
}

fn put<T: Signable>(all: &mut Vec<Vec<u8>>, body: &Unverified<T>) {
    let raw = body.raw().into_owned();
    if !all.contains(&raw) {
        all.push(raw);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A seed of each kind, or whole parts of the decoders are never reached.
    #[test]
    fn all_kinds_of_statements_were_heard() {
        let real = Real::get();
        let kinds: std::collections::BTreeSet<u8> =
            real.messages.iter().filter_map(|it| it.get(1).copied()).collect();
        assert!(kinds.len() >= 10, "{kinds:?}");
        let Bodies { changes, slots, records, rulings, votes, goodbyes, awards, carried: _ } =
            &real.bodies;
        for (what, all) in [
            ("changes", changes),
            ("slots", slots),
            ("records", records),
            ("rulings", rulings),
            ("votes", votes),
            ("goodbyes", goodbyes),
            ("awards", awards),
        ] {
            assert!(!all.is_empty(), "no {what} among {} messages", real.messages.len());
        }
    }
}
