//! Dials: each is tried once and answered once. The addresses of one peer race: see
//! [`super::race`].

use futures::FutureExt;
use libp2p::Multiaddr;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use shoal_protocol::model::NodeId;
use shoal_protocol::node::{Answerer, DialFailure, DialTarget, Input};
use tokio::time::Instant;

use super::counters::add;
use super::dials::{Dials, RaceKey};
use super::names;
use super::race::{MAX_ADDRESSES, Race};
use super::task::Task;
use super::transport::outcome_of;
use super::types::{DialOutcome, DialRequester, TaskResult};

/// Requesters of one dial. Further streams fail with "no link".
const MAX_REQUESTERS: usize = 256;

impl Task {
    pub(super) async fn on_dial(
        &mut self,
        requester: DialRequester,
        addresses: Vec<String>,
    ) -> TaskResult {
        add(&self.counters.dials, 1);
        let parsed = addresses.iter().filter_map(|address| names::parse(address));
        let parsed: Vec<_> = parsed.take(MAX_ADDRESSES).collect();
        if parsed.is_empty() {
            let why = format!("`{}` is no address that can be dialled", addresses.join(", "));
            return self.dial_failed(requester, DialFailure::Stranger(why)).await;
        }
        let key = requester.key();
        if let Some(node) = key.node()
            && names::peer_id(&node).is_none()
        {
            let why = format!("{node} is no key that a node can have");
            return self.dial_failed(requester, DialFailure::Stranger(why)).await;
        }
        let Dials { races, last_addresses, .. } = &mut self.dials;
        let race = races.entry(key.clone()).or_insert_with(|| Race::new(key.node()));
        race.add(&parsed, last_addresses);
        race.is_for_core |= matches!(requester, DialRequester::Core(_));
        // The core expects one outcome, even if it named further addresses meanwhile.
        let is_duplicate = |other: &DialRequester| match (other, &requester) {
            (DialRequester::Core(one), DialRequester::Core(this)) => one == this,
            _ => false,
        };
        if race.requesters.len() < MAX_REQUESTERS && !race.requesters.iter().any(is_duplicate) {
            race.requesters.push(requester);
        }
        self.advance_race(key).await
    }

    /// Starts the dials that are due, and reports a verdict.
    pub(super) async fn advance_race(&mut self, key: RaceKey) -> TaskResult {
        loop {
            let now = Instant::now();
            let Some(race) = self.dials.races.get_mut(&key) else { return Ok(()) };
            if let Some(address) = race.start_next(now) {
                self.dial_one(&key, address).await?;
                continue;
            }
            let verdict = if race.is_reported { None } else { race.verdict(now) };
            if let Some(how) = verdict {
                race.is_reported = true;
                for requester in std::mem::take(&mut race.requesters) {
                    self.dial_failed(requester, how.clone()).await?;
                }
                continue;
            }
            if race.is_over() {
                self.dials.races.remove(&key);
            } else if let Some(at) = race.next_wake(now) {
                self.dials.wake_ups.push(tokio::time::sleep_until(at).map(move |()| key).boxed());
            }
            return Ok(());
        }
    }

    async fn dial_one(&mut self, key: &RaceKey, address: Multiaddr) -> TaskResult {
        let options = match key.node().and_then(|node| names::peer_id(&node)) {
            Some(peer) => DialOpts::peer_id(peer)
                .condition(PeerCondition::Always)
                .addresses(vec![address.clone()])
                .allocate_new_port()
                .build(),
            None => {
                DialOpts::unknown_peer_id().address(address.clone()).allocate_new_port().build()
            }
        };
        let id = options.connection_id();
        let guard = self.dials.canceller.next_dial();
        match self.swarm.dial(options) {
            Ok(()) => {
                if let Some(race) = self.dials.races.get_mut(key) {
                    race.hold(&address, guard);
                }
                self.dials.by_connection.insert(id, (key.clone(), address));
                Ok(())
            }
            Err(error) => self.on_outcome(key, &address, outcome_of(&error)).await,
        }
    }

    pub(super) async fn on_dial_error(
        &mut self,
        connection: ConnectionId,
        error: &DialError,
    ) -> TaskResult {
        let Some((key, address)) = self.dials.by_connection.remove(&connection) else {
            return Ok(());
        };
        self.on_outcome(&key, &address, outcome_of(error)).await?;
        self.advance_race(key).await
    }

    /// Notes the outcome of one address. The core gets each outcome that proves something about the
    /// node.
    async fn on_outcome(
        &mut self,
        key: &RaceKey,
        address: &Multiaddr,
        outcome: DialOutcome,
    ) -> TaskResult {
        let Some(race) = self.dials.races.get_mut(key) else { return Ok(()) };
        tracing::debug!(address = %names::show(address), ?outcome, "a dial ended without a link");
        race.ended(address, outcome.clone(), Instant::now());
        let is_for_core = race.is_for_core;
        let Some(node) = key.node() else { return Ok(()) };
        let by = match outcome {
            DialOutcome::Refused => Answerer::Nobody,
            DialOutcome::Stranger(_) => Answerer::Stranger,
            DialOutcome::OtherNode(other) => {
                if let Some(socket) = names::socket(address) {
                    self.dials.last_addresses.forget(&node, &socket);
                }
                Answerer::Node(other)
            }
            DialOutcome::Closed
            | DialOutcome::Silent
            | DialOutcome::Unreachable
            | DialOutcome::ThisNode => return Ok(()),
        };
        // The address of another node is useful, even if the core did not ask for the dial.
        if !is_for_core && !matches!(by, Answerer::Node(_)) {
            return Ok(());
        }
        self.tell(Input::Answered { node, address: record_form(address), by }).await
    }

    pub(super) async fn dial_failed(
        &mut self,
        requester: DialRequester,
        how: DialFailure,
    ) -> TaskResult {
        add(&self.counters.dials_failed, 1);
        match requester {
            DialRequester::Core(target) => {
                if let (DialTarget::Node(node), Some(mdns)) = (&target, &self.dials.mdns) {
                    mdns.look_for(*node);
                }
                self.tell(Input::DialFailed { target, how }).await
            }
            DialRequester::Stream(..) => Ok(()),
        }
    }

    /// Answers a dial of a peer that was already linked: the requester wanted that link.
    pub(super) async fn dial_led_to_link(
        &mut self,
        requester: DialRequester,
        node: NodeId,
    ) -> TaskResult {
        match requester {
            DialRequester::Core(_) => self.tell(Input::LinkUp { peer: node, dialled: true }).await,
            DialRequester::Stream(_, linked) => {
                // The caller may have given up.
                let _ = linked.send(());
                Ok(())
            }
        }
    }
}

/// The address as records write it: without the peer's id.
fn record_form(address: &Multiaddr) -> String {
    names::socket(address)
        .map_or_else(|| address.to_string(), |socket| names::multiaddr(&socket).to_string())
}
