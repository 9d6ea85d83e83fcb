//! A driver for tests, the keys of a cluster, and sample facts and specs.

use std::collections::BTreeMap;

use super::*;
use crate::model::change::Revoked;
use crate::model::{
    Artifact, Change, ChangeBody, InstanceState, Key, Namespaces, ProgramKind, PublicKey,
    Resources, Role, Slot, Spec, SpecForm, Unverified, Value, WorkloadName,
};

pub struct Cluster {
    pub genesis: Genesis,
    pub root: KeyPair,
    operator: KeyPair,
}

/// The device's clock of a founder.
pub const NOW: WallClock = WallClock(1_800_000_000_000);

pub fn cluster() -> Cluster {
    let root = KeyPair::from_seed(&[1; 32]);
    let genesis = Genesis { root: root.public() };
    Cluster { genesis, root, operator: KeyPair::from_seed(&[3; 32]) }
}

impl Cluster {
    pub fn identity(&self, number: u8) -> Identity {
        let keys = KeyPair::from_seed(&[number; 32]);
        Identity { keys, genesis: self.genesis, invite: Some(self.invite(2, 10_000)) }
    }

    /// An invite for so many devices, with the key `number`, that has an hour to go.
    pub fn invite(&self, number: u8, uses: u32) -> Admittance {
        self.invite_until(number, uses, WallClock(NOW.0 + 3_600_000))
    }

    pub fn invite_until(&self, number: u8, uses: u32, expires: WallClock) -> Admittance {
        let keys = KeyPair::from_seed(&[number; 32]);
        let terms = trust::Terms {
            name: "invite".into(),
            role: Role::Inviter { uses, labels: Vec::new() },
            namespaces: Namespaces::All,
            serial: trust::serial_at(WallClock(NOW.0 - 1_000)),
            expires: Some(expires),
        };
        let chain =
            trust::grant(&self.genesis, &self.root, &Chain::default(), keys.public(), terms);
        Admittance { keys, chain: chain.unwrap() }
    }

    /// The admission of a node by the root.
    pub fn admission(&self, node: NodeId) -> Change {
        trust::admit_as_operator(&self.genesis, &self.root, &Chain::default(), node, 1).unwrap()
    }

    /// The admission of a node by a member, with this invite.
    pub fn admitted_by(&self, by: &KeyPair, invite: &Admittance, node: NodeId, at: u64) -> Change {
        let ticket = trust::ticket(&self.genesis, &invite.keys, by.public(), node, at);
        trust::admit(&self.genesis, by, &invite.chain.with(ticket), node, at).unwrap()
    }

    /// The disk of a founder with the key 10, at its first start.
    pub fn founded(&self) -> Saved {
        let id = NodeId(self.identity(10).keys.public().0);
        Saved { changes: vec![self.admission(id).raw()], ..Saved::default() }
    }

    /// The founder of the cluster, alone in it unless it knows others.
    pub fn founder(&self, mut saved: Saved) -> Node {
        let config = Config { name: "a".into(), founder: true, ..Config::default() };
        let identity = Identity { invite: None, ..self.identity(10) };
        saved.changes.extend(self.founded().changes);
        Node::new(config, identity, saved, facts(), NOW, [7; 32], Time::ZERO)
    }

    /// A node with the key `number` asks the founder to be admitted, and is.
    pub fn join_member(&self, number: u8, founder: &mut Harness) -> Harness {
        let joiner = self.identity(number);
        let id = NodeId(joiner.keys.public().0);
        let node = Node::new(
            Config::default(),
            joiner,
            Saved::default(),
            facts(),
            WallClock(0),
            [7; 32],
            Time::ZERO,
        );
        let mut joiner = Harness::new(node);
        founder.input(Input::LinkUp { peer: id, dialled: false });
        joiner.input(Input::LinkUp { peer: founder.node.id(), dialled: true });
        let join = joiner
            .sent
            .iter()
            .find(|message| matches!(message, Message::Join { .. }))
            .expect("it asks")
            .clone();
        founder.sent.clear();
        founder.input(Input::Message { from: id, message: join });
        let is_answer = |message: &&Message| matches!(message, Message::Admitted { .. });
        let answer = founder.sent.iter().find(is_answer).expect("it is answered").clone();
        joiner.input(Input::Message { from: founder.node.id(), message: answer });
        joiner
    }

    pub fn sign(&self, draft: Draft, name: &WorkloadName, value: Value) -> Change {
        self.sign_on(0, draft, name, value)
    }

    /// Signs on one of several computers of the operator.
    pub fn sign_on(&self, computer: u8, draft: Draft, name: &WorkloadName, value: Value) -> Change {
        self.sign_key_on(computer, draft, Key::Workload(name.clone()), value)
    }

    /// Signs a value of any key.
    pub fn sign_value(&self, draft: Draft, key: Key, value: Value) -> Change {
        self.sign_key_on(0, draft, key, value)
    }

    fn sign_key_on(&self, computer: u8, draft: Draft, key: Key, value: Value) -> Change {
        let chain = self.operators_chain();
        let writer = trust::writer_id(&self.operator.public(), &[computer; 16]);
        let Draft { mut clock, serial, uid } = draft;
        clock.insert(writer, serial);
        let body = ChangeBody { key, writer, serial, clock, uid, value };
        trust::sign_change(&self.genesis, &self.operator, &chain, body).unwrap()
    }

    /// The grant of the operator, who may publish everywhere.
    pub fn operators_chain(&self) -> Chain {
        let terms = trust::Terms {
            name: "me".into(),
            role: Role::Publisher,
            namespaces: Namespaces::All,
            serial: 1,
            expires: None,
        };
        let (genesis, root) = (&self.genesis, &self.root);
        trust::grant(genesis, root, &Chain::default(), self.operator.public(), terms).unwrap()
    }

    /// The operator's key.
    pub fn operator(&self) -> PublicKey {
        self.operator.public()
    }

    /// The end of a key's rights, by the root.
    pub fn revocation(&self, of: PublicKey, last: u64, withdraw: bool) -> Change {
        let value = Value::Revoked(Revoked { last, withdraw, why: "stolen".into(), stays: None });
        self.by_root(Key::Revocation(of), value)
    }

    /// The removal of a node from the roster, by the root.
    pub fn removal(&self, of: NodeId) -> Change {
        self.by_root(Key::Member(of), Value::Tombstone)
    }

    /// The policy of a node, by the root.
    pub fn policy(&self, of: NodeId, policy: crate::model::NodePolicy) -> Change {
        self.by_root(Key::Policy(of), Value::Policy(policy))
    }

    fn by_root(&self, key: Key, value: Value) -> Change {
        let writer = trust::writer_id(&self.root.public(), &[0; 16]);
        let serial = trust::serial_at(NOW) + 7;
        let clock = [(writer, serial)].into();
        let body = ChangeBody { key, writer, serial, clock, uid: None, value };
        trust::sign_change(&self.genesis, &self.root, &Chain::default(), body).unwrap()
    }
}

pub fn facts() -> Facts {
    Facts {
        arch: "x86_64".into(),
        runtimes: [ProgramKind::Wasm].into(),
        labels: BTreeMap::new(),
        capacity: Resources { memory: 1 << 30, cpu: 4_000 },
        ..Facts::default()
    }
}

pub fn spec(replicas: u32, memory: u64) -> Spec {
    SpecForm::wasm_service(
        "web".parse().unwrap(),
        Artifact { digest: Digest::of(b"bytes"), size: 5 },
        replicas,
        Resources { memory, cpu: 100 },
    )
    .try_into()
    .unwrap()
}

/// A driver for tests: a disk that syncs at once, a runtime that starts at once, and a record of
/// every effect.
pub struct Harness {
    pub node: Node,
    pub now: Time,
    pub disk_works: bool,
    /// The reason why fetches fail, if they do.
    pub fetch_error: Option<&'static str>,
    stored: PersistId,
    /// The last batch that was to be persisted.
    pub last_batch: PersistId,
    pub held: Vec<(PersistId, Action)>,
    pub effects: Vec<String>,
    pub replies: Vec<Reply>,
    pub records: Vec<Record>,
    pub orders: Vec<Order>,
    pub sent: Vec<Message>,
    /// The same, with their receivers.
    pub mail: Vec<(NodeId, Message)>,
    /// Dials that it asked for.
    pub dials: usize,
    tickets: u64,
    pub broadcasts: Vec<Message>,
    pub fetch_outcome: FetchOutcome,
    /// What is ordered to run answers at once.
    pub runs: bool,
    /// Fetches do not end.
    pub fetch_hangs: bool,
    pub requests: u64,
}

impl Harness {
    /// There is a link to a member, which has shown who it is.
    pub fn link(&mut self, peer: NodeId) {
        self.input(Input::LinkUp { peer, dialled: false });
        let revocations = self.node.desired.revocations_digest();
        let lineage = self.node.desired.lineage(peer, 8);
        let message = Message::Greet { lineage, revocations };
        self.input(Input::Message { from: peer, message });
    }

    pub fn new(node: Node) -> Self {
        Self::of(node, true)
    }

    /// A runtime that starts nothing by itself if `runs` is false.
    pub fn of(node: Node, runs: bool) -> Self {
        let mut harness = Harness {
            node,
            now: Time::ZERO,
            disk_works: true,
            fetch_error: None,
            stored: PersistId(0),
            last_batch: PersistId(0),
            held: Vec::new(),
            effects: Vec::new(),
            replies: Vec::new(),
            records: Vec::new(),
            orders: Vec::new(),
            sent: Vec::new(),
            mail: Vec::new(),
            dials: 0,
            tickets: 0,
            broadcasts: Vec::new(),
            fetch_outcome: FetchOutcome::Ready,
            runs,
            fetch_hangs: false,
            requests: 0,
        };
        harness.drain();
        harness
    }

    pub fn input(&mut self, input: Input) {
        self.node.handle(self.now, input);
        self.drain();
    }

    /// A message comes by gossip.
    pub fn gossip(&mut self, from: NodeId, message: Message) {
        self.tickets += 1;
        self.input(Input::Gossip { ticket: Ticket(self.tickets), from, message });
    }

    pub fn run_for(&mut self, after: Duration) {
        let end = self.now + after;
        while let Some((at, _)) = self.node.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = at.max(self.now);
            self.node.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    pub fn command(&mut self, command: Command) -> Reply {
        self.request(command);
        self.replies.pop().expect("answered at once")
    }

    /// A command whose answer may come later.
    pub fn request(&mut self, command: Command) {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.input(Input::Command { request, command });
    }

    pub fn draft(&mut self, spec: Option<Spec>) -> Result<Draft, Refusal> {
        match self.command(Command::Prepare { name: "web".parse().unwrap(), spec, force: false }) {
            Reply::Prepared { draft, .. } => Ok(draft),
            Reply::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// A prepared and signed change, not yet submitted.
    pub fn signed(&mut self, cluster: &Cluster, spec: &Spec) -> Change {
        let draft = self.draft(Some(spec.clone())).unwrap();
        cluster.sign(draft, &spec.name, Value::workload(spec))
    }

    pub fn publish(&mut self, cluster: &Cluster, spec: &Spec) -> Reply {
        let change = self.signed(cluster, spec);
        self.command(Command::Submit { change: change.raw() })
    }

    fn drain(&mut self) {
        while let Some(Effect { after, action }) = self.node.poll_effect() {
            self.effects.push(written(&after, &action));
            match after {
                Some(batch) if batch > self.stored => self.held.push((batch, action)),
                Some(_) => self.act(action),
                None => self.act(action),
            }
        }
    }

    /// All batches up to `upto` are on disk: what waited for them goes on.
    pub fn on_disk(&mut self, upto: PersistId) {
        self.stored = upto;
        self.node.handle(self.now, Input::Stored { upto });
        let (ready, held) = self.held.drain(..).partition::<Vec<_>, _>(|(batch, _)| *batch <= upto);
        self.held = held;
        ready.into_iter().for_each(|(_, action)| self.act(action));
        self.drain();
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Persist { id, records } if self.disk_works => {
                self.last_batch = id;
                self.records.extend(records);
                self.on_disk(id);
            }
            Action::Persist { id, .. } => self.last_batch = id,
            Action::Order(order) => {
                self.orders.push(order.clone());
                if let Order::Run { replica, generation, .. } = order
                    && self.runs
                {
                    let report = Report { replica, generation, state: InstanceState::Running };
                    self.input(Input::Report(report));
                }
            }
            Action::Fetch { .. } if self.fetch_hangs => {}
            Action::Fetch { artifact, .. } => {
                let failed = self.fetch_error.map(|why| FetchOutcome::Failed(why.into()));
                let outcome = failed.unwrap_or_else(|| self.fetch_outcome.clone());
                self.input(Input::Fetched { digest: artifact.digest, outcome });
            }
            Action::Reply { reply, .. } => self.replies.push(reply),
            Action::Send { to, message, .. } => {
                self.sent.push(message.clone());
                self.mail.push((to, message));
            }
            Action::Dial { .. } => self.dials += 1,
            Action::Broadcast(message) => self.broadcasts.push(message),
            Action::Resolve { .. }
            | Action::Disconnect(_)
            | Action::Verdict { .. }
            | Action::Notify(_) => {}
        }
    }
}

/// The text of an effect, messages by their bytes.
fn written(after: &Option<PersistId>, action: &Action) -> String {
    match action {
        Action::Send { to, lane, message } => {
            format!("{after:?} send {to} {lane:?} {:?}", crate::wire::encode(message))
        }
        Action::Broadcast(message) => {
            format!("{after:?} broadcast {:?}", crate::wire::encode(message))
        }
        other => format!("{after:?} {other:?}"),
    }
}

/// The state that a disk with these records restores.
pub fn saved(records: &[Record]) -> Saved {
    let mut saved = Saved { incarnation: 1, ..Saved::default() };
    let mut slots: BTreeMap<(NodeId, u8), Unverified<Slot>> = BTreeMap::new();
    let mut desired = BTreeMap::new();
    for record in records.iter().cloned() {
        match record {
            Record::Incarnation(incarnation) => saved.incarnation = incarnation + 1,
            Record::Desired { key, changes } => _ = desired.insert(key, changes),
            Record::Slot { node, slot } => {
                _ = slots.insert((node, slot.peek().unwrap().slot), slot)
            }
            Record::Node { record, .. } => saved.nodes.push(record),
            Record::Ruling { ruling, .. } => saved.rulings.push(ruling),
            Record::NoRuling { .. } => {}
            Record::OldVersion { uid, generation, version } => {
                saved.old_versions.retain(|(of, it, _)| (*of, *it) != (uid, generation));
                saved.old_versions.extend(version.map(|it| (uid, generation, it)));
            }
        }
    }
    saved.changes = desired.into_values().flatten().collect();
    saved.slots = slots.into_iter().map(|((node, _), slot)| (node, slot)).collect();
    saved
}
