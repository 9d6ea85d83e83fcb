//! Dials: each is tried once, and answered once. The addresses of one peer race: see
//! [`super::race`].

use std::collections::BTreeMap;

use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use libp2p::Multiaddr;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use shoal_protocol::model::NodeId;
use shoal_protocol::node::{Answerer, DialFailure, DialTarget, Input};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::giving_up::GivenUp;
use super::mdns::Mdns;
use super::race::{MOST_ADDRESSES, Race, Said};
use super::swarm::{Done, Task};
use super::transport::judge;
use super::ways::{Way, Ways};
use super::{add, names};

/// Streams that wait for one dial; those above are told that there is no link.
const MOST_ASKERS: usize = 256;

/// Who wanted a dial, and gets its outcome.
pub(super) enum Asker {
    /// The core: as an input.
    Core(DialTarget),
    /// Somebody who needs a stream to a node that there is no link to: a word when there is one,
    /// else the sender is dropped.
    Stream(NodeId, oneshot::Sender<()>),
}

impl Asker {
    fn whom(&self) -> Whom {
        match self {
            Asker::Core(DialTarget::Node(node)) | Asker::Stream(node, _) => Whom::Node(*node),
            Asker::Core(DialTarget::Address(address)) => Whom::Anybody(address.clone()),
        }
    }
}

/// Whom a dial is to meet.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Whom {
    Node(NodeId),
    /// Whoever of the cluster answers for this seed.
    Anybody(String),
}

impl Whom {
    fn node(&self) -> Option<NodeId> {
        match self {
            Whom::Node(node) => Some(*node),
            Whom::Anybody(_) => None,
        }
    }
}

/// All dials under way, and what is remembered of where they led.
pub(super) struct Dials {
    /// One for each peer or seed. The core dials few at a time, and whoever wants a stream waits
    /// for the dial that is under way.
    races: BTreeMap<Whom, Race>,
    /// The dials that these consist of, one for each address.
    by_connection: BTreeMap<ConnectionId, (Whom, Multiaddr)>,
    ways: Ways,
    given_up: GivenUp,
    /// Asked for members that cannot be dialled.
    mdns: Option<Mdns>,
    /// When a race is looked at again.
    pub(super) wakes: FuturesUnordered<BoxFuture<'static, Whom>>,
}

impl Dials {
    pub(super) fn new(given_up: GivenUp, mdns: Option<Mdns>) -> Dials {
        Dials {
            races: BTreeMap::new(),
            by_connection: BTreeMap::new(),
            ways: Ways::default(),
            given_up,
            mdns,
            wakes: FuturesUnordered::new(),
        }
    }

    /// A connection is there: those who wait for its dial, if this node made it. The dials of the
    /// other addresses are given up.
    pub(super) fn won(&mut self, connection: ConnectionId) -> Vec<Asker> {
        let race =
            self.by_connection.remove(&connection).and_then(|(whom, _)| self.races.remove(&whom));
        race.map(|race| race.askers).unwrap_or_default()
    }

    /// There is a link with a node, this way: its address is proven, and nobody needs to dial the
    /// node. Gives back those who wanted it dialled.
    pub(super) fn linked(&mut self, node: NodeId, way: Option<Way>) -> Vec<Asker> {
        if let Some(way) = way {
            self.ways.carried(node, way);
        }
        self.races.remove(&Whom::Node(node)).map(|race| race.askers).unwrap_or_default()
    }
}

impl Task {
    pub(super) async fn on_dial(&mut self, asker: Asker, addresses: Vec<String>) -> Done {
        add(&self.counters.dials, 1);
        let parsed = addresses.iter().filter_map(|address| names::parse(address));
        let parsed: Vec<_> = parsed.take(MOST_ADDRESSES).collect();
        if parsed.is_empty() {
            let why = format!("`{}` is no address that can be dialled", addresses.join(", "));
            return self.dial_failed(asker, DialFailure::Stranger(why)).await;
        }
        let whom = asker.whom();
        if let Some(node) = whom.node()
            && names::peer_id(&node).is_none()
        {
            let why = format!("{node} is no key that a node can have");
            return self.dial_failed(asker, DialFailure::Stranger(why)).await;
        }
        let Dials { races, ways, .. } = &mut self.dials;
        let race = races.entry(whom.clone()).or_insert_with(|| Race::new(whom.node()));
        race.enter(&parsed, ways);
        race.is_the_cores |= matches!(asker, Asker::Core(_));
        // The core waits for one outcome, however many addresses came meanwhile.
        let is_asked = |other: &Asker| matches!((other, &asker), (Asker::Core(one), Asker::Core(this)) if one == this);
        if race.askers.len() < MOST_ASKERS && !race.askers.iter().any(is_asked) {
            race.askers.push(asker);
        }
        self.race(whom).await
    }

    /// Starts what is due, and tells what may be concluded.
    pub(super) async fn race(&mut self, whom: Whom) -> Done {
        loop {
            let now = Instant::now();
            let Some(race) = self.dials.races.get_mut(&whom) else { return Ok(()) };
            if let Some(address) = race.start_next(now) {
                self.dial_one(&whom, address).await?;
                continue;
            }
            let verdict = if race.is_told { None } else { race.verdict(now) };
            if let Some(how) = verdict {
                race.is_told = true;
                for asker in std::mem::take(&mut race.askers) {
                    self.dial_failed(asker, how.clone()).await?;
                }
                continue;
            }
            if race.is_over() {
                self.dials.races.remove(&whom);
            } else if let Some(at) = race.wake_at(now) {
                self.dials.wakes.push(tokio::time::sleep_until(at).map(move |()| whom).boxed());
            }
            return Ok(());
        }
    }

    async fn dial_one(&mut self, whom: &Whom, address: Multiaddr) -> Done {
        let options = match whom.node().and_then(|node| names::peer_id(&node)) {
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
        let guard = self.dials.given_up.next_dial();
        match self.swarm.dial(options) {
            Ok(()) => {
                if let Some(race) = self.dials.races.get_mut(whom) {
                    race.hold(&address, guard);
                }
                self.dials.by_connection.insert(id, (whom.clone(), address));
                Ok(())
            }
            Err(error) => self.said(whom, &address, judge(&error)).await,
        }
    }

    pub(super) async fn on_dial_error(
        &mut self,
        connection: ConnectionId,
        error: &DialError,
    ) -> Done {
        let Some((whom, address)) = self.dials.by_connection.remove(&connection) else {
            return Ok(());
        };
        self.said(&whom, &address, judge(error)).await?;
        self.race(whom).await
    }

    /// One address was answered, or not. The core hears of each that says something about the node.
    async fn said(&mut self, whom: &Whom, address: &Multiaddr, said: Said) -> Done {
        let Some(race) = self.dials.races.get_mut(whom) else { return Ok(()) };
        tracing::debug!(address = %names::show(address), ?said, "a dial ended without a link");
        race.ended(address, said.clone(), Instant::now());
        let is_the_cores = race.is_the_cores;
        let Some(node) = whom.node() else { return Ok(()) };
        let by = match said {
            Said::Refused => Answerer::Nobody,
            Said::Stranger(_) => Answerer::Stranger,
            Said::Node(other) => {
                if let Some(socket) = names::socket(address) {
                    self.dials.ways.leads_elsewhere(&node, &socket);
                }
                Answerer::Node(other)
            }
            Said::Closed | Said::Nothing | Said::Unreachable | Said::Itself => return Ok(()),
        };
        // Where another node is by now is worth knowing, whoever wanted the dial.
        if !is_the_cores && !matches!(by, Answerer::Node(_)) {
            return Ok(());
        }
        self.tell(Input::Answered { node, address: plain(address), by }).await
    }

    pub(super) async fn dial_failed(&mut self, asker: Asker, how: DialFailure) -> Done {
        add(&self.counters.dials_failed, 1);
        match asker {
            Asker::Core(target) => {
                if let (DialTarget::Node(node), Some(mdns)) = (&target, &self.dials.mdns) {
                    mdns.look_for(*node);
                }
                self.tell(Input::DialFailed { target, how }).await
            }
            Asker::Stream(..) => Ok(()),
        }
    }

    /// The dial led to a peer that there was a link to already. That is what its asker wanted to
    /// know.
    pub(super) async fn dial_led_to_link(&mut self, asker: Asker, node: NodeId) -> Done {
        match asker {
            Asker::Core(_) => self.tell(Input::LinkUp { peer: node }).await,
            Asker::Stream(_, linked) => {
                // The asker may have given up.
                let _ = linked.send(());
                Ok(())
            }
        }
    }
}

/// As records write it: without the peer's name behind it.
fn plain(address: &Multiaddr) -> String {
    names::socket(address)
        .map_or_else(|| address.to_string(), |socket| names::multiaddr(&socket).to_string())
}
