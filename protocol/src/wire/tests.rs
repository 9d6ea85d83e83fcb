use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::auction;
use crate::claims;
use crate::model::ruling::JobResult;
use crate::model::*;
use crate::node::Sealed;
use crate::trust::{self, Genesis};

/// A message of each kind that can be made here alone, from fixed keys.
fn samples() -> Vec<(&'static str, Message)> {
    let (root, invite, node) =
        (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[2; 32]), KeyPair::from_seed(&[3; 32]));
    let genesis = Genesis { root: root.public() };
    let cluster = genesis.cluster();
    let id = NodeId(node.public().0);
    let terms = trust::Terms {
        name: "invite".into(),
        role: Role::Inviter { uses: 3, labels: vec![("zone".into(), "shop".into())] },
        namespaces: Namespaces::All,
        serial: 900,
        expires: Some(WallClock(1_000)),
    };
    let chain = trust::grant(&genesis, &root, &Chain::default(), invite.public(), terms).unwrap();
    let chain = chain.with(trust::ticket(&genesis, &invite, node.public(), NodeId([9; 32]), 950));
    let admission = trust::admit(&genesis, &node, &chain, NodeId([9; 32]), 1_000).unwrap().raw();
    let replica = ReplicaId { uid: Digest([4; 32]), place: Place::Ordinal(2) };
    let token = Token { counter: 9, by: id, incarnation: 1 };
    let auction = AuctionId { owner: id, number: (5 << 32) | 6 };
    let award = Award { auction, replica, generation: Digest([5; 32]), token, to: id };
    let award = Signed::sign(award, &node, &cluster);
    let claim = Claim {
        update: None,
        replica,
        name: "shop/web".parse().unwrap(),
        generation: Digest([5; 32]),
        token,
        phase: Phase::Failing { reason: "trapped".into(), restarts: 1 },
        since: WallClock(1_800_000_000_000),
        award: award.wire(),
    };
    let slot = Signed::sign(
        Slot { slot: replica.slot(), counter: 3, claims: vec![claim], newer: Vec::new() },
        &node,
        &cluster,
    );
    let facts = Facts {
        arch: "aarch64".into(),
        runtimes: [ProgramKind::Wasm].into(),
        labels: BTreeMap::from([("zone".into(), "shop".into())]),
        capacity: Resources { memory: 1 << 30, cpu: 4_000 },
        ..Facts::default()
    };
    let record = NodeRecord {
        counter: 1,
        incarnation: 2,
        name: "till-1".into(),
        addresses: vec!["/ip4/10.0.0.5/tcp/7700".into()],
        facts,
        version: "0.1.0".into(),
        ready: true,
        leaving: false,
        no_way_to: vec![id],
    };
    let record = Signed::sign(record, &node, &cluster);
    let ruling = Ruling {
        uid: Digest([4; 32]),
        generation: Digest([5; 32]),
        tick: 1,
        sequence: 1,
        body: RulingBody::JobResult(JobResult::failed(-1)),
    };
    let ruling = Signed::sign(ruling, &node, &cluster);
    let sealed = Sealed { to: id, incarnation: 2, number: (2 << 32) + 1, message: vec![1, 2, 3] };
    let sealed = Signed::sign(sealed, &node, &cluster);
    let load = Load { cpu: 250, memory: 7 << 20, in_flight: 1_500, requests: 9 };
    vec![
        ("changed", Message::Changed { change: admission.clone(), holder: Some(id) }),
        ("slot", Message::Slot(slot.wire())),
        ("ruled", Message::Ruled(ruling.wire())),
        ("have", Message::Have { node: id, digest: Digest([6; 32]) }),
        ("join", Message::Join { record: record.wire(), chain }),
        ("admitted", Message::Admitted { changes: vec![admission.clone()] }),
        ("greet", Message::Greet { lineage: vec![admission], revocations: Digest([8; 32]) }),
        ("ask-holder", Message::AskHolder { digest: Digest([6; 32]) }),
        ("claims", Message::Claims(claims::Message::AskKeeper { replica, token, question: 1 })),
        (
            "auction",
            Message::Auction(auction::Message::Claimed { auction, claims: vec![(replica, token)] }),
        ),
        ("carry", Message::Carry(sealed.wire())),
        ("not-admitted", Message::NotAdmitted { why: "revoked".into(), changes: Vec::new() }),
        ("loads", Message::Loads { loads: vec![(replica, load)] }),
        ("wake", Message::Wake { uid: Digest([9; 32]) }),
    ]
}

/// Deployed nodes decode these bytes: a change here breaks them.
#[test]
fn message_bytes_do_not_change() {
    let short = |message: &Message| Digest::of(&encode(message)).short();
    let hashes: Vec<(&str, String)> =
        samples().iter().map(|(name, message)| (*name, short(message))).collect();
    let golden: Vec<(&str, String)> =
        GOLDEN.iter().map(|(name, hash)| (*name, (*hash).to_owned())).collect();
    assert_eq!(hashes, golden);
}

const GOLDEN: [(&str, &str); 14] = [
    ("changed", "af32deda"),
    ("slot", "33b09352"),
    ("ruled", "a5bd4bc5"),
    ("have", "e5c48fa4"),
    ("join", "85f13976"),
    ("admitted", "9bda66c4"),
    ("greet", "4eb455b9"),
    ("ask-holder", "2e84ab65"),
    ("claims", "fa712b61"),
    ("auction", "70d3359e"),
    ("carry", "0b2cb513"),
    ("not-admitted", "0d9fdbc7"),
    ("loads", "48e0e304"),
    ("wake", "1d4d0f03"),
];

#[test]
fn encoded_message_decodes_to_itself() {
    for (name, message) in samples() {
        assert_eq!(decode(&encode(&message)), Ok(message), "{name}");
    }
}

#[test]
fn other_version_is_reported() {
    let (_, message) = samples().remove(0);
    let mut bytes = encode(&message);
    bytes[0] = 9;
    assert_eq!(decode(&bytes), Err(BadMessage::Version(9)));
    assert_eq!(decode(&[]), Err(BadMessage::Empty));
    assert_eq!(decode(&vec![VERSION; MAX_MESSAGE + 1]), Err(BadMessage::TooLong(MAX_MESSAGE + 1)));
}

#[test]
fn truncated_or_extended_message_is_refused() {
    for (name, message) in samples() {
        let bytes = encode(&message);
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "{name} cut at {end}");
        }
        assert!(decode(&[bytes, vec![0]].concat()).is_err(), "{name} with a byte more");
    }
}

/// A newer program sends kinds of messages that this one does not know: it is not to blame.
#[test]
fn appended_kind_of_message_is_named() {
    let last = samples().pop().expect("the last kind").1;
    let bytes = encode(&last);
    assert_eq!(u32::from(bytes[1]), Message::KINDS - 1, "a kind was appended: count it");
    let mut newer = bytes;
    newer[1] += 1;
    let error = decode(&newer).unwrap_err();
    assert_eq!(error, BadMessage::Kind(Message::KINDS));
    assert!(error.is_other_version() && !BadMessage::Empty.is_other_version());
}

proptest! {
    /// Any bytes decode to a message or an error, and take no more memory than the limit.
    #[test]
    fn arbitrary_bytes_do_not_panic(body in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        _ = decode(&[vec![VERSION], body].concat());
    }

    #[test]
    fn altered_messages_do_not_panic(
        which in 0usize..10,
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
    ) {
        let (_, message) = samples().swap_remove(which);
        let mut bytes = encode(&message);
        let at = at.index(bytes.len());
        bytes[at] = with;
        _ = decode(&bytes);
    }
}
