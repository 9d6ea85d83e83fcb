//! Dials: each is tried once, and answered once.

use libp2p::Multiaddr;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use shoal_protocol::model::NodeId;
use shoal_protocol::node::{DialFailure, DialTarget, Input};
use tokio::sync::oneshot;

use super::swarm::{Done, Task};
use super::transport::{Failed, judge};
use super::{add, names};

/// Who wanted a dial, and gets its outcome.
pub(super) enum Asker {
    /// The core: as an input.
    Core(DialTarget),
    /// Somebody who needs a stream to a node that there is no link to: a word when there is one, else the sender is dropped.
    Stream(NodeId, oneshot::Sender<()>),
}

impl Asker {
    /// Whom to meet; none when anybody of the cluster will do.
    fn node(&self) -> Option<&NodeId> {
        match self {
            Asker::Core(DialTarget::Node(node)) | Asker::Stream(node, _) => Some(node),
            Asker::Core(DialTarget::Address(_)) => None,
        }
    }
}

/// A dial under way.
pub(super) struct Dial {
    pub asker: Asker,
    remaining: Vec<Multiaddr>,
    /// Who was met instead, at addresses that are no longer tried.
    stranger: Option<String>,
}

impl Task {
    pub(super) async fn on_dial(&mut self, asker: Asker, addresses: Vec<String>) -> Done {
        add(&self.counters.dials, 1);
        let remaining: Vec<_> = addresses.iter().filter_map(|address| names::parse(address)).collect();
        if remaining.is_empty() {
            let why = format!("`{}` is no address that can be dialled", addresses.join(", "));
            return self.dial_failed(asker, DialFailure::Stranger(why)).await;
        }
        self.dial(Dial { asker, remaining, stranger: None }).await
    }

    async fn dial(&mut self, dial: Dial) -> Done {
        let addresses = dial.remaining.clone();
        let options = match dial.asker.node() {
            Some(node) => match names::peer_id(node) {
                Some(peer) => DialOpts::peer_id(peer)
                    .condition(PeerCondition::Always)
                    .addresses(addresses)
                    .allocate_new_port()
                    .build(),
                None => {
                    let why = DialFailure::Stranger(format!("{node} is no key that a node can have"));
                    return self.dial_failed(dial.asker, why).await;
                }
            },
            None => match addresses.into_iter().next() {
                Some(address) => DialOpts::unknown_peer_id().address(address).allocate_new_port().build(),
                None => return self.dial_failed(dial.asker, DialFailure::TimedOut).await,
            },
        };
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => {
                self.dials.insert(id, dial);
                Ok(())
            }
            Err(error) => self.dial_failed(dial.asker, failure(judge(&error))).await,
        }
    }

    pub(super) async fn on_dial_error(&mut self, connection: ConnectionId, error: &DialError) -> Done {
        let Some(mut dial) = self.dials.remove(&connection) else { return Ok(()) };
        let failed = judge(error);
        if let Failed::Elsewhere(address, who) = &failed {
            dial.remaining.retain(|other| !same(other, address));
            if !dial.remaining.is_empty() {
                dial.stranger = Some(who.clone());
                return self.dial(dial).await;
            }
        }
        let how = match (failure(failed), dial.stranger) {
            // Of those who answered in its place the first is as good as the last.
            (DialFailure::Stranger(_), Some(who)) => DialFailure::Stranger(who),
            (how, _) => how,
        };
        self.dial_failed(dial.asker, how).await
    }

    pub(super) async fn dial_failed(&mut self, asker: Asker, how: DialFailure) -> Done {
        add(&self.counters.dials_failed, 1);
        match asker {
            Asker::Core(target) => self.tell(Input::DialFailed { target, how }).await,
            Asker::Stream(..) => Ok(()),
        }
    }

    /// The dial led to a peer that there was a link to already. That is what its asker wanted to know.
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

fn failure(failed: Failed) -> DialFailure {
    match failed {
        Failed::All(failure) => failure,
        Failed::Elsewhere(address, who) => DialFailure::Stranger(format!("{who}, at {}", names::show(&address))),
    }
}

/// Whether both name the same place; one may have the peer's name behind it.
fn same(one: &Multiaddr, other: &Multiaddr) -> bool {
    names::socket(one) == names::socket(other)
}
