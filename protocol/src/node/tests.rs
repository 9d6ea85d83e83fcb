mod returning;
mod unwritten;

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::model::{
    Artifact, AuctionId, Change, ChangeBody, Key, Place, Resources, RuntimeKind, Spec, SpecForm, Token, Unverified,
    Value, WorkloadName,
};
use crate::trust;

struct Cluster {
    genesis: Genesis,
    root: KeyPair,
    join: KeyPair,
    operator: KeyPair,
}

fn cluster() -> Cluster {
    let (root, join) = (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[2; 32]));
    let genesis = Genesis { root: root.public(), join: join.public() };
    Cluster { genesis, root, join, operator: KeyPair::from_seed(&[3; 32]) }
}

impl Cluster {
    fn identity(&self, number: u8) -> Identity {
        let keys = KeyPair::from_seed(&[number; 32]);
        Identity { keys, genesis: self.genesis, join: self.join.clone() }
    }

    /// A node that makes the cluster, alone in it.
    fn founder(&self, saved: Saved) -> Node {
        let config = Config { name: "a".into(), founder: true, ..Config::default() };
        Node::new(config, self.identity(10), saved, facts(), WallClock(1_800_000_000_000), [7; 32], Time::ZERO)
    }

    fn sign(&self, draft: Draft, name: &WorkloadName, value: Value) -> Change {
        let certificate = trust::certify(&self.genesis, &self.root, self.operator.public(), "me").unwrap();
        let writer = trust::writer_id(&self.operator.public(), &[0; 16]);
        let Draft { mut clock, serial, uid } = draft;
        clock.insert(writer, serial);
        let body = ChangeBody { key: Key::Workload(name.clone()), writer, serial, clock, uid, value };
        trust::sign_change(&self.genesis, &self.operator, Some(&certificate), body).unwrap()
    }
}

fn facts() -> Facts {
    Facts {
        arch: "x86_64".into(),
        runtimes: [RuntimeKind::Wasm].into(),
        labels: BTreeMap::new(),
        capacity: Resources { memory: 1 << 30, cpu: 4_000 },
    }
}

fn spec(replicas: u32, memory: u64) -> Spec {
    SpecForm {
        name: "web".parse().unwrap(),
        runtime: RuntimeKind::Wasm,
        artifact: Artifact { digest: Digest::of(b"bytes"), size: 5 },
        replicas,
        resources: Resources { memory, cpu: 100 },
        env: BTreeMap::new(),
        require: BTreeMap::new(),
    }
    .try_into()
    .unwrap()
}

/// A driver in a bottle: a disk that syncs at once, a runtime that starts at once, and a record of everything asked for.
struct Bottle {
    node: Node,
    now: Time,
    disk: bool,
    /// Why no bytes come, when none do.
    no_bytes: Option<&'static str>,
    stored: PersistId,
    held: Vec<(PersistId, Action)>,
    asked: Vec<String>,
    replies: Vec<Reply>,
    records: Vec<Record>,
    orders: Vec<Order>,
    said: Vec<Message>,
    told_all: Vec<Message>,
    fetched: FetchOutcome,
    requests: u64,
}

impl Bottle {
    fn new(node: Node) -> Self {
        let mut bottle = Bottle {
            node,
            now: Time::ZERO,
            disk: true,
            no_bytes: None,
            stored: PersistId(0),
            held: Vec::new(),
            asked: Vec::new(),
            replies: Vec::new(),
            records: Vec::new(),
            orders: Vec::new(),
            said: Vec::new(),
            told_all: Vec::new(),
            fetched: FetchOutcome::Ready,
            requests: 0,
        };
        bottle.drain();
        bottle
    }

    fn input(&mut self, input: Input) {
        self.node.handle(self.now, input);
        self.drain();
    }

    fn run_for(&mut self, after: Duration) {
        let end = self.now + after;
        while let Some((at, _)) = self.node.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = at.max(self.now);
            self.node.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn command(&mut self, command: Command) -> Reply {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.input(Input::Command { request, command });
        self.replies.pop().expect("answered at once")
    }

    fn draft(&mut self, spec: Option<Spec>) -> Result<Draft, Refusal> {
        match self.command(Command::Prepare { name: "web".parse().unwrap(), spec, force: false }) {
            Reply::Prepared { draft, .. } => Ok(draft),
            Reply::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    fn drain(&mut self) {
        while let Some(Effect { after, action }) = self.node.poll_effect() {
            self.asked.push(written(&after, &action));
            match after {
                Some(batch) if batch > self.stored => self.held.push((batch, action)),
                Some(_) => self.act(action),
                None => self.act(action),
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Persist { id, records } if self.disk => {
                self.records.extend(records);
                self.stored = id;
                self.node.handle(self.now, Input::Stored { upto: id });
                let (ready, held) = self.held.drain(..).partition::<Vec<_>, _>(|(batch, _)| *batch <= id);
                self.held = held;
                ready.into_iter().for_each(|(_, action)| self.act(action));
                self.drain();
            }
            Action::Persist { .. } => {}
            Action::Order(order) => {
                self.orders.push(order.clone());
                if let Order::Run { replica, generation, .. } = order {
                    let report = Report { replica, generation, state: ReplicaState::Healthy };
                    self.input(Input::Report(report));
                }
            }
            Action::Fetch { artifact, .. } => {
                let failed = self.no_bytes.map(|why| FetchOutcome::Failed(why.into()));
                let outcome = failed.unwrap_or_else(|| self.fetched.clone());
                self.input(Input::Fetched { digest: artifact.digest, outcome });
            }
            Action::Reply { reply, .. } => self.replies.push(reply),
            Action::Send { message, .. } => self.said.push(message),
            Action::Broadcast(message) => self.told_all.push(message),
            Action::Dial { .. } | Action::Disconnect(_) | Action::Verdict { .. } | Action::Notify(_) => {}
        }
    }
}

/// An effect in full, messages by their bytes.
fn written(after: &Option<PersistId>, action: &Action) -> String {
    match action {
        Action::Send { to, lane, message } => {
            format!("{after:?} send {to} {lane:?} {:?}", crate::wire::encode(message))
        }
        Action::Broadcast(message) => format!("{after:?} broadcast {:?}", crate::wire::encode(message)),
        other => format!("{after:?} {other:?}"),
    }
}

fn a_life(seed_of_founder: [u8; 32]) -> Vec<String> {
    let cluster = cluster();
    let config = Config { name: "a".into(), founder: true, ..Config::default() };
    let wall = WallClock(1_800_000_000_000);
    let node = Node::new(config, cluster.identity(10), Saved::default(), facts(), wall, seed_of_founder, Time::ZERO);
    let mut bottle = Bottle::new(node);
    let draft = bottle.draft(Some(spec(3, 32 << 20))).unwrap();
    let change = cluster.sign(draft, &"web".parse().unwrap(), Value::workload(&spec(3, 32 << 20)));
    bottle.command(Command::Submit { change: change.raw() });
    bottle.input(Input::LinkUp { peer: NodeId([9; 32]) });
    bottle.input(Input::Garbage { from: NodeId([9; 32]), why: "noise".into() });
    bottle.run_for(Duration::from_secs(30));
    bottle.input(Input::LinkDown { peer: NodeId([9; 32]) });
    bottle.run_for(Duration::from_secs(30));
    bottle.asked
}

#[test]
fn the_same_seed_and_inputs_give_the_same_effects_byte_for_byte() {
    let (one, other) = (a_life([7; 32]), a_life([7; 32]));
    assert!(one.len() > 10, "{one:?}");
    assert_eq!(one, other);
    assert_ne!(one, a_life([8; 32]), "the seed is used");
}

#[test]
fn a_lone_founder_places_what_is_published() {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    let draft = bottle.draft(Some(spec(2, 32 << 20))).unwrap();
    let change = cluster.sign(draft, &"web".parse().unwrap(), Value::workload(&spec(2, 32 << 20)));
    let reply = bottle.command(Command::Submit { change: change.raw() });
    assert_eq!(reply, Reply::Accepted { uid: change.uid(), change: change.hash() });
    bottle.run_for(Duration::from_secs(5));
    let view = bottle.node.workload(&"web".parse().unwrap()).unwrap();
    assert_eq!((view.desired, view.healthy), (2, 2), "{view:?}");
    assert_eq!(bottle.node.routes().1[&"web".parse::<WorkloadName>().unwrap()].len(), 2);
    let explained = bottle.node.explain(&"web/1".parse().unwrap()).unwrap();
    assert_eq!(explained.auctions[0].winner.as_deref(), Some("a"), "{explained:?}");
}

#[test]
fn an_answer_waits_for_the_disk() {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    let draft = bottle.draft(Some(spec(1, 32 << 20))).unwrap();
    bottle.disk = false;
    let change = cluster.sign(draft, &"web".parse().unwrap(), Value::workload(&spec(1, 32 << 20)));
    bottle.requests += 1;
    let request = RequestId(bottle.requests);
    bottle.input(Input::Command { request, command: Command::Submit { change: change.raw() } });
    assert!(bottle.replies.is_empty(), "answered before it was on disk");
    assert!(bottle.held.iter().any(|(_, action)| matches!(action, Action::Reply { .. })));
    bottle.run_for(Duration::from_secs(5));
    assert!(bottle.orders.is_empty(), "ran what it had not written down");
}

#[test]
fn a_restart_runs_what_was_claimed_and_knows_what_was_wished() {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    let draft = bottle.draft(Some(spec(2, 32 << 20))).unwrap();
    let change = cluster.sign(draft, &"web".parse().unwrap(), Value::workload(&spec(2, 32 << 20)));
    bottle.command(Command::Submit { change: change.raw() });
    bottle.run_for(Duration::from_secs(5));
    assert_eq!(bottle.orders.len(), 2);
    let again = Bottle::new(cluster.founder(saved(&bottle.records)));
    assert_eq!(again.orders.len(), 2, "before any timer, with no peer");
    assert_eq!(again.node.spec(&"web".parse().unwrap()), Some(&spec(2, 32 << 20)));
}

/// What a disk would give back.
fn saved(records: &[Record]) -> Saved {
    let mut saved = Saved { incarnation: 1, ..Saved::default() };
    let mut slots: BTreeMap<(NodeId, u8), Unverified<crate::model::Slot>> = BTreeMap::new();
    let mut desired = BTreeMap::new();
    for record in records.iter().cloned() {
        match record {
            Record::Incarnation(incarnation) => saved.incarnation = incarnation + 1,
            Record::Desired { key, changes } => _ = desired.insert(key, changes),
            Record::Slot { node, slot } => _ = slots.insert((node, slot.peek().unwrap().slot), slot),
            Record::Node { record, .. } => saved.nodes.push(record),
            Record::Ruling { ruling, .. } => saved.rulings.push(ruling),
            Record::NoRuling { .. } => {}
        }
    }
    saved.changes = desired.into_values().flatten().collect();
    saved.slots = slots.into_iter().map(|((node, _), slot)| (node, slot)).collect();
    saved
}

#[test]
fn more_than_any_node_has_is_refused_with_the_requirement() {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    let refusal = bottle.draft(Some(spec(1, 1 << 39))).unwrap_err();
    let text = refusal.to_string();
    assert!(text.contains("524288 MiB of memory required") && text.contains("1 node left out"), "{text}");
}

#[test]
fn a_change_that_did_not_know_what_is_here_is_stale() {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    let draft = bottle.draft(Some(spec(1, 32 << 20))).unwrap();
    let first = cluster.sign(draft.clone(), &"web".parse().unwrap(), Value::workload(&spec(1, 32 << 20)));
    bottle.command(Command::Submit { change: first.raw() });
    let second = cluster.sign(draft, &"web".parse().unwrap(), Value::workload(&spec(2, 32 << 20)));
    assert_eq!(bottle.command(Command::Submit { change: second.raw() }), Reply::Refused(Refusal::Stale));
    assert_eq!(bottle.node.spec(&"web".parse().unwrap()).unwrap().replicas, 1);
}

#[test]
fn the_status_tells_by_digests_what_is_held() {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    let before = bottle.node.status().roots;
    assert_eq!(before.keys().collect::<Vec<_>>(), ["desired", "records", "rulings", "sheets"]);
    let draft = bottle.draft(Some(spec(1, 32 << 20))).unwrap();
    let change = cluster.sign(draft, &"web".parse().unwrap(), Value::workload(&spec(1, 32 << 20)));
    bottle.command(Command::Submit { change: change.raw() });
    let after = bottle.node.status().roots;
    assert_ne!(after["desired"], before["desired"]);
    assert_eq!(after["rulings"], before["rulings"]);
}

#[test]
fn a_failed_disk_makes_the_node_read_only_and_it_goes_on() {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    bottle.input(Input::StoreFailed { why: "no space left".into() });
    let refusal = bottle.draft(Some(spec(1, 32 << 20))).unwrap_err();
    assert_eq!(refusal, Refusal::ReadOnly("no space left".into()));
    assert_eq!(bottle.node.status().read_only.as_deref(), Some("no space left"));
}

#[test]
fn what_cannot_start_is_given_up_with_its_reason() {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    let draft = bottle.draft(Some(spec(1, 32 << 20))).unwrap();
    let change = cluster.sign(draft, &"web".parse().unwrap(), Value::workload(&spec(1, 32 << 20)));
    bottle.command(Command::Submit { change: change.raw() });
    bottle.run_for(Duration::from_millis(500));
    let Order::Run { replica, generation, .. } = bottle.orders[0].clone() else { panic!("{:?}", bottle.orders) };
    let state = ReplicaState::Failed { reason: "trapped".into(), retryable: false };
    bottle.input(Input::Report(Report { replica, generation, state }));
    let view = bottle.node.workload(&"web".parse().unwrap()).unwrap();
    assert_eq!((view.replicas[0].phase.as_str(), view.replicas[0].reason.as_deref()), ("failing", Some("trapped")));
    bottle.run_for(Duration::from_secs(5));
    assert!(bottle.orders.contains(&Order::Stop { replica }), "{:?}", bottle.orders);
    let reason = bottle.node.workload(&"web".parse().unwrap()).unwrap().replicas[0].reason.clone().unwrap();
    assert!(reason.contains("trapped"), "{reason}");
}

/// A device with a small disk won an auction and could not store the component. It held the place, `starting`, for good, while
/// others had room.
#[test]
fn a_replica_whose_bytes_do_not_come_is_given_up_with_the_reason() {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    bottle.no_bytes = Some("no space left on the disk");
    let draft = bottle.draft(Some(spec(1, 32 << 20))).unwrap();
    let change = cluster.sign(draft, &"web".parse().unwrap(), Value::workload(&spec(1, 32 << 20)));
    bottle.command(Command::Submit { change: change.raw() });
    bottle.run_for(Duration::from_secs(1));
    assert_eq!(bottle.node.own_claims().count(), 1);
    bottle.run_for(Duration::from_secs(11));
    assert_eq!(bottle.node.own_claims().count(), 0);
    let reason = bottle.node.workload(&"web".parse().unwrap()).unwrap().replicas[0].reason.clone().unwrap();
    assert!(reason.contains("no space left"), "{reason}");
    // Once there is room again, so is the replica.
    bottle.no_bytes = None;
    bottle.run_for(Duration::from_secs(120));
    assert_eq!(bottle.node.workload(&"web".parse().unwrap()).unwrap().healthy, 1);
}

/// A new version was published, and the old one again before the new one's bytes had come. The runtime was never told of the new one, so
/// the node saw nothing to order, heard of no start, and the replica stayed `starting` for good, without requests, though it ran.
#[test]
fn what_is_taken_back_before_its_bytes_came_leaves_the_old_version_healthy() {
    let cluster = cluster();
    let mut bottle = Bottle::new(cluster.founder(Saved::default()));
    let web: WorkloadName = "web".parse().unwrap();
    let old = spec(1, 32 << 20);
    let artifact = Artifact { digest: Digest::of(b"other bytes"), size: 11 };
    let new: Spec = SpecForm { artifact, ..SpecForm::from(old.clone()) }.try_into().unwrap();
    for (spec, no_bytes) in [(&old, None), (&new, Some("nobody has it yet")), (&old, Some("nobody has it yet"))] {
        bottle.no_bytes = no_bytes;
        let draft = bottle.draft(Some(spec.clone())).unwrap();
        let change = cluster.sign(draft, &web, Value::workload(spec));
        bottle.command(Command::Submit { change: change.raw() });
        bottle.run_for(Duration::from_millis(100));
    }
    let view = bottle.node.workload(&web).unwrap();
    assert_eq!((view.replicas[0].phase.as_str(), view.healthy), ("healthy", 1));
    assert_eq!(bottle.node.routes().1[&web].len(), 1);
}

/// It is handed its own admission alone: who admitted it, and what runs, it has still to hear.
#[test]
fn one_that_was_just_admitted_is_not_ready_by_being_the_only_member_it_knows() {
    let cluster = cluster();
    let config = Config { name: "b".into(), founder: false, ..Config::default() };
    let wall = WallClock(1_800_000_000_000);
    let node = Node::new(config, cluster.identity(20), Saved::default(), facts(), wall, [7; 32], Time::ZERO);
    let (me, other) = (node.id(), NodeId([9; 32]));
    let mut bottle = Bottle::new(node);
    bottle.input(Input::LinkUp { peer: other });
    let admission = trust::admit(&cluster.genesis, &cluster.join, me, 1, 1).unwrap();
    bottle.input(Input::Message { from: other, message: Message::Admitted { changes: vec![admission.raw()] } });
    bottle.run_for(Duration::from_secs(60));
    let status = bottle.node.status();
    assert_eq!((status.nodes, status.ready), (1, false));
}

/// One that may bid: it knows a wish and its owner, who has a place to give.
struct Bidding {
    bottle: Bottle,
    me: NodeId,
    owners: Identity,
    genesis: Genesis,
    replica: ReplicaId,
    generation: Digest,
}

impl Bidding {
    fn new() -> Self {
        let cluster = cluster();
        let (mine, owners) = (cluster.identity(10), cluster.identity(20));
        let (me, owner) = (NodeId(mine.keys.public().0), NodeId(owners.keys.public().0));
        let admit = |node| trust::admit(&cluster.genesis, &cluster.join, node, 1, 1).unwrap().raw();
        let draft = Draft { clock: crate::model::Clock::new(), serial: 1, uid: None };
        let wish = cluster.sign(draft, &"web".parse().unwrap(), Value::workload(&spec(1, 32 << 20)));
        let saved = Saved { incarnation: 1, changes: vec![admit(me), admit(owner), wish.raw()], ..Saved::default() };
        let wall = WallClock(1_800_000_000_000);
        let mut bottle = Bottle::new(Node::new(Config::default(), mine, saved, facts(), wall, [7; 32], Time::ZERO));
        bottle.input(Input::LinkUp { peer: owner });
        let replica = ReplicaId { uid: wish.uid(), place: Place::Index(0) };
        let generation = crate::model::claim::generation(&spec(1, 32 << 20));
        Bidding { bottle, me, owners, genesis: cluster.genesis, replica, generation }
    }

    fn auction(&self) -> AuctionId {
        AuctionId { owner: NodeId(self.owners.keys.public().0), number: 1 }
    }

    fn token(&self) -> Token {
        Token { counter: 1, by: self.auction().owner, incarnation: 1 }
    }

    /// What it answers its owner.
    fn hears(&mut self, message: auction::Message) -> Vec<Message> {
        self.bottle.said.clear();
        self.bottle.input(Input::Message { from: self.auction().owner, message: Message::Auction(message) });
        std::mem::take(&mut self.bottle.said)
    }

    /// It bids.
    fn asked(&mut self) {
        let (auction, ReplicaId { uid, place }) = (self.auction(), self.replica);
        let generation = self.generation;
        let announce =
            auction::Announce { auction, uid, generation, places: vec![place], answer_ms: 100, hold_ms: 5_000 };
        let said = self.hears(auction::Message::Announce(announce));
        assert!(matches!(said[..], [Message::Auction(auction::Message::Bid { .. })]), "{said:?}");
    }

    fn award(&self) -> auction::Message {
        let (auction, token) = (self.auction(), self.token());
        let award = Award { auction, replica: self.replica, generation: self.generation, token, to: self.me };
        let award = Signed::sign(award, &self.owners.keys, &self.genesis.cluster());
        let summary = Box::new(auction::Summary {
            auction,
            name: "web".parse().unwrap(),
            uid: self.replica.uid,
            generation: self.generation,
            resources: Resources::default(),
            places: Vec::new(),
            opened: WallClock(0),
            took_us: 0,
            bids: Vec::new(),
            declines: Vec::new(),
            not_asked: Vec::new(),
            omitted: [0; 3],
            awards: Vec::new(),
        });
        auction::Message::Award { awards: vec![award.wire()], summary }
    }
}

/// Its flash takes a second, and the owner asks again, then cancels. Were it told "claimed" and power cut then, the claim
/// would be gone, and the owner would wait for it.
#[test]
fn nobody_hears_of_a_claim_that_is_not_on_disk_however_often_they_ask() {
    let mut it = Bidding::new();
    it.bottle.disk = false;
    it.asked();
    let (auction, replica, token, award) = (it.auction(), it.replica, it.token(), it.award());
    assert_eq!(it.hears(award.clone()), []);
    assert_eq!(it.hears(award), [], "asked again");
    assert_eq!(it.hears(auction::Message::Cancel { auction, replica, token }), [], "cancelled");
    it.bottle.input(Input::Stored { upto: PersistId(u64::MAX) });
    assert_eq!(it.bottle.said, [Message::Auction(auction::Message::Claimed { auction, replica, token })]);
}

/// What was won cannot be started, which is known before the claim is on disk.
#[test]
fn a_phase_is_not_told_before_the_claim_is_on_disk() {
    let mut it = Bidding::new();
    it.bottle.disk = false;
    it.bottle.fetched = FetchOutcome::Unusable("no component".into());
    it.asked();
    it.hears(it.award());
    assert_eq!(it.bottle.node.own_claim(&it.replica).unwrap().phase.as_str(), "failing");
    let told = it.bottle.told_all.iter().filter(|message| matches!(message, Message::Slot(_))).count();
    assert_eq!(told, 0, "of a claim that a power cut would take back");
}

/// Without that the owner would wait in vain, and the place would stay taken here, where nothing of it ever runs.
#[test]
fn what_a_failing_disk_could_not_take_goes_to_another_node() {
    let mut it = Bidding::new();
    it.bottle.disk = false;
    it.asked();
    it.hears(it.award());
    it.bottle.input(Input::StoreFailed { why: "no space left".into() });
    let said = &it.bottle.said;
    let refused = |message: &Message| {
        let Message::Auction(auction::Message::Refused { why, .. }) = message else { return false };
        matches!(why, auction::Refusal::CannotClaim(_))
    };
    assert!(matches!(&said[..], [message] if refused(message)), "{said:?}");
    assert_eq!(it.bottle.node.own_claim(&it.replica), None);
    assert_eq!(it.bottle.node.promised(), Resources::default());
    assert!(it.bottle.orders.iter().all(|order| matches!(order, Order::Stop { .. })), "{:?}", it.bottle.orders);
}
