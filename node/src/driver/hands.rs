//! Carries out what the node asks for: now, or when what it waits for is on disk.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use shoal_protocol::node::{
    Action, DialFailure, Effect, Input, Node, PersistId, Refusal, Reply, RequestId,
};
use tokio::sync::oneshot;

use crate::network::Network;
use crate::store::{StoreAnswer, StoreHandle};

use super::events::Events;
use super::handle::{Fetches, Orders};

/// Effects that may wait for the disk. One that is minutes behind counts as broken: what waits here
/// grows with the cluster's life.
const MAX_HELD: usize = 65_536;
/// Commands that may wait for their answers. Each has somebody waiting at the other end.
const MAX_REPLIES: usize = 1_024;

pub(super) struct Hands {
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
    /// What the node must hear of because an effect could not be carried out.
    back: VecDeque<Input>,
}

/// How far the disk has come.
enum Disk {
    Good {
        asked: Option<PersistId>,
        stored: Option<PersistId>,
    },
    /// `late` was asked of it last, where it was given up for being slow: it is good again when it
    /// has written that.
    Failed {
        why: String,
        late: Option<PersistId>,
    },
}

impl Hands {
    pub(super) fn new(
        network: Network,
        store: StoreHandle,
        orders: Box<dyn Orders>,
        fetches: Box<dyn Fetches>,
        events: Events,
    ) -> Self {
        Hands {
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
            back: VecDeque::new(),
        }
    }

    /// A name for a command, under which its answer will be found; none, and the asker is told,
    /// when too many wait.
    pub(super) fn expect(&mut self, reply: oneshot::Sender<Reply>) -> Option<RequestId> {
        // Who gave up makes room.
        if self.replies.len() >= MAX_REPLIES {
            self.replies.retain(|_, reply| !reply.is_closed());
        }
        if self.replies.len() >= MAX_REPLIES {
            let busy = Refusal::Busy(format!("{MAX_REPLIES} commands wait for their answers"));
            // The asker may have given up.
            let _ = reply.send(Reply::Refused(busy));
            return None;
        }
        let request = RequestId(self.next_request);
        self.next_request += 1;
        self.replies.insert(request, reply);
        Some(request)
    }

    /// Takes all effects of the node. What cannot be done comes back as inputs.
    pub(super) fn take(&mut self, node: &mut Node) {
        while let Some(effect) = node.poll_effect() {
            let Effect { after, action } = effect;
            match (&self.disk, after) {
                (_, None) => self.carry_out(action),
                (Disk::Good { stored, .. }, Some(id)) if *stored >= Some(id) => {
                    self.carry_out(action)
                }
                (Disk::Good { .. }, Some(id)) => self.hold(id, action),
                (Disk::Failed { why, .. }, Some(_)) => {
                    let why = why.clone();
                    self.give_up(action, &why);
                }
            }
        }
    }

    /// What the node must hear next because of what could not be done.
    pub(super) fn back(&mut self) -> Option<Input> {
        self.back.pop_front()
    }

    /// Takes an answer of the store: releases what waited for it, and says what the node must hear,
    /// and how long the disk took.
    pub(super) fn on_store(&mut self, answer: StoreAnswer) -> Option<(Input, Duration)> {
        match (&mut self.disk, answer) {
            (Disk::Good { stored, .. }, StoreAnswer::Stored { upto, took }) => {
                *stored = (*stored).max(Some(upto));
                let later = self.held.split_off(&PersistId(upto.0.saturating_add(1)));
                let released = std::mem::replace(&mut self.held, later);
                for action in released.into_values().flatten() {
                    self.held_count -= 1;
                    self.carry_out(action);
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
            // It was given up for being slow, and has caught up.
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

    /// Whether all that was to be on disk is there, or never will be.
    pub(super) fn is_settled(&self) -> bool {
        match &self.disk {
            Disk::Good { asked, stored } => stored >= asked,
            Disk::Failed { .. } => true,
        }
    }

    /// One match, without a wildcard: a new action does not compile until somebody carries it out.
    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Send { to, lane, message } => self.network.send(&to, lane, &message),
            Action::Broadcast(message) => self.network.broadcast(&message),
            Action::Dial { target, addresses } => {
                if !self.network.dial(target.clone(), addresses) {
                    self.back.push_back(Input::DialFailed { target, how: DialFailure::TimedOut });
                }
            }
            Action::Resolve { seed } => {
                if !self.network.resolve(seed.clone()) {
                    let found = Err("its name cannot be looked up: this node is too busy".into());
                    self.back.push_back(Input::Resolved { seed, found });
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
            Action::Fetch { artifact, runtime, candidates } => {
                self.fetches.fetch(artifact, runtime, candidates)
            }
            Action::Reply { request, reply } => {
                if let Some(asker) = self.replies.remove(&request) {
                    // The asker may have given up.
                    let _ = asker.send(reply);
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
            self.back.push_back(input);
        }
    }

    /// What waited is dropped: it must not happen, since what it rests on is not on disk.
    fn fail(&mut self, why: String, late: Option<PersistId>) -> Input {
        tracing::error!(%why, "the state cannot be written; this node takes no writes until it \
            can");
        self.disk = Disk::Failed { why: why.clone(), late };
        self.held_count = 0;
        for action in std::mem::take(&mut self.held).into_values().flatten() {
            self.give_up(action, &why);
        }
        Input::StoreFailed { why }
    }

    /// Somebody who waits for an answer gets one.
    fn give_up(&mut self, action: Action, why: &str) {
        if let Action::Reply { request, .. } = action
            && let Some(asker) = self.replies.remove(&request)
        {
            let _ = asker.send(Reply::Refused(Refusal::ReadOnly(why.to_owned())));
        }
    }
}
