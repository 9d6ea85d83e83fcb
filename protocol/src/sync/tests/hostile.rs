//! Peers that send malformed, old or unrequested messages.

use super::*;

fn short_hash() -> impl Strategy<Value = ShortHash> {
    // Often the head of an entry that exists.
    prop_oneof![
        any::<[u8; 8]>().prop_map(|bytes| ShortHash::head(&Digest(stretched(bytes)))),
        (0..40u64).prop_map(head)
    ]
}

fn stretched(bytes: [u8; 8]) -> [u8; 32] {
    let mut all = [0; 32];
    all[..8].copy_from_slice(&bytes);
    all
}

fn head(entry: u64) -> ShortHash {
    ShortHash::head(&world::key(entry))
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (any::<u8>(), any::<u32>(), 0..3u8).prop_map(|(nibbles, path, kind)| {
        let bytes = match kind {
            0 => codec::encode(&(nibbles, path)),
            1 => codec::encode(&(2u8, path % 256)),
            _ => codec::encode(&(0u8, 0u32)),
        };
        codec::decode(&bytes).expect("a prefix is these two numbers")
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    (0..4usize, prefix(), any::<bool>()).prop_map(|(tree, prefix, whole)| Asked {
        tree: Tree::ALL[tree],
        prefix,
        whole,
    })
}

fn leaf() -> impl Strategy<Value = Leaf> {
    (short_hash(), short_hash(), any::<bool>()).prop_map(|(head, version, fresh)| Leaf {
        head,
        version,
        fresh,
    })
}

fn node() -> impl Strategy<Value = Node> {
    prop_oneof![
        proptest::collection::vec(short_hash(), 256).prop_map(Node::Split),
        proptest::collection::vec(short_hash(), 0..20).prop_map(Node::Split),
        proptest::collection::vec(leaf(), 0..20).prop_map(Node::Leaves),
    ]
}

/// Any message that decodes; rounds and requests are often those that are open.
fn message() -> impl Strategy<Value = (Message, bool)> {
    let round = (any::<u64>(), 0..4u32).prop_map(|(salt, number)| Round { salt, number });
    let tree = (0..4usize).prop_map(|tree| Tree::ALL[tree]);
    let root = (short_hash(), short_hash()).prop_map(|(settled, now)| Root { settled, now });
    let items = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8);
    let message = prop_oneof![
        (round.clone(), proptest::collection::vec(root, 0..20))
            .prop_map(|(round, roots)| Message::Roots { round, roots }),
        round.clone().prop_map(|round| Message::Agree { round }),
        round.clone().prop_map(|round| Message::Later { round }),
        (round.clone(), 0..3u32, proptest::collection::vec(asked(), 0..70))
            .prop_map(|(round, step, asked)| Message::Ask { round, step, asked }),
        (round.clone(), 0..3u32, proptest::collection::vec((asked(), node()), 0..5))
            .prop_map(|(round, step, nodes)| Message::Nodes { round, step, nodes }),
        (round.clone(), any::<bool>())
            .prop_map(|(round, agreed)| Message::Outcome { round, agreed }),
        (round, tree.clone(), proptest::collection::vec(leaf(), 0..50))
            .prop_map(|(round, tree, leaves)| Message::Offer { round, tree, leaves }),
        (0..4u32, tree, proptest::collection::vec(short_hash(), 0..300), 0..3u16)
            .prop_map(|(request, tree, heads, skip)| Message::Fetch { request, tree, heads, skip }),
        (0..4u32, items, 0..300u16, 0..3u16).prop_map(|(request, items, answered, skip)| {
            Message::Items { request, items, answered, skip }
        }),
    ];
    (message, any::<bool>())
}

/// The same message in the round that `world`'s first node has open with its second.
fn aimed(world: &World, message: Message) -> Message {
    let open = world.rooms[0].repair.peers[&id(1)].round();
    match message {
        Message::Agree { .. } => Message::Agree { round: open },
        Message::Later { .. } => Message::Later { round: open },
        Message::Nodes { step, nodes, .. } => Message::Nodes { round: open, step, nodes },
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn garbage_does_no_harm(
        messages in proptest::collection::vec(message(), 1..60),
        pause in 0..400u64,
    ) {
        let mut world = World::new(3, Config::default(), 5);
        for entry in 0..40 {
            world.restore(0, entry, 1);
            world.restore(2, entry, 1 + entry % 2);
        }
        world.link(0, 1);
        world.mute(1);
        for (message, aim) in messages {
            let message = if aim { aimed(&world, message) } else { message };
            world.inject(1, 0, message);
            world.run(millis(pause));
        }
        // The honest peer still gets through, and no message grows too large.
        world.link(0, 2);
        world.run(secs(60));
        prop_assert!(world.converged());
        prop_assert_eq!(world.in_step(0, 2), (true, true));
        prop_assert!(world.largest <= 64 * 1024);
    }

    #[test]
    fn replayed_messages_do_no_harm(
        again in proptest::collection::vec((any::<u16>(), 0..600u64), 1..60),
    ) {
        let mut world = World::new(2, Config::default(), 5);
        for entry in 0..200 {
            world.restore((entry % 2) as usize, entry, 1);
        }
        world.link(0, 1);
        world.run(millis(300));
        for (number, pause) in again {
            let count = world.transcript.len();
            let (_, from, to, bytes) = world.transcript[usize::from(number) % count].clone();
            world.inject(from, to, codec::decode(&bytes).unwrap());
            world.run(millis(pause));
        }
        world.run(secs(60));
        prop_assert!(world.converged());
        prop_assert_eq!(world.in_step(0, 1), (true, true));
    }
}

/// An answer that claimed more than was asked ended the fetch, but left its keys on the list of
/// those being fetched: no peer was ever asked for them again.
#[test]
fn overclaiming_answer_frees_its_keys_for_other_peers() {
    let mut world = World::new(3, Config::default(), 5);
    world.restore(2, 1, 1);
    world.link(0, 1);
    world.mute(1);
    let leaf = Leaf { head: head(1), version: ShortHash::NONE, fresh: false };
    let round = Round { salt: 0, number: 0 };
    world.inject(1, 0, Message::Offer { round, tree: world::tree(1), leaves: vec![leaf] });
    world.inject(1, 0, Message::Items { request: 1, items: Vec::new(), answered: 2, skip: 0 });
    world.link(0, 2);
    world.run(secs(10));
    assert_eq!(world.version(0, 1), Some(1));
}

#[test]
fn stranger_is_not_answered() {
    let mut world = World::new(2, Config::default(), 1);
    world.restore(0, 1, 1);
    let round = Round { salt: 1, number: 1 };
    let roots = vec![Root { settled: ShortHash::NONE, now: ShortHash::NONE }; 4];
    world.inject(1, 0, Message::Roots { round, roots });
    world.inject(
        1,
        0,
        Message::Fetch { request: 1, tree: world::tree(1), heads: vec![head(1)], skip: 0 },
    );
    assert_eq!(world.bytes, 0);
}

#[test]
fn empty_comparison_is_not_in_step() {
    let mut world = World::new(2, Config::default(), 1);
    world.restore(0, 1, 1);
    world.link(0, 1);
    world.mute(1);
    let round = Round { salt: 1, number: 1 };
    world.inject(1, 0, Message::Roots { round, roots: Vec::new() });
    world.inject(1, 0, Message::Outcome { round, agreed: true });
    assert!(!world.rooms[0].repair.in_step(&id(1)));
}

#[test]
fn unrequested_items_are_dropped() {
    let mut world = in_step(4);
    let payload = codec::encode(&(1u64, 9u64, 0u32, vec![0u8; 4]));
    for request in 0..5 {
        world.inject(
            1,
            0,
            Message::Items { request, items: vec![payload.clone()], answered: 1, skip: 0 },
        );
    }
    assert_eq!((world.received(0), world.version(0, 1)), (0, Some(1)));
}
