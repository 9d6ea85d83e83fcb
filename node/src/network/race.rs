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
//!    nothing speaks against it: every other address has failed or been silent for [`SILENT_AFTER`], and
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
//! [`super::last_addresses`].

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use libp2p::Multiaddr;
use shoal_protocol::model::NodeId;
use shoal_protocol::node::DialFailure;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use super::last_addresses::LastAddresses;
use super::names;
use super::types::{DialOutcome, DialRequester};

/// An address has so long before the next one starts beside it. More than a handshake in one's own
/// network, too short for a person to notice.
const HEAD_START: Duration = Duration::from_millis(100);
/// An address that has said nothing for so long speaks neither for nor against a refusal elsewhere.
const SILENT_AFTER: Duration = Duration::from_millis(500);
/// How often an address is dialled again that was closed in our face, and the pause before each
/// time but the first.
const CLOSED_RETRIES: u32 = 3;
const CLOSED_RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Addresses of one dial: all that a record and a sighting may name.
pub(super) const MAX_ADDRESSES: usize = 32;

/// A dial under way.
pub(super) struct Race {
    /// Who waits for its outcome.
    pub requesters: Vec<DialRequester>,
    /// The core asked for it, and hears what single addresses say.
    pub is_for_core: bool,
    /// Whom to meet; none when anybody of the cluster will do.
    node: Option<NodeId>,
    attempts: Vec<Attempt>,
    /// The verdict was given. What is left may still lead to a link.
    pub is_reported: bool,
}

struct Attempt {
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
    Ended(DialOutcome),
}

impl Race {
    pub(super) fn new(node: Option<NodeId>) -> Race {
        Race {
            requesters: Vec::new(),
            is_for_core: false,
            node,
            attempts: Vec::new(),
            is_reported: false,
        }
    }

    /// Dials these (again), the proven one first, the rest in their order. Dials under way stay.
    pub(super) fn add(&mut self, addresses: &[Multiaddr], last_addresses: &LastAddresses) {
        let was_reported = std::mem::take(&mut self.is_reported);
        self.attempts
            .retain(|attempt| !was_reported || matches!(attempt.state, State::Dialling(..)));
        for address in addresses {
            if self.attempts.len() >= MAX_ADDRESSES
                || self.attempts.iter().any(|attempt| is_same_address(&attempt.address, address))
            {
                continue;
            }
            let socket = names::socket(address);
            let is_proven = socket
                .zip(self.node)
                .is_some_and(|(socket, node)| last_addresses.is_last(&node, &socket));
            let is_own = !is_proven && socket.is_some_and(is_of_this_device);
            self.attempts.push(Attempt {
                address: address.clone(),
                is_proven,
                is_own,
                closed: 0,
                state: State::Waiting(None),
            });
        }
        self.attempts.sort_by_key(|attempt| !attempt.is_proven);
    }

    /// The next address whose turn it is: call until there is none. It waits for those before it,
    /// and for none behind it.
    pub(super) fn start_next(&mut self, now: Instant) -> Option<Multiaddr> {
        for attempt in &mut self.attempts {
            match attempt.state {
                State::Waiting(at) if at.is_none_or(|at| at <= now) => {
                    attempt.state = State::Dialling(now, None);
                    return Some(attempt.address.clone());
                }
                State::Dialling(since, _) if !self.is_reported && now < since + HEAD_START => {
                    return None;
                }
                State::Waiting(_) | State::Dialling(..) | State::Ended(_) => {}
            }
        }
        None
    }

    /// The dial is on its way until this is dropped.
    pub(super) fn hold(&mut self, address: &Multiaddr, guard: DropGuard) {
        if let Some(Attempt { state: State::Dialling(_, held), .. }) = self.attempt(address) {
            *held = Some(guard);
        }
    }

    /// A dial ended without a link.
    pub(super) fn ended(&mut self, address: &Multiaddr, outcome: DialOutcome, now: Instant) {
        let Some(attempt) = self.attempt(address) else { return };
        attempt.state = if outcome == DialOutcome::Closed && attempt.closed < CLOSED_RETRIES {
            let pause = if attempt.closed == 0 { Duration::ZERO } else { CLOSED_RETRY_PAUSE };
            attempt.closed += 1;
            State::Waiting(Some(now + pause))
        } else {
            State::Ended(outcome)
        };
    }

    fn attempt(&mut self, address: &Multiaddr) -> Option<&mut Attempt> {
        self.attempts.iter_mut().find(|attempt| is_same_address(&attempt.address, address))
    }

    /// When to look again, should nothing happen before.
    pub(super) fn next_wake(&self, now: Instant) -> Option<Instant> {
        let at = self.attempts.iter().flat_map(|attempt| match attempt.state {
            State::Dialling(since, _) if !self.is_reported => {
                [Some(since + HEAD_START), Some(since + SILENT_AFTER)]
            }
            State::Waiting(at) => [at, None],
            State::Dialling(..) | State::Ended(_) => [None, None],
        });
        at.flatten().filter(|at| *at > now).min()
    }

    /// Whether nothing is left that could lead to a link.
    pub(super) fn is_over(&self) -> bool {
        self.attempts.iter().all(|attempt| matches!(attempt.state, State::Ended(_)))
    }

    /// What may be concluded by now: the rule at the head of this file.
    pub(super) fn verdict(&self, now: Instant) -> Option<DialFailure> {
        let over = self.is_over();
        let stranger_met = self.stranger_met();
        if self.node.is_none() {
            // A seed: there is nobody yet whose death could be concluded.
            let refused = self.attempts.iter().any(|attempt| attempt.refused());
            let other = if refused { DialFailure::Refused } else { DialFailure::TimedOut };
            return over.then(|| stranger_met.map_or(other, DialFailure::Stranger));
        }
        if self.attempts.iter().any(|attempt| attempt.is_proven && attempt.refused()) {
            return Some(DialFailure::Refused);
        }
        let contradicts = |attempt: &Attempt| match &attempt.state {
            State::Waiting(_) => true,
            State::Dialling(since, _) => now < *since + SILENT_AFTER,
            State::Ended(outcome) => {
                matches!(outcome, DialOutcome::OtherNode(_) | DialOutcome::Stranger(_))
            }
        };
        let all_own = self.attempts.iter().all(|attempt| attempt.is_own);
        let refused =
            self.attempts.iter().any(|attempt| attempt.refused() && (all_own || !attempt.is_own));
        let none_proven = !self.attempts.iter().any(|attempt| attempt.is_proven);
        if refused && none_proven && !self.attempts.iter().any(contradicts) {
            return Some(DialFailure::Refused);
        }
        over.then(|| stranger_met.map_or(DialFailure::TimedOut, DialFailure::Stranger))
    }

    /// Who was met instead: others before this node itself, which says least.
    fn stranger_met(&self) -> Option<String> {
        let other = |attempt: &Attempt| match &attempt.state {
            State::Ended(DialOutcome::OtherNode(node)) => Some(format!(
                "node {} answers there, at {}",
                node.short(),
                names::show(&attempt.address)
            )),
            State::Ended(DialOutcome::Stranger(who)) => Some(who.clone()),
            _ => None,
        };
        let this_node = |attempt: &Attempt| match &attempt.state {
            State::Ended(DialOutcome::ThisNode) => Some(format!(
                "this node itself answers there, at {}",
                names::show(&attempt.address)
            )),
            _ => None,
        };
        self.attempts.iter().find_map(other).or_else(|| self.attempts.iter().find_map(this_node))
    }
}

impl Attempt {
    fn refused(&self) -> bool {
        matches!(self.state, State::Ended(DialOutcome::Refused))
    }
}

/// Whether both name the same place; one may have the peer's name behind it.
fn is_same_address(one: &Multiaddr, other: &Multiaddr) -> bool {
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
    use super::super::last_addresses::PeerAddress;
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
        let mut last_addresses = LastAddresses::default();
        if let Some(proven) = proven {
            last_addresses.record(NODE, PeerAddress::Dialled(proven.parse().unwrap()));
        }
        let mut race = Race::new(Some(NODE));
        race.add(&addresses.iter().map(|text| at(text)).collect::<Vec<_>>(), &last_addresses);
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
        assert_eq!(race.next_wake(now), Some(now + HEAD_START));
        assert_eq!(
            started(&mut race, now + HEAD_START),
            [at(BRIDGE)],
            "the first has said nothing"
        );
        race.ended(&at(BRIDGE), DialOutcome::Unreachable, now);
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
        race.ended(&at(LAN), DialOutcome::Refused, now);
        assert_eq!(race.verdict(now), Some(DialFailure::Refused));
        // The device may have moved: the others are tried all the same, without head starts now.
        race.is_reported = true;
        assert_eq!(started(&mut race, now), [at(BRIDGE), at(FAR)]);
        assert!(!race.is_over());
    }

    #[test]
    fn refusals_elsewhere_prove_nothing_while_the_proven_is_silent() {
        let now = Instant::now();
        let mut race = race(&[BRIDGE, LAN], Some(LAN));
        started(&mut race, now);
        started(&mut race, now + HEAD_START);
        race.ended(&at(BRIDGE), DialOutcome::Refused, now);
        assert_eq!(race.verdict(now + SILENT_AFTER * 2), None);
        race.ended(&at(LAN), DialOutcome::Silent, now);
        assert_eq!(race.verdict(now), Some(DialFailure::TimedOut));
    }

    #[test]
    fn unproven_refusal_counts_once_nothing_speaks_against_it() {
        let now = Instant::now();
        let mut silent = race(&[BRIDGE, LAN], None);
        started(&mut silent, now);
        started(&mut silent, now + HEAD_START);
        silent.ended(&at(LAN), DialOutcome::Refused, now);
        assert_eq!(silent.verdict(now + HEAD_START), None, "the other may yet answer");
        assert_eq!(silent.next_wake(now + HEAD_START), Some(now + SILENT_AFTER));
        assert_eq!(
            silent.verdict(now + SILENT_AFTER),
            Some(DialFailure::Refused),
            "no wait for its time-out"
        );
        for outcome in [DialOutcome::OtherNode(OTHER), DialOutcome::Stranger("a printer".into())] {
            let mut met = race(&[BRIDGE, LAN], None);
            started(&mut met, now);
            met.ended(&at(BRIDGE), outcome, now);
            started(&mut met, now);
            met.ended(&at(LAN), DialOutcome::Refused, now);
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
        race.ended(&at(FAR), DialOutcome::Unreachable, now);
        started(&mut race, now);
        race.ended(&at(LAN), DialOutcome::Refused, now);
        assert_eq!(race.verdict(now), Some(DialFailure::Refused));
    }

    /// A container bridge has the same address on every device: this device's own kernel refuses.
    #[test]
    fn refusal_by_this_device_itself_proves_nothing() {
        let now = Instant::now();
        let mut bridged = race(&["127.0.0.1:9", LAN], None);
        started(&mut bridged, now);
        bridged.ended(&at("127.0.0.1:9"), DialOutcome::Refused, now);
        started(&mut bridged, now);
        bridged.ended(&at(LAN), DialOutcome::Silent, now);
        assert_eq!(bridged.verdict(now), Some(DialFailure::TimedOut));
        let mut alone = race(&["127.0.0.1:9"], None);
        started(&mut alone, now);
        alone.ended(&at("127.0.0.1:9"), DialOutcome::Refused, now);
        assert_eq!(alone.verdict(now), Some(DialFailure::Refused), "a whole cluster on one device");
    }

    /// A process that ends closes its port last, perhaps: connections are still taken, and then
    /// reset.
    #[test]
    fn an_address_that_closes_in_our_face_is_dialled_again_at_once() {
        let now = Instant::now();
        let mut race = race(&[BRIDGE, LAN], Some(LAN));
        assert_eq!(started(&mut race, now), [at(LAN)]);
        race.ended(&at(LAN), DialOutcome::Closed, now);
        assert_eq!(started(&mut race, now), [at(LAN)], "before the other, which may hang for long");
        race.ended(&at(LAN), DialOutcome::Refused, now);
        assert_eq!(race.verdict(now), Some(DialFailure::Refused));
    }

    #[test]
    fn an_address_that_goes_on_closing_is_left_for_the_next() {
        let now = Instant::now();
        let mut race = race(&[LAN, BRIDGE], None);
        let mut later = now;
        for time in 0..=CLOSED_RETRIES {
            if time > 1 {
                started(&mut race, later); // the other one, meanwhile
                later = race.next_wake(later).unwrap();
            }
            assert!(started(&mut race, later).contains(&at(LAN)), "time {time}");
            race.ended(&at(LAN), DialOutcome::Closed, later);
        }
        assert!(later < now + HEAD_START);
        race.ended(&at(BRIDGE), DialOutcome::Silent, later);
        assert_eq!(race.verdict(later), Some(DialFailure::TimedOut));
    }

    /// Two ask for the same peer, one a moment after the other: the second waits for no head start
    /// of addresses behind.
    #[test]
    fn the_proven_address_waits_for_none_that_is_behind_it() {
        let now = Instant::now();
        let mut last_addresses = LastAddresses::default();
        last_addresses.record(NODE, PeerAddress::Dialled(LAN.parse().unwrap()));
        let mut race = race(&[BRIDGE, LAN], Some(LAN));
        started(&mut race, now);
        race.ended(&at(LAN), DialOutcome::Refused, now);
        race.is_reported = true;
        assert_eq!(started(&mut race, now), [at(BRIDGE)]);
        race.add(&[at(BRIDGE), at(LAN)], &last_addresses);
        assert_eq!(started(&mut race, now), [at(LAN)]);
    }

    #[test]
    fn a_race_entered_again_keeps_the_dials_under_way() {
        let now = Instant::now();
        let mut race = race(&[LAN, BRIDGE], Some(LAN));
        started(&mut race, now);
        race.ended(&at(LAN), DialOutcome::Refused, now);
        race.is_reported = true;
        started(&mut race, now);
        race.add(&[at(LAN), at(BRIDGE)], &LastAddresses::default());
        assert_eq!(
            started(&mut race, now + SILENT_AFTER),
            [at(LAN)],
            "the bridge is being dialled"
        );
        assert_eq!(race.verdict(now), None, "the old refusal is not told twice");
    }
}
