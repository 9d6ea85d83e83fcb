//! Runs the effects of the node: at once, or when the batch that they name is on disk.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use shoal_protocol::model::Roster;
use shoal_protocol::node::{
    Action, DialFailure, Effect, Input, Node, PersistId, Refusal, Reply, RequestId,
};
use tokio::sync::oneshot;

use crate::network::Network;
use crate::store::{StoreAnswer, StoreHandle};

use super::events::Events;
use super::handle::{Fetches, Orders};

/// Effects that may wait for the disk. With more, the disk is minutes behind and counts as failed.
const MAX_HELD: usize = 65_536;
/// Commands that may wait for their replies. Each has a caller waiting.
const MAX_REPLIES: usize = 1_024;

pub(super) struct Effects {
    pub network: Network,
    pub store: StoreHandle,
    pub orders: Box<dyn Orders>,
    pub fetches: Box<dyn Fetches>,
    pub events: Events,
    disk: Disk,
    held: BTreeMap<PersistId, Vec<Action>>,
    held_count: usize,
    replies: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    next_request: u64,
    /// Inputs about effects that could not be run.
    inputs: VecDeque<Input>,
    /// The members, as the network was last told.
    roster: Roster,
}

/// The state of the disk: up to which batch it was asked to write, and has written.
enum Disk {
    Good {
        asked: Option<PersistId>,
        stored: Option<PersistId>,
    },
    /// `late` is the last batch asked of a disk that failed by being slow: the disk counts as good
    /// again once that batch is written.
    Failed {
        why: String,
        late: Option<PersistId>,
    },
}

impl Effects {
    pub(super) fn new(
        network: Network,
        store: StoreHandle,
        orders: Box<dyn Orders>,
        fetches: Box<dyn Fetches>,
        events: Events,
    ) -> Self {
        Effects {
            network,
            store,
            orders,
            fetches,
            events,
            disk: Disk::Good { asked: None, stored: None },
            held: BTreeMap::new(),
            held_count: 0,
            replies: BTreeMap::new(),
            next_request: 0,
            inputs: VecDeque::new(),
            roster: Roster::default(),
        }
    }

    /// Registers a command's reply. `None` when too many commands wait; the caller then gets
    /// `Busy`.
    pub(super) fn expect(&mut self, reply: oneshot::Sender<Reply>) -> Option<RequestId> {
        // Callers that gave up make room.
        if self.replies.len() >= MAX_REPLIES {
            self.replies.retain(|_, reply| !reply.is_closed());
        }
        if self.replies.len() >= MAX_REPLIES {
            let busy = Refusal::Busy(format!("{MAX_REPLIES} commands wait for their answers"));
            // The caller may have given up.
            let _ = reply.send(Reply::Refused(busy));
            return None;
        }
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.replies.insert(request, reply);
        Some(request)
    }

    /// Runs or holds all effects of the node. Those that fail become inputs.
    pub(super) fn take(&mut self, node: &mut Node) {
        let roster = node.roster();
        if !roster.is_same(&self.roster) {
            // Before anything is sent to a new member.
            self.network.set_roster(roster.clone());
            self.roster = roster;
        }
        while let Some(effect) = node.poll_effect() {
            let Effect { after, action } = effect;
            match (&self.disk, after) {
                (_, None) => self.run(action),
                (Disk::Good { stored, .. }, Some(id)) if *stored >= Some(id) => self.run(action),
                (Disk::Good { .. }, Some(id)) => self.hold(id, action),
                (Disk::Failed { why, .. }, Some(_)) => {
                    let why = why.clone();
                    self.fail_reply(action, &why);
                }
            }
        }
    }

    /// The next input about an effect that could not be run.
    pub(super) fn next_input(&mut self) -> Option<Input> {
        self.inputs.pop_front()
    }

    /// Handles an answer of the store: runs the effects that waited for it. Returns the input for
    /// the node, and how long the disk took.
    pub(super) fn on_store(&mut self, answer: StoreAnswer) -> Option<(Input, Duration)> {
        match (&mut self.disk, answer) {
            (Disk::Good { stored, .. }, StoreAnswer::Stored { upto, took }) => {
                *stored = (*stored).max(Some(upto));
                let later = self.held.split_off(&PersistId(upto.0.saturating_add(1)));
                let released = std::mem::replace(&mut self.held, later);
                for action in released.into_values().flatten() {
                    self.held_count -= 1;
                    self.run(action);
                }
                Some((Input::Stored { upto }, took))
            }
            (Disk::Good { .. }, StoreAnswer::Failed { why }) => {
                Some((self.fail(why, None), Duration::ZERO))
            }
            (Disk::Good { .. }, StoreAnswer::Recovered) => None,
            (Disk::Failed { .. }, StoreAnswer::Recovered) => {
                Some((self.recovered(), Duration::ZERO))
            }
            // The disk had failed by being slow, and has caught up.
            (Disk::Failed { late: Some(late), .. }, StoreAnswer::Stored { upto, took })
                if upto >= *late =>
            {
                Some((self.recovered(), took))
            }
            (Disk::Failed { .. }, StoreAnswer::Stored { .. }) => None,
            (Disk::Failed { late, .. }, StoreAnswer::Failed { .. }) => {
                *late = None;
                None
            }
        }
    }

    fn recovered(&mut self) -> Input {
        tracing::info!("the state can be written again");
        self.disk = Disk::Good { asked: None, stored: None };
        Input::StoreRecovered
    }

    /// Whether no write is pending; a failed disk has none.
    pub(super) fn is_flushed(&self) -> bool {
        match &self.disk {
            Disk::Good { asked, stored } => stored >= asked,
            Disk::Failed { .. } => true,
        }
    }

    /// The match has no wildcard, so that a new action does not compile until it is handled.
    fn run(&mut self, action: Action) {
        match action {
            Action::Send { to, lane, message } => self.network.send(&to, lane, &message),
            Action::Broadcast(message) => self.network.broadcast(&message),
            Action::Dial { target, addresses } => {
                if !self.network.dial(target.clone(), addresses) {
                    self.inputs.push_back(Input::DialFailed { target, how: DialFailure::TimedOut });
                }
            }
            Action::Resolve { seed } => {
                if !self.network.resolve(seed.clone()) {
                    let found = Err("its name cannot be looked up: this node is too busy".into());
                    self.inputs.push_back(Input::Resolved { seed, found });
                }
            }
            Action::Disconnect(node) => self.network.disconnect(node),
            Action::Persist { id, records } => {
                if let Disk::Good { asked, .. } = &mut self.disk {
                    *asked = (*asked).max(Some(id));
                    self.store.persist(id, records);
                }
            }
            Action::Order(order) => self.orders.order(order),
            Action::Fetch { artifact, pieces, runtime, candidates } => {
                self.fetches.fetch(artifact, pieces, runtime, candidates)
            }
            Action::Reply { request, reply } => {
                if let Some(caller) = self.replies.remove(&request) {
                    // The caller may have given up.
                    let _ = caller.send(reply);
                }
            }
            Action::Verdict { ticket, verdict } => self.network.verdict(ticket, verdict),
            Action::Notify(event) => self.events.push(event),
        }
    }

    fn hold(&mut self, id: PersistId, action: Action) {
        self.held.entry(id).or_default().push(action);
        self.held_count += 1;
        if self.held_count > MAX_HELD {
            let late = match &self.disk {
                Disk::Good { asked, .. } => *asked,
                Disk::Failed { .. } => None,
            };
            let input =
                self.fail(format!("the disk is so slow that {MAX_HELD} effects wait for it"), late);
            self.inputs.push_back(input);
        }
    }

    /// Drops the held effects: what they depend on is not on disk.
    fn fail(&mut self, why: String, late: Option<PersistId>) -> Input {
        tracing::error!(%why, "the state cannot be written; this node takes no writes until it \
            can");
        self.disk = Disk::Failed { why: why.clone(), late };
        self.held_count = 0;
        for action in std::mem::take(&mut self.held).into_values().flatten() {
            self.fail_reply(action, &why);
        }
        Input::StoreFailed { why }
    }

    /// Refuses the command whose reply is dropped, so that its caller does not wait for ever.
    fn fail_reply(&mut self, action: Action, why: &str) {
        if let Action::Reply { request, .. } = action
            && let Some(caller) = self.replies.remove(&request)
        {
            let _ = caller.send(Reply::Refused(Refusal::ReadOnly(why.to_owned())));
        }
    }
}
