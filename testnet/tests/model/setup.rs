//! The common beginning of all histories: three linked members of one cluster, and a published
//! workload whose change is under way to them.

use std::time::Duration;

use shoal_protocol::membership::{self, Notice, Seen, Vote};
use shoal_protocol::model::spec::Rollout;
use shoal_protocol::model::{
    Artifact, Chain, ChangeBody, Clock, ClusterId, Digest, Facts, Key, KeyPair, Namespaces, NodeId,
    ProgramKind, RawChange, Resources, Role, Signed, Spec, SpecForm, Time, Value,
};
use shoal_protocol::node::{Config, Identity, Node, Saved};
use shoal_protocol::trust::{self, Genesis};
use shoal_protocol::{model, plan, sync};

use super::bounds::Start;
use super::cache::Cache;

/// Three: an owner, a holder, and a node that takes over; any two can disagree with the third.
pub const NODES: usize = 3;
/// Deadlines further ahead never come: the detector and repair rest.
pub const NEVER: Duration = Duration::from_secs(3600);

/// The identities of the cluster, and the workload.
pub struct Setup {
    genesis: Genesis,
    keys: [KeyPair; NODES],
    pub ids: [NodeId; NODES],
    pub cluster: ClusterId,
    /// Admissions of all members, on every disk from the beginning.
    pub admissions: Vec<(Digest, RawChange)>,
    /// Publishes one workload.
    pub change: RawChange,
    /// Its replicas.
    pub replicas: usize,
    /// Publishes a new version of it, where that is what the histories are about.
    pub update: Option<Update>,
    pub size: Resources,
    pub cache: Cache,
}

/// A new version.
pub struct Update {
    pub change: RawChange,
    pub spec: Spec,
}

impl Setup {
    pub fn new(start: Start) -> Self {
        let secret = |number: u8| KeyPair::from_seed(&[number; 32]);
        let (root, keys) = (secret(101), [secret(1), secret(2), secret(3)]);
        let genesis = Genesis { root: root.public() };
        let ids = keys.each_ref().map(|keys| NodeId(keys.public().0));
        let admit = |id: &NodeId| {
            let change = trust::admit_as_operator(&genesis, &root, &Chain::default(), *id, 1)
                .expect("an honest admission");
            (Key::Member(*id).hash(), change.raw())
        };
        let admissions = ids.iter().map(admit).collect();
        let operator = secret(103);
        let terms = trust::Terms {
            name: "tester".into(),
            role: Role::Publisher,
            namespaces: Namespaces::All,
            serial: 1,
            expires: None,
        };
        let chain = trust::grant(&genesis, &root, &Chain::default(), operator.public(), terms)
            .expect("good terms");
        let is_updating = start == Start::Updating;
        let replicas = if is_updating { 2 } else { 1 };
        let spec = workload("web", replicas, is_updating);
        let size = spec.reservation();
        let writer = trust::writer_id(&operator.public(), &[0; 16]);
        let key = Key::Workload(spec.name.clone());
        let sign = |serial: u64, uid: Option<Digest>, spec: &Spec| {
            let (key, clock) = (key.clone(), Clock::from([(writer, serial)]));
            let value = Value::workload(spec);
            let body = ChangeBody { key, writer, serial, clock, uid, value };
            trust::sign_change(&genesis, &operator, &chain, body).expect("an honest change").raw()
        };
        let change = sign(1, None, &spec);
        let update = is_updating.then(|| {
            let spec = workload("web 2", replicas, true);
            Update { change: sign(2, Some(change.change.hash()), &spec), spec }
        });
        Setup {
            cluster: genesis.cluster(),
            genesis,
            keys,
            ids,
            admissions,
            change,
            replicas: replicas as usize,
            update,
            size,
            cache: Cache::default(),
        }
    }

    pub fn index(&self, id: &NodeId) -> usize {
        self.ids.iter().position(|known| known == id).expect("one of the three")
    }

    /// Starts the core of a device with the records of its disk.
    pub fn boot(&self, node: usize, saved: Saved, wall: model::WallClock, now: Time) -> Node {
        let identity =
            Identity { keys: self.keys[node].clone(), genesis: self.genesis, invite: None };
        // Randomness only orders questions and spreads delays, so one seed stands for all.
        Node::new(config(node), identity, saved, self.facts(), wall, [7; 32], now)
    }

    /// A notice that this incarnation of a node is down, with the votes of both others.
    pub fn death_notice(&self, subject: usize, incarnation: u64) -> membership::Message {
        let vote = Vote { subject: self.ids[subject], incarnation, seen: Seen::Refused };
        let others = (0..NODES).filter(|node| *node != subject);
        let votes = others
            .map(|node| Signed::sign(vote, &self.keys[node], &self.cluster).wire().clone())
            .collect();
        membership::Message::Down(Notice { subject: self.ids[subject], incarnation, votes }, None)
    }

    /// Each device has room for one replica, so that two auctions at once conflict.
    fn facts(&self) -> Facts {
        let runtimes = [ProgramKind::Wasm].into();
        Facts { arch: "x86_64".into(), runtimes, capacity: self.size, ..Facts::default() }
    }
}

fn workload(artifact: &str, replicas: u32, is_updated_one_by_one: bool) -> Spec {
    let mut form = SpecForm::wasm_service(
        "web".parse().expect("a name"),
        Artifact { digest: Digest::of(artifact.as_bytes()), size: 60_000 },
        replicas,
        Resources { memory: 32 << 20, cpu: 100 },
    );
    form.later.rollout = is_updated_one_by_one.then(Rollout::default);
    form.try_into().expect("a good spec")
}

/// The production configuration, except that the detector and repair start nothing by themselves.
fn config(node: usize) -> Config {
    let late = NEVER * 100;
    Config {
        name: format!("n{node}"),
        addresses: vec![format!("/memory/{}", node + 1)],
        membership: membership::Config {
            probe: membership::ProbeConfig {
                beat: late,
                every: late,
                late_floor: late,
                rtt_every: late,
                ..membership::ProbeConfig::default()
            },
            suspicion: membership::SuspicionConfig {
                silent_after: late,
                // No beats are sent here: votes decide.
                hears_within: Duration::ZERO,
                silent_after_alone: late,
                answer_after: late,
                bystander_wait: late,
                ..membership::SuspicionConfig::default()
            },
            dialing: membership::DialConfig {
                crossing_delay: late,
                crossing_delay_unknown: late,
                lost_after: late,
                redial_first: late,
                redial_most: late,
                ..membership::DialConfig::default()
            },
            records: membership::RecordConfig {
                unknown_grace: late,
                repair_after: late,
                repair_most: late,
                reissue_every: Duration::ZERO,
                ..membership::RecordConfig::default()
            },
            ..membership::Config::default()
        },
        balance: plan::BalanceConfig { every: late },
        repair: sync::Config {
            compare_after: late,
            retry_after: late,
            answer_after: late,
            limit_after: late,
            ..sync::Config::default()
        },
        ..Config::default()
    }
}
