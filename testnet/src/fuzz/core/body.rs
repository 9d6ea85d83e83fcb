//! A node with the least that a driver must do, and a judge of all that the node asks for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use shoal_protocol::model::{Digest, NodeId, ReplicaId, Time, codec};
use shoal_protocol::node::{
    Action, Command, DialTarget, Effect, Input, Message, Node, Order, PersistId, Record, Reply,
    RequestId, Saved, Ticket,
};
use shoal_protocol::wire;

use crate::sim::TakenDevice;

/// Effects of one input, in a cluster of four nodes with three workloads: some tens in fact.
const MAX_EFFECTS: usize = 1_000;
/// Bytes of all messages that one input leads to.
const MAX_SENT: usize = 4 << 20;
/// Calls of `handle_timeout` without an end of what is due: then the node is in a loop.
const MAX_TIMEOUTS: usize = 5_000;
/// Messages of it that are kept, for the other node.
const MAX_MAIL: usize = 256;

/// A running node and its device.
pub struct Body {
    pub node: Node,
    pub now: Time,
    /// Batches are written at once.
    pub writes_at_once: bool,
    /// The disk takes nothing.
    pub is_full: bool,
    pub mail: VecDeque<(NodeId, Message)>,
    pub said: VecDeque<Message>,
    /// What it was last ordered to do with replicas.
    pub orders: BTreeMap<ReplicaId, Digest>,
    pub fetches: BTreeSet<Digest>,
    pub dialled: VecDeque<DialTarget>,
    pub last_reply: Option<Reply>,
    disk: BTreeMap<(u8, Vec<u8>), Record>,
    unwritten: VecDeque<(PersistId, Vec<Record>)>,
    /// The last batch that it asked for; none yet.
    last: Option<PersistId>,
    tickets: u64,
    requests: u64,
    /// Commands without a reply.
    open: BTreeSet<RequestId>,
    /// Verdicts on the last ticket.
    verdicts: usize,
}

impl Body {
    pub fn of(taken: &TakenDevice, writes_at_once: bool) -> Body {
        let mut body = Body::around(taken.node.clone(), taken.now, writes_at_once);
        for slot in &taken.saved.slots {
            body.keep(Record::Slot { node: slot.0, slot: slot.1.clone() });
        }
        for change in &taken.saved.changes {
            let Ok(written) = change.change.peek() else { continue };
            body.keep(Record::Desired { key: written.key.hash(), changes: vec![change.clone()] });
        }
        body
    }

    /// Of a node that has just started.
    pub fn around(node: Node, now: Time, writes_at_once: bool) -> Body {
        Body {
            node,
            now,
            writes_at_once,
            is_full: false,
            mail: VecDeque::new(),
            said: VecDeque::new(),
            orders: BTreeMap::new(),
            fetches: BTreeSet::new(),
            dialled: VecDeque::new(),
            last_reply: None,
            disk: BTreeMap::new(),
            unwritten: VecDeque::new(),
            last: None,
            tickets: 0,
            requests: 0,
            open: BTreeSet::new(),
            verdicts: 0,
        }
    }

    /// Gives it an input and carries out what it asks for.
    pub fn input(&mut self, input: Input) {
        self.node.handle(self.now, input);
        self.drain();
    }

    pub fn gossip(&mut self, from: NodeId, message: Message) {
        self.tickets += 1;
        self.verdicts = 0;
        self.input(Input::Gossip { ticket: Ticket(self.tickets), from, message });
        assert_eq!(self.verdicts, 1, "a gossip message gets one verdict");
    }

    /// Asks it something. The answer may come later.
    pub fn ask(&mut self, command: Command) {
        self.requests += 1;
        self.last_reply = None;
        let request = RequestId(self.requests);
        self.open.insert(request);
        self.input(Input::Command { request, command });
    }

    /// Lets time pass, with all that falls due.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut calls = 0;
        while let Some((at, reason)) = self.node.poll_timeout().filter(|(at, _)| *at <= end) {
            calls += 1;
            assert!(calls < MAX_TIMEOUTS, "it is due without an end: {reason:?} at {at:?}");
            self.now = at.max(self.now);
            self.node.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// All that it wants on disk is there.
    pub fn write(&mut self) {
        if self.is_full {
            return;
        }
        let Some((upto, _)) = self.unwritten.back() else { return };
        let upto = *upto;
        for (_, records) in std::mem::take(&mut self.unwritten) {
            records.into_iter().for_each(|record| self.keep(record));
        }
        self.input(Input::Stored { upto });
    }

    fn drain(&mut self) {
        let (mut effects, mut sent) = (0, 0);
        while let Some(Effect { after, action }) = self.node.poll_effect() {
            effects += 1;
            assert!(effects <= MAX_EFFECTS, "an input leads to ever more effects: {action:?}");
            let is_known = |it: PersistId| self.last.is_none_or(|last| it <= last);
            assert!(after.is_none_or(is_known), "it waits for what nobody writes: {action:?}");
            sent += self.act(action);
        }
        assert!(sent <= MAX_SENT, "{sent} bytes are sent because of one input");
        for queue in self.node.queues() {
            assert!(!queue.is_overfull(), "{queue:?}");
        }
        if self.writes_at_once && !self.unwritten.is_empty() {
            self.write();
        }
    }

    /// Carries out an action; bytes that it sends. What waits for the disk is not held back: a peer
    /// may see it early, which is harder on the node.
    fn act(&mut self, action: Action) -> usize {
        match action {
            Action::Send { to, message, .. } => {
                let bytes = wire::encode(&message).len();
                assert!(bytes <= wire::MAX_MESSAGE, "a {} of {bytes} bytes", message.kind());
                self.mail.push_back((to, message));
                _ = (self.mail.len() > MAX_MAIL).then(|| self.mail.pop_front());
                return bytes;
            }
            Action::Broadcast(message) => {
                let bytes = wire::encode(&message).len();
                assert!(bytes <= wire::MAX_GOSSIP, "a {} of {bytes} bytes", message.kind());
                self.said.push_back(message);
                _ = (self.said.len() > MAX_MAIL).then(|| self.said.pop_front());
                return bytes;
            }
            Action::Persist { id, records } => {
                let is_next = self.last.is_none_or(|last| id.0 == last.0 + 1);
                assert!(is_next, "batches are numbered one by one: {id:?} after {:?}", self.last);
                self.last = Some(id);
                if !self.is_full {
                    self.unwritten.push_back((id, records));
                }
            }
            Action::Order(Order::Run { replica, generation, .. }) => {
                self.orders.insert(replica, generation);
            }
            Action::Order(Order::Again { .. }) => {}
            Action::Order(Order::Stop { replica }) => _ = self.orders.remove(&replica),
            Action::Fetch { artifact, candidates, .. } => {
                assert!(candidates.len() <= 16, "{} candidates", candidates.len());
                self.fetches.insert(artifact.digest);
            }
            Action::Dial { target, .. } => {
                self.dialled.push_back(target);
                _ = (self.dialled.len() > 8).then(|| self.dialled.pop_front());
            }
            Action::Reply { request, reply } => {
                assert!(self.open.remove(&request), "a command gets one reply: {reply:?}");
                self.last_reply = Some(reply);
            }
            Action::Verdict { ticket, .. } => {
                assert_eq!(ticket, Ticket(self.tickets), "a verdict comes at once");
                self.verdicts += 1;
            }
            Action::Resolve { .. } | Action::Disconnect(_) | Action::Notify(_) => {}
        }
        0
    }

    /// The disk fails, or works again.
    pub fn fill_disk(&mut self, is_full: bool) {
        self.is_full = is_full;
        if is_full {
            self.unwritten.clear();
            self.input(Input::StoreFailed { why: "full".into() });
        } else {
            // What failed was dropped: the numbers go on.
            self.input(Input::StoreRecovered);
        }
    }

    fn keep(&mut self, record: Record) {
        let key = match &record {
            Record::Incarnation(_) => (0, Vec::new()),
            Record::Desired { key, .. } => (1, key.0.to_vec()),
            Record::Slot { node, slot } => {
                (2, codec::encode(&(*node, slot.peek().map_or(u8::MAX, |it| it.slot))))
            }
            Record::Node { node, .. } => (3, node.0.to_vec()),
            Record::Ruling { key, .. } | Record::NoRuling { key } => (4, key.0.to_vec()),
            Record::OldVersion { uid, generation, .. } => (5, [uid.0, generation.0].concat()),
        };
        self.disk.insert(key, record);
    }

    /// The state on its disk, for a start after this run.
    pub fn saved(&self, incarnation: u64) -> Saved {
        let mut saved = Saved { incarnation, ..Saved::default() };
        for record in self.disk.values().cloned() {
            match record {
                Record::Incarnation(last) => saved.incarnation = saved.incarnation.max(last + 1),
                Record::Desired { changes, .. } => saved.changes.extend(changes),
                Record::Slot { node, slot } => saved.slots.push((node, slot)),
                Record::Node { record, .. } => saved.nodes.push(record),
                Record::Ruling { ruling, .. } => saved.rulings.push(ruling),
                Record::NoRuling { .. } => {}
                Record::OldVersion { uid, generation, version } => {
                    saved.old_versions.extend(version.map(|it| (uid, generation, it)));
                }
            }
        }
        saved
    }
}
