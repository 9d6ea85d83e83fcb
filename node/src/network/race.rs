//! One peer's addresses, dialled in order with a head start each (RFC 8305), and what may be
//! concluded when none leads to it. Plain bookkeeping: the swarm's task dials.
//!
//! **"Refused" is evidence of death for the core, so it says what a refusal proves:**
//!
//! 1. A refusal at the address that carried the last link is the verdict, at once. The address was
//!    the peer's own a moment ago, and its kernel says that no process listens any more. What the
//!    other addresses say cannot make that less true, so addresses that time out delay nothing.
//!    They are still dialled: a device that moved is found at one of them, and a link outweighs a
//!    verdict.
//! 2. Where such an address is known and does not refuse, refusals at the others prove nothing: the
//!    way that worked is silent, which is what a cut looks like.
//! 3. Where none is known, nobody has seen the peer at any of them. A refusal counts only if
//!    nothing speaks against it: every other address has failed or been silent for [`SILENT`], and
//!    at none of them somebody else was met, which would show that what is known of its addresses
//!    is old.
//! 4. A refusal of this device's own kernel, at an address that was never the peer's, proves
//!    nothing: container bridges have the same address everywhere. It counts where all are of this
//!    device.
//! 5. An address that cannot be reached from here, or that this node itself answers at, says
//!    nothing about the peer; the next one starts at once.
//! 6. A connection that is closed before anybody has proven who they are is what a process looks
//!    like that is just ending: its kernel takes connections until the port is closed. The address
//!    is dialled again at once, which tells; only a few times, since whoever has no room closes,
//!    too.
//!
//! Another node that answers shows that the address is not the peer's any more; see
//! [`super::ways`].

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use libp2p::Multiaddr;
use shoal_protocol::model::NodeId;
use shoal_protocol::node::DialFailure;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use super::dialing::Asker;
use super::names;
use super::ways::Ways;

/// An address has so long before the next one starts beside it. More than a handshake in one's own
/// network, too short for a person to notice.
const HEAD_START: Duration = Duration::from_millis(100);
/// An address that has said nothing for so long speaks neither for nor against a refusal elsewhere.
const SILENT: Duration = Duration::from_millis(500);
/// How often an address is dialled again that was closed in our face, and the pause before each
/// time but the first.
const AGAIN: u32 = 3;
const AGAIN_PAUSE: Duration = Duration::from_millis(10);
/// Addresses of one dial: all that a record and a sighting may name.
pub(super) const MOST_ADDRESSES: usize = 32;

/// What one address said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// The kernel there answered that nobody listens.
    Refused,
    /// The connection was made, or nearly, and closed before anybody proved who they are.
    Closed,
    /// Nothing, or not enough, in time.
    Nothing,
    /// There is no way there from here, or no room to try: it says nothing about the peer.
    Unreachable,
    /// This node itself answers there.
    Itself,
    /// Another node of the cluster answers there.
    Node(NodeId),
    /// Somebody answers there who is not of this cluster: in words.
    Stranger(String),
}

/// A dial under way.
pub(super) struct Race {
    /// Who waits for its outcome.
    pub askers: Vec<Asker>,
    /// The core asked for it, and hears what single addresses say.
    pub is_the_cores: bool,
    /// Whom to meet; none when anybody of the cluster will do.
    node: Option<NodeId>,
    tries: Vec<Try>,
    /// The verdict was given. What is left may still lead to a link.
    pub is_told: bool,
}

struct Try {
    address: Multiaddr,
    /// It carried the last link.
    is_proven: bool,
    /// It is an address of this device.
    is_own: bool,
    /// How often it was closed in our face.
    closed: u32,
    state: State,
}

enum State {
    /// Not before this moment, if there is one.
    Waiting(Option<Instant>),
    /// Dropping the guard gives the dial up.
    Dialling(Instant, Option<DropGuard>),
    Ended(Said),
}

impl Race {
    pub(super) fn new(node: Option<NodeId>) -> Race {
        Race { askers: Vec::new(), is_the_cores: false, node, tries: Vec::new(), is_told: false }
    }

    /// Dials these (again), the proven one first, the rest in their order. Dials under way stay.
    pub(super) fn enter(&mut self, addresses: &[Multiaddr], ways: &Ways) {
        let was_told = std::mem::take(&mut self.is_told);
        self.tries.retain(|tried| !was_told || matches!(tried.state, State::Dialling(..)));
        for address in addresses {
            if self.tries.len() >= MOST_ADDRESSES
                || self.tries.iter().any(|tried| same(&tried.address, address))
            {
                continue;
            }
            let socket = names::socket(address);
            let is_proven =
                socket.zip(self.node).is_some_and(|(socket, node)| ways.leads_to(&node, &socket));
            let is_own = !is_proven && socket.is_some_and(is_of_this_device);
            self.tries.push(Try {
                address: address.clone(),
                is_proven,
                is_own,
                closed: 0,
                state: State::Waiting(None),
            });
        }
        self.tries.sort_by_key(|tried| !tried.is_proven);
    }

    /// The next address whose turn it is: call until there is none. It waits for those before it,
    /// and for none behind it.
    pub(super) fn start_next(&mut self, now: Instant) -> Option<Multiaddr> {
        for tried in &mut self.tries {
            match tried.state {
                State::Waiting(at) if at.is_none_or(|at| at <= now) => {
                    tried.state = State::Dialling(now, None);
                    return Some(tried.address.clone());
                }
                State::Dialling(since, _) if !self.is_told && now < since + HEAD_START => {
                    return None;
                }
                State::Waiting(_) | State::Dialling(..) | State::Ended(_) => {}
            }
        }
        None
    }

    /// The dial is on its way until this is dropped.
    pub(super) fn hold(&mut self, address: &Multiaddr, guard: DropGuard) {
        if let Some(Try { state: State::Dialling(_, held), .. }) = self.tried(address) {
            *held = Some(guard);
        }
    }

    /// A dial ended without a link.
    pub(super) fn ended(&mut self, address: &Multiaddr, said: Said, now: Instant) {
        let Some(tried) = self.tried(address) else { return };
        tried.state = if said == Said::Closed && tried.closed < AGAIN {
            let pause = if tried.closed == 0 { Duration::ZERO } else { AGAIN_PAUSE };
            tried.closed += 1;
            State::Waiting(Some(now + pause))
        } else {
            State::Ended(said)
        };
    }

    fn tried(&mut self, address: &Multiaddr) -> Option<&mut Try> {
        self.tries.iter_mut().find(|tried| same(&tried.address, address))
    }

    /// When to look again, should nothing happen before.
    pub(super) fn wake_at(&self, now: Instant) -> Option<Instant> {
        let at = self.tries.iter().flat_map(|tried| match tried.state {
            State::Dialling(since, _) if !self.is_told => {
                [Some(since + HEAD_START), Some(since + SILENT)]
            }
            State::Waiting(at) => [at, None],
            State::Dialling(..) | State::Ended(_) => [None, None],
        });
        at.flatten().filter(|at| *at > now).min()
    }

    /// Whether nothing is left that could lead to a link.
    pub(super) fn is_over(&self) -> bool {
        self.tries.iter().all(|tried| matches!(tried.state, State::Ended(_)))
    }

    /// What may be concluded by now: the rule at the head of this file.
    pub(super) fn verdict(&self, now: Instant) -> Option<DialFailure> {
        let over = self.is_over();
        let met = self.met();
        if self.node.is_none() {
            // A seed: there is nobody yet whose death could be concluded.
            let refused = self.tries.iter().any(|tried| tried.refused());
            let other = if refused { DialFailure::Refused } else { DialFailure::TimedOut };
            return over.then(|| met.map_or(other, DialFailure::Stranger));
        }
        if self.tries.iter().any(|tried| tried.is_proven && tried.refused()) {
            return Some(DialFailure::Refused);
        }
        let speaks = |tried: &Try| match &tried.state {
            State::Waiting(_) => true,
            State::Dialling(since, _) => now < *since + SILENT,
            State::Ended(said) => matches!(said, Said::Node(_) | Said::Stranger(_)),
        };
        let all_own = self.tries.iter().all(|tried| tried.is_own);
        let refused = self.tries.iter().any(|tried| tried.refused() && (all_own || !tried.is_own));
        let none_proven = !self.tries.iter().any(|tried| tried.is_proven);
        if refused && none_proven && !self.tries.iter().any(speaks) {
            return Some(DialFailure::Refused);
        }
        over.then(|| met.map_or(DialFailure::TimedOut, DialFailure::Stranger))
    }

    /// Who was met instead: others before this node itself, which says least.
    fn met(&self) -> Option<String> {
        let told = |tried: &Try| match &tried.state {
            State::Ended(Said::Node(node)) => Some(format!(
                "node {} answers there, at {}",
                node.short(),
                names::show(&tried.address)
            )),
            State::Ended(Said::Stranger(who)) => Some(who.clone()),
            _ => None,
        };
        let itself = |tried: &Try| match &tried.state {
            State::Ended(Said::Itself) => {
                Some(format!("this node itself answers there, at {}", names::show(&tried.address)))
            }
            _ => None,
        };
        self.tries.iter().find_map(told).or_else(|| self.tries.iter().find_map(itself))
    }
}

impl Try {
    fn refused(&self) -> bool {
        matches!(self.state, State::Ended(Said::Refused))
    }
}

/// Whether both name the same place; one may have the peer's name behind it.
fn same(one: &Multiaddr, other: &Multiaddr) -> bool {
    match (names::socket(one), names::socket(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// Whether this device has the address: it can be bound, which costs two system calls and no
/// packet.
fn is_of_this_device(address: SocketAddr) -> bool {
    UdpSocket::bind(SocketAddr::new(address.ip(), 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::ways::Way;
    use super::*;

    const NODE: NodeId = NodeId([1; 32]);
    const OTHER: NodeId = NodeId([2; 32]);
    /// Nobody's: they are for documentation, so no device that runs this has them.
    const LAN: &str = "192.0.2.1:7700";
    const BRIDGE: &str = "198.51.100.1:7700";
    const FAR: &str = "203.0.113.1:7700";

    fn at(text: &str) -> Multiaddr {
        names::parse(text).unwrap()
    }

    fn race(addresses: &[&str], proven: Option<&str>) -> Race {
        let mut ways = Ways::default();
        if let Some(proven) = proven {
            ways.carried(NODE, Way::Dialled(proven.parse().unwrap()));
        }
        let mut race = Race::new(Some(NODE));
        race.enter(&addresses.iter().map(|text| at(text)).collect::<Vec<_>>(), &ways);
        race
    }

    /// All that are started at this moment.
    fn started(race: &mut Race, now: Instant) -> Vec<Multiaddr> {
        std::iter::from_fn(|| race.start_next(now)).collect()
    }

    #[test]
    fn addresses_start_in_order_the_proven_one_first() {
        let now = Instant::now();
        let mut race = race(&[BRIDGE, LAN, FAR], Some(LAN));
        assert_eq!(started(&mut race, now), [at(LAN)]);
        assert_eq!(race.wake_at(now), Some(now + HEAD_START));
        assert_eq!(
            started(&mut race, now + HEAD_START),
            [at(BRIDGE)],
            "the first has said nothing"
        );
        race.ended(&at(BRIDGE), Said::Unreachable, now);
        assert_eq!(
            started(&mut race, now + HEAD_START),
            [at(FAR)],
            "one that failed delays nothing"
        );
    }

    #[test]
    fn refusal_of_the_proven_address_is_the_verdict_at_once() {
        let now = Instant::now();
        let mut race = race(&[BRIDGE, FAR, LAN], Some(LAN));
        started(&mut race, now);
        race.ended(&at(LAN), Said::Refused, now);
        assert_eq!(race.verdict(now), Some(DialFailure::Refused));
        // The device may have moved: the others are tried all the same, without head starts now.
        race.is_told = true;
        assert_eq!(started(&mut race, now), [at(BRIDGE), at(FAR)]);
        assert!(!race.is_over());
    }

    #[test]
    fn refusals_elsewhere_prove_nothing_while_the_proven_is_silent() {
        let now = Instant::now();
        let mut race = race(&[BRIDGE, LAN], Some(LAN));
        started(&mut race, now);
        started(&mut race, now + HEAD_START);
        race.ended(&at(BRIDGE), Said::Refused, now);
        assert_eq!(race.verdict(now + SILENT * 2), None);
        race.ended(&at(LAN), Said::Nothing, now);
        assert_eq!(race.verdict(now), Some(DialFailure::TimedOut));
    }

    #[test]
    fn unproven_refusal_counts_once_nothing_speaks_against_it() {
        let now = Instant::now();
        let mut silent = race(&[BRIDGE, LAN], None);
        started(&mut silent, now);
        started(&mut silent, now + HEAD_START);
        silent.ended(&at(LAN), Said::Refused, now);
        assert_eq!(silent.verdict(now + HEAD_START), None, "the other may yet answer");
        assert_eq!(silent.wake_at(now + HEAD_START), Some(now + SILENT));
        assert_eq!(
            silent.verdict(now + SILENT),
            Some(DialFailure::Refused),
            "no wait for its time-out"
        );
        for said in [Said::Node(OTHER), Said::Stranger("a printer".into())] {
            let mut met = race(&[BRIDGE, LAN], None);
            started(&mut met, now);
            met.ended(&at(BRIDGE), said, now);
            started(&mut met, now);
            met.ended(&at(LAN), Said::Refused, now);
            assert!(
                matches!(met.verdict(now), Some(DialFailure::Stranger(_))),
                "its addresses are old"
            );
        }
    }

    #[test]
    fn unreachable_addresses_say_nothing_about_the_peer() {
        let now = Instant::now();
        let mut race = race(&[FAR, LAN], None);
        started(&mut race, now);
        race.ended(&at(FAR), Said::Unreachable, now);
        started(&mut race, now);
        race.ended(&at(LAN), Said::Refused, now);
        assert_eq!(race.verdict(now), Some(DialFailure::Refused));
    }

    /// A container bridge has the same address on every device: this device's own kernel refuses.
    #[test]
    fn refusal_by_this_device_itself_proves_nothing() {
        let now = Instant::now();
        let mut bridged = race(&["127.0.0.1:9", LAN], None);
        started(&mut bridged, now);
        bridged.ended(&at("127.0.0.1:9"), Said::Refused, now);
        started(&mut bridged, now);
        bridged.ended(&at(LAN), Said::Nothing, now);
        assert_eq!(bridged.verdict(now), Some(DialFailure::TimedOut));
        let mut alone = race(&["127.0.0.1:9"], None);
        started(&mut alone, now);
        alone.ended(&at("127.0.0.1:9"), Said::Refused, now);
        assert_eq!(alone.verdict(now), Some(DialFailure::Refused), "a whole cluster on one device");
    }

    /// A process that ends closes its port last, perhaps: connections are still taken, and then
    /// reset.
    #[test]
    fn an_address_that_closes_in_our_face_is_dialled_again_at_once() {
        let now = Instant::now();
        let mut race = race(&[BRIDGE, LAN], Some(LAN));
        assert_eq!(started(&mut race, now), [at(LAN)]);
        race.ended(&at(LAN), Said::Closed, now);
        assert_eq!(started(&mut race, now), [at(LAN)], "before the other, which may hang for long");
        race.ended(&at(LAN), Said::Refused, now);
        assert_eq!(race.verdict(now), Some(DialFailure::Refused));
    }

    #[test]
    fn an_address_that_goes_on_closing_is_left_for_the_next() {
        let now = Instant::now();
        let mut race = race(&[LAN, BRIDGE], None);
        let mut at_now = now;
        for time in 0..=AGAIN {
            if time > 1 {
                started(&mut race, at_now); // the other one, meanwhile
                at_now = race.wake_at(at_now).unwrap();
            }
            assert!(started(&mut race, at_now).contains(&at(LAN)), "time {time}");
            race.ended(&at(LAN), Said::Closed, at_now);
        }
        assert!(at_now < now + HEAD_START);
        race.ended(&at(BRIDGE), Said::Nothing, at_now);
        assert_eq!(race.verdict(at_now), Some(DialFailure::TimedOut));
    }

    /// Two ask for the same peer, one a moment after the other: the second waits for no head start
    /// of addresses behind.
    #[test]
    fn the_proven_address_waits_for_none_that_is_behind_it() {
        let now = Instant::now();
        let mut ways = Ways::default();
        ways.carried(NODE, Way::Dialled(LAN.parse().unwrap()));
        let mut race = race(&[BRIDGE, LAN], Some(LAN));
        started(&mut race, now);
        race.ended(&at(LAN), Said::Refused, now);
        race.is_told = true;
        assert_eq!(started(&mut race, now), [at(BRIDGE)]);
        race.enter(&[at(BRIDGE), at(LAN)], &ways);
        assert_eq!(started(&mut race, now), [at(LAN)]);
    }

    #[test]
    fn a_race_entered_again_keeps_the_dials_under_way() {
        let now = Instant::now();
        let mut race = race(&[LAN, BRIDGE], Some(LAN));
        started(&mut race, now);
        race.ended(&at(LAN), Said::Refused, now);
        race.is_told = true;
        started(&mut race, now);
        race.enter(&[at(LAN), at(BRIDGE)], &Ways::default());
        assert_eq!(started(&mut race, now + SILENT), [at(LAN)], "the bridge is being dialled");
        assert_eq!(race.verdict(now), None, "the old refusal is not told twice");
    }
}
