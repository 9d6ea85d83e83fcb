use serde::Serialize;

use super::*;
use crate::model::{AuctionId, ClusterId, KeyPair, NodeId, Signed};

const CLUSTER: ClusterId = ClusterId([9; 32]);

fn keys() -> KeyPair {
    KeyPair::from_seed(&[7; 32])
}

fn claim(index: u32, phase: Phase) -> Claim {
    let node = NodeId(keys().public().0);
    let token = Token { counter: 3, by: node, incarnation: 1 };
    let replica = ReplicaId { uid: Digest([5; 32]), place: Place::Ordinal(index) };
    let award = Award {
        auction: AuctionId { owner: node, number: 1 },
        replica,
        generation: Digest([6; 32]),
        token,
        to: node,
    };
    Claim {
        replica,
        name: "web".parse().unwrap(),
        generation: Digest([6; 32]),
        token,
        phase,
        since: WallClock(5),
        award: Signed::sign(award, &keys(), &CLUSTER).wire(),
        update: None,
    }
}

fn slot(claims: Vec<Claim>) -> Slot {
    Slot { slot: 5, counter: 9, claims, newer: Vec::new() }
}

/// Reads a slot of a newer program, and checks that the same bytes travel on.
fn read<T: Serialize>(body: &T) -> Slot {
    let raw = codec::encode(body);
    let read = Slot::read(&raw).unwrap();
    let again = codec::encode(&read);
    assert!(again == raw || again.len() < raw.len(), "known parts are written as they came");
    read
}

#[test]
fn slot_is_read_as_it_was_written() {
    let failing = Phase::Failing { reason: "trap".into(), restarts: 2 };
    let update = Some(Update { revision: Digest([8; 32]), phase: failing.clone() });
    let claims = vec![
        claim(0, Phase::Starting),
        claim(1, Phase::Healthy),
        claim(2, failing),
        claim(4, Phase::Waiting { reason: "nothing listens".into() }),
        Claim { update, ..claim(3, Phase::Healthy) },
    ];
    let slot = slot(claims);
    assert_eq!(Slot::read(&codec::encode(&slot)), Ok(slot));
}

/// An earlier program reads only the number of a phase: a replica that waits starts for it.
#[test]
fn waiting_replica_starts_for_an_earlier_program() {
    let WirePhase(number, carries) = Phase::Waiting { reason: "nothing listens".into() }.into();
    assert_eq!((number, carries.0.is_empty()), (0, false));
    assert_eq!(Phase::try_from(WirePhase(0, Bytes::default())), Ok(Phase::Starting));
    assert!(Phase::try_from(WirePhase(0, Bytes(vec![200]))).is_err());
}

/// A newer program claims places of a form, and is in phases, that this one does not know: the
/// claims that it knows hold their places, the others travel on as they came.
#[test]
fn unknown_places_and_phases_of_a_newer_program_are_kept() {
    let known = slot(vec![claim(0, Phase::Other(9))]);
    let mut wire: WireSlot = known.clone().into();
    let mut unknown: WireClaim = codec::decode(&wire.claims[0].0).unwrap();
    unknown.place = Bytes(vec![250, 1, 2, 3]);
    wire.claims.push(Bytes(codec::encode(&unknown)));
    let read = read(&wire);
    assert_eq!(read.claims, known.claims);
    assert_eq!(read.newer, wire.claims[1..]);
    assert_eq!(codec::encode(&read), codec::encode(&wire));
}

/// Fields that a newer program appends, to a claim or to the slot, are skipped.
#[test]
fn appended_fields_of_a_newer_program_are_skipped() {
    let known = slot(vec![claim(0, Phase::Healthy)]);
    let mut wire: WireSlot = known.clone().into();
    wire.claims[0].0.extend([1, 2, 3]);
    assert_eq!(read(&(wire, "more")), known);
}

/// Of a form that this program cannot read, the number and the counter are known: it can be kept,
/// compared and passed on.
#[test]
fn slot_of_an_unknown_form_is_kept_by_its_header() {
    let read = read(&(FORM + 1, 5u8, 77u64, "anything"));
    assert_eq!(read, Slot { slot: 5, counter: 77, claims: Vec::new(), newer: Vec::new() });
    assert!(Slot::read(&[200]).is_err());
}

/// A claim that is cut short is no claim of any version.
#[test]
fn malformed_claim_is_refused() {
    let mut wire: WireSlot = slot(vec![claim(0, Phase::Healthy)]).into();
    wire.claims[0].0.truncate(40);
    assert!(Slot::read(&codec::encode(&wire)).is_err());
}
