//! Messages of an attacker: real ones with changed bytes, and statements with changed bytes under a
//! right signature.

use shoal_protocol::auction::Message as Deal;
use shoal_protocol::fuzzing::Choices;
use shoal_protocol::membership::{Goodbye, Message as Word, Notice, Vote};
use shoal_protocol::model::{
    Award, ChangeBody, Digest, NodeId, NodeRecord, RawChange, Ruling, Signable, Slot, Unverified,
};
use shoal_protocol::node::{Message, Sealed};
use shoal_protocol::{auction, wire};

use super::real::Real;
use crate::fuzz::forged;

/// Changes of one message.
const MAX_CHANGES: usize = 6;

/// `bytes` with some of them changed, as the choices say.
pub fn changed(bytes: &[u8], choices: &mut Choices<'_>) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..choices.below(MAX_CHANGES + 1) {
        let (at, how) = (choices.below(bytes.len()), choices.byte());
        match how % 6 {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << (how / 6 % 8),
            1 if !bytes.is_empty() => bytes[at] = choices.byte(),
            2 => bytes.insert(at, choices.byte()),
            3 => _ = bytes.drain(at..(at + usize::from(how / 6)).min(bytes.len())),
            4 => bytes.truncate(at),
            _ => _ = bytes.splice(at..at, choices.piece().iter().copied()),
        }
    }
    bytes
}

/// A message, or why the bytes are none.
pub fn message(real: &Real, me: NodeId, choices: &mut Choices<'_>) -> Result<Message, String> {
    match choices.byte() % 4 {
        0 => raw(real, choices).map_err(|error| error.to_string()),
        1 => {
            let length = choices.below(512);
            let bytes = [&[wire::VERSION][..], choices.take(length)].concat();
            wire::decode(&bytes).map_err(|error| error.to_string())
        }
        _ => Ok(statement(real, me, choices)),
    }
}

fn raw(real: &Real, choices: &mut Choices<'_>) -> Result<Message, wire::BadMessage> {
    let template = pick(&real.messages, choices);
    let mut bytes = changed(template, choices);
    if let Some(version) = bytes.first_mut() {
        *version = wire::VERSION;
    }
    wire::decode(&bytes)
}

fn pick<'a>(all: &'a [Vec<u8>], choices: &mut Choices<'_>) -> &'a [u8] {
    all.get(choices.below(all.len())).map_or(&[], Vec::as_slice)
}

fn signed<T: Signable>(real: &Real, all: &[Vec<u8>], choices: &mut Choices<'_>) -> Unverified<T> {
    let by = real.keys(choices.below(real.devices.len()));
    let raw = changed(pick(all, choices), choices);
    forged::sign(&raw, by, &real.cluster)
}

/// A statement with a right signature, of bytes that may be wrong.
fn statement(real: &Real, me: NodeId, choices: &mut Choices<'_>) -> Message {
    let bodies = &real.bodies;
    match choices.byte() % 14 {
        0 => Message::Slot(signed::<Slot>(real, &bodies.slots, choices)),
        1 => Message::Ruled(signed::<Ruling>(real, &bodies.rulings, choices)),
        2 => {
            let chain = change(real, choices).chain;
            Message::Join { record: signed(real, &bodies.records, choices), chain }
        }
        3 => Message::Membership(Word::Record(signed(real, &bodies.records, choices))),
        4 => {
            let record = Some(signed::<NodeRecord>(real, &bodies.records, choices));
            Message::Membership(Word::Hello { record, settled: choices.byte() & 1 == 0 })
        }
        5 => Message::Membership(Word::Vote(signed::<Vote>(real, &bodies.votes, choices))),
        6 => Message::Membership(Word::Goodbye(signed::<Goodbye>(real, &bodies.goodbyes, choices))),
        7 => {
            let count = choices.below(18);
            let votes: Vec<_> =
                (0..count).map(|_| signed::<Vote>(real, &bodies.votes, choices)).collect();
            let seen = votes.first().and_then(|it| it.peek().ok());
            let (subject, incarnation) =
                seen.map_or((me, choices.number()), |it| (it.subject, it.incarnation));
            Message::Membership(Word::Down(Notice { subject, incarnation, votes }, None))
        }
        8 => awards(real, choices),
        9 | 10 => Message::Changed { change: change(real, choices), holder: Some(me) },
        11 => {
            let lineage = (0..choices.below(10)).map(|_| change(real, choices)).collect();
            Message::Greet { lineage, revocations: Digest([choices.byte(); 32]) }
        }
        12 => {
            let changes = (0..choices.below(10)).map(|_| change(real, choices)).collect();
            let (more, answer) = (choices.byte() & 1 == 0, choices.byte() & 1 == 0);
            Message::Revocations { changes, more, answer }
        }
        _ => {
            let message = changed(pick(&real.messages, choices).get(1..).unwrap_or(&[]), choices);
            let (incarnation, number) = (choices.number() >> 40, choices.number());
            let sealed = Sealed { to: me, incarnation, number, message };
            let raw = changed(&sealed.write(), choices);
            let by = real.keys(choices.below(real.devices.len()));
            Message::Carry(forged::sign(&raw, by, &real.cluster))
        }
    }
}

fn awards(real: &Real, choices: &mut Choices<'_>) -> Message {
    let count = choices.below(5);
    let awards: Vec<_> =
        (0..count).map(|_| signed::<Award>(real, &real.bodies.awards, choices)).collect();
    let heard = real.messages.iter().filter_map(|bytes| match wire::decode(bytes) {
        Ok(Message::Auction(auction::Message::Award { summary, .. })) => Some(summary),
        _ => None,
    });
    match heard.take(2).last() {
        Some(summary) if choices.byte() & 1 == 0 => {
            Message::Auction(Deal::Award { awards, summary })
        }
        _ => {
            let open_ms = u32::try_from(choices.number() >> 32).unwrap_or(u32::MAX);
            Message::Auction(Deal::Notice { awards, open_ms })
        }
    }
}

/// A change that an operator signed, of bytes that may be wrong.
pub fn change(real: &Real, choices: &mut Choices<'_>) -> RawChange {
    let raw = changed(pick(&real.bodies.changes, choices), choices);
    let change = forged::sign::<ChangeBody>(&raw, &real.operator, &real.cluster);
    RawChange { change, chain: real.chain.clone() }
}
