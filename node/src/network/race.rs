//! Dials the addresses of one peer in order, each with a head start (RFC 8305), and concludes from
//! the outcomes. Plain bookkeeping: the swarm's task dials.
//!
//! **The core takes "refused" as evidence of death, so it is reported only as follows:**
//!
//! 1. A refusal at the address of the last link is the verdict, at once. That address was the
//!    peer's own a moment ago, and its kernel says that no process listens any more. No outcome at
//!    another address makes that less true, so addresses that time out delay nothing. They are
//!    still dialled: a device that moved may be found at one of them, and a link outweighs a
//!    verdict.
//! 2. Where such an address is known and does not refuse, refusals at the others prove nothing: the
//!    address that worked is silent, as in a network cut.
//! 3. Where none is known, a refusal counts only if no other address contradicts it: each of them
//!    has failed or been silent for [`SILENT_AFTER`], and no other node was met at one of them,
//!    which would show that the known addresses are old.
//! 4. A refusal by this device's own kernel, at an address that was never the peer's, proves
//!    nothing: container bridges have the same address on every device. It counts where all
//!    addresses are this device's.
//! 5. An address that cannot be reached from here, or at which this node itself answers, proves
//!    nothing about the peer; the next one starts at once.
//! 6. A connection that is closed before the handshake is over may belong to a process that is just
//!    ending: its kernel accepts connections until the port is closed. The address is dialled again
//!    at once, a few times at most, since a peer without room closes connections too.
//!
//! Another node that answers shows that the address is no longer the peer's; see
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

/// The head start of an address before the next one is dialled too: more than a handshake in a
/// local network, too short for a person to notice.
const HEAD_START: Duration = Duration::from_millis(100);
/// After this time without an answer an address no longer contradicts a refusal elsewhere.
const SILENT_AFTER: Duration = Duration::from_millis(500);
/// How often an address is dialled again that closed the connection, and the pause before each
/// retry but the first.
const CLOSED_RETRIES: u32 = 3;
const CLOSED_RETRY_PAUSE: Duration = Duration::from_millis(10);
/// Addresses of one dial: as many as a record and a sighting may name.
pub(super) const MAX_ADDRESSES: usize = 32;

/// A dial under way.
pub(super) struct Race {
    /// The parties that get the outcome.
    pub requesters: Vec<DialRequester>,
    /// The core asked for it, so it gets the outcomes of single addresses.
    pub is_for_core: bool,
    /// The node to meet; none when any member will do.
    node: Option<NodeId>,
    attempts: Vec<Attempt>,
    /// The verdict was reported. Dials that still run may lead to a link.
    pub is_reported: bool,
}

struct Attempt {
    address: Multiaddr,
    /// The last link used this address.
    is_proven: bool,
    /// The address is one of this device.
    is_own: bool,
    /// How often the other end closed the connection.
    closed: u32,
    state: State,
}

enum State {
    /// Until this time, if there is one.
    Waiting(Option<Instant>),
    /// Since this time. Dropping the guard cancels the dial.
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

    /// Adds addresses to dial, the proven one first, the rest in their order. Dials under way stay.
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

    /// The next address to dial now: call until there is none. An address waits only for those
    /// before it.
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

    /// Keeps the guard of a dial that has started.
    pub(super) fn hold(&mut self, address: &Multiaddr, guard: DropGuard) {
        if let Some(Attempt { state: State::Dialling(_, held), .. }) = self.attempt(address) {
            *held = Some(guard);
        }
    }

    /// Notes a dial that ended without a link.
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

    /// When to look again if no event comes before.
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

    /// Whether no address is left that could lead to a link.
    pub(super) fn is_over(&self) -> bool {
        self.attempts.iter().all(|attempt| matches!(attempt.state, State::Ended(_)))
    }

    /// The verdict, if there is one: see the rules at the head of this file.
    pub(super) fn verdict(&self, now: Instant) -> Option<DialFailure> {
        let over = self.is_over();
        let stranger_met = self.stranger_met();
        if self.node.is_none() {
            // A seed names no node whose death could be concluded.
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

    /// Describes the other node or process that answered; this node itself comes last, because it
    /// proves least.
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

/// Whether both name the same socket; one may end in the peer's id.
fn is_same_address(one: &Multiaddr, other: &Multiaddr) -> bool {
    match (names::socket(one), names::socket(other)) {
        (Some(one), Some(other)) => one == other,
        _ => one == other,
    }
}

/// Whether the address is one of this device: it can be bound, which costs two system calls and no
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
    /// Addresses reserved for documentation, so no device that runs this has them.
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

    /// All addresses that are started at this time.
    fn started(race: &mut Race, now: Instant) -> Vec<Multiaddr> {
        std::iter::from_fn(|| race.start_next(now)).collect()
    }

    /// Each address has a head start; a failed one ends its head start at once.
    #[test]
    fn proven_address_starts_first_then_the_rest_in_order() {
        let now = Instant::now();
        let mut race = race(&[BRIDGE, LAN, FAR], Some(LAN));
        assert_eq!(started(&mut race, now), [at(LAN)]);
        assert_eq!(race.next_wake(now), Some(now + HEAD_START));
        assert_eq!(started(&mut race, now + HEAD_START), [at(BRIDGE)], "the first is silent");
        race.ended(&at(BRIDGE), DialOutcome::Unreachable, now);
        assert_eq!(
            started(&mut race, now + HEAD_START),
            [at(FAR)],
            "a failed address delays nothing"
        );
    }

    /// Rule 1: the verdict does not wait for the other addresses, which are still dialled.
    #[test]
    fn refusal_at_the_proven_address_is_the_verdict() {
        let now = Instant::now();
        let mut race = race(&[BRIDGE, FAR, LAN], Some(LAN));
        started(&mut race, now);
        race.ended(&at(LAN), DialOutcome::Refused, now);
        assert_eq!(race.verdict(now), Some(DialFailure::Refused));
        // The device may have moved, so the others are dialled, now without head starts.
        race.is_reported = true;
        assert_eq!(started(&mut race, now), [at(BRIDGE), at(FAR)]);
        assert!(!race.is_over());
    }

    /// Rule 2: a silent proven address looks like a network cut.
    #[test]
    fn refusals_elsewhere_do_not_count_while_proven_is_silent() {
        let now = Instant::now();
        let mut race = race(&[BRIDGE, LAN], Some(LAN));
        started(&mut race, now);
        started(&mut race, now + HEAD_START);
        race.ended(&at(BRIDGE), DialOutcome::Refused, now);
        assert_eq!(race.verdict(now + SILENT_AFTER * 2), None);
        race.ended(&at(LAN), DialOutcome::Silent, now);
        assert_eq!(race.verdict(now), Some(DialFailure::TimedOut));
    }

    /// Rule 3: the other address may answer until it was silent for long; another node there
    /// contradicts.
    #[test]
    fn unproven_refusal_counts_unless_contradicted() {
        let now = Instant::now();
        let mut silent = race(&[BRIDGE, LAN], None);
        started(&mut silent, now);
        started(&mut silent, now + HEAD_START);
        silent.ended(&at(LAN), DialOutcome::Refused, now);
        assert_eq!(silent.verdict(now + HEAD_START), None, "the other may still answer");
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

    /// Rule 5: only the refusal at the reachable address counts.
    #[test]
    fn unreachable_addresses_prove_nothing() {
        let now = Instant::now();
        let mut race = race(&[FAR, LAN], None);
        started(&mut race, now);
        race.ended(&at(FAR), DialOutcome::Unreachable, now);
        started(&mut race, now);
        race.ended(&at(LAN), DialOutcome::Refused, now);
        assert_eq!(race.verdict(now), Some(DialFailure::Refused));
    }

    /// A container bridge has the same address on every device, so this device's own kernel
    /// refuses.
    #[test]
    fn refusal_by_own_kernel_proves_nothing() {
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

    /// A process that ends may close its port last: its kernel still accepts connections and then
    /// resets them.
    #[test]
    fn closing_address_is_dialled_again_at_once() {
        let now = Instant::now();
        let mut race = race(&[BRIDGE, LAN], Some(LAN));
        assert_eq!(started(&mut race, now), [at(LAN)]);
        race.ended(&at(LAN), DialOutcome::Closed, now);
        assert_eq!(started(&mut race, now), [at(LAN)], "before the other, which may hang for long");
        race.ended(&at(LAN), DialOutcome::Refused, now);
        assert_eq!(race.verdict(now), Some(DialFailure::Refused));
    }

    /// Rule 6: the retries are few, and end before the head start does.
    #[test]
    fn repeatedly_closing_address_yields_to_the_next() {
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

    /// Two callers ask for the same peer, one shortly after the other. The second dial of the
    /// proven address must not wait for addresses behind it.
    #[test]
    fn proven_address_does_not_wait_for_later_ones() {
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

    /// A second request for the same peer repeats ended dials, not running ones.
    #[test]
    fn adding_addresses_keeps_running_dials() {
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
        assert_eq!(race.verdict(now), None, "the old refusal is not reported twice");
    }
}
