//! Targets: messages, and the bodies under signatures, with the signature right: only then are the
//! bodies read.

use shoal_protocol::fuzzing::Target;
use shoal_protocol::membership::{Goodbye, Vote};
use shoal_protocol::model::access::{Access, Action, RawAccess};
use shoal_protocol::model::{
    Award, Chain, ChangeBody, Grant, KeyPair, NodeId, NodeRecord, Place, RawChange, Ruling,
    Signable, Signed, Slot, WallClock, codec,
};
use shoal_protocol::node::Sealed;
use shoal_protocol::{trust, wire};

use super::core::real::Real;
use super::forged;

/// An envelope, as another node sends it.
pub const WIRE: Target = Target { name: "wire", run: run_wire, seeds: wire_seeds, most: 8_192 };
/// A body, by the first byte.
pub const SIGNED: Target = Target { name: "signed", run: run_signed, seeds, most: 8_192 };

fn run_wire(data: &[u8]) {
    match wire::decode(data) {
        Ok(message) => {
            let bytes = wire::encode(&message);
            assert_eq!(wire::decode(&bytes).as_ref(), Ok(&message), "it is read as another one");
        }
        Err(error) => assert!(error.to_string().len() < 1_024, "{error}"),
    }
}

fn wire_seeds() -> Vec<Vec<u8>> {
    Real::get().messages.iter().filter(|it| it.len() <= WIRE.most).cloned().collect()
}

fn run_signed(data: &[u8]) {
    let Some((kind, raw)) = data.split_first() else { return };
    match kind % 10 {
        0 => change(raw),
        1 => body::<Slot>(raw),
        2 => body::<NodeRecord>(raw),
        3 => body::<Ruling>(raw),
        4 => body::<Vote>(raw),
        5 => body::<Goodbye>(raw),
        6 => body::<Award>(raw),
        7 => body::<Sealed>(raw),
        8 => access(raw),
        _ => grant(raw),
    }
}

/// A body that is read is written and read again, whatever stood behind it.
fn body<T: Signable>(raw: &[u8]) {
    let real = Real::get();
    let signed = forged::sign::<T>(raw, real.keys(3), &real.cluster);
    if let Ok(signed) = signed.verify(&real.cluster) {
        assert_eq!(signed.wire().raw(), raw, "its bytes travel on as they came");
        assert!(T::read(&signed.body().write()).is_ok(), "it cannot be read again");
    }
}

/// Of an operator: what a newer program signs must harm nobody.
fn change(raw: &[u8]) {
    let real = Real::get();
    let change = forged::sign::<ChangeBody>(raw, &real.operator, &real.cluster);
    let raw = RawChange { change, chain: real.chain.clone() };
    if let Ok(change) = trust::accept(&real.genesis, raw) {
        let again: RawChange = codec::decode(&codec::encode(&change.raw())).expect("it was read");
        let again = trust::accept(&real.genesis, again).map(|it| it.hash());
        assert_eq!(again, Ok(change.hash()), "another node judges it otherwise");
        _ = (change.signed.value.spec(), change.signed.value.artifacts(), change.precedence());
    }
}

fn access(raw: &[u8]) {
    let real = Real::get();
    let access = forged::sign::<Access>(raw, &real.operator, &real.cluster);
    let raw = RawAccess { access, chain: real.chain.clone() };
    let now = WallClock(1_800_000_000_000);
    _ = trust::accept_access(&real.genesis, raw, now).map(|it| it.body().clone());
}

/// A grant of a publisher counts for nobody, whatever it gives.
fn grant(raw: &[u8]) {
    let real = Real::get();
    let grant = forged::sign::<Grant>(raw, &real.operator, &real.cluster);
    let subject = grant.peek().map_or(real.operator.public(), |it| it.subject);
    let chain = real.chain.with(grant.clone());
    assert!(trust::authority(&real.genesis, &chain, subject, None).is_err(), "not a publisher's");
    let alone = Chain::default().with(grant);
    assert!(trust::authority(&real.genesis, &alone, subject, None).is_err(), "not the root's");
}

fn seeds() -> Vec<Vec<u8>> {
    let real = Real::get();
    let bodies = &real.bodies;
    let all = [
        &bodies.changes,
        &bodies.slots,
        &bodies.records,
        &bodies.rulings,
        &bodies.votes,
        &bodies.goodbyes,
        &bodies.awards,
        &bodies.carried,
    ];
    let seeds = (0u8..).zip(all).flat_map(|(kind, bodies)| {
        bodies.iter().take(6).map(move |raw| [&[kind], raw.as_slice()].concat())
    });
    let access = Access {
        workload: real.names[0].clone(),
        place: Place::Ordinal(1),
        node: NodeId([4; 32]),
        nonce: [5; 32],
        action: Action::ReadVolume { name: "data".into() },
    };
    let keys = KeyPair::from_seed(&[1; 32]);
    let access = Signed::sign(access, &keys, &real.cluster).wire();
    let more = [[&[8], &*access.raw()].concat(), [&[9], &*real.chain.grants()[0].raw()].concat()];
    seeds.chain(more).filter(|it| it.len() <= SIGNED.most).collect()
}
