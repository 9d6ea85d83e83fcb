//! Messages over one common member: what is taken, and what the member in the middle cannot do.

use super::*;
use crate::membership::Message as Word;
use crate::model::codec;

/// A node with the bytes of a workload, a member that asks whether it has them, and one that
/// carries the question.
struct Three {
    cluster: bottle::Cluster,
    bottle: Bottle,
    author: KeyPair,
    hop: NodeId,
    digest: Digest,
}

impl Three {
    fn new() -> Self {
        let cluster = cluster();
        let mut bottle = Bottle::new(cluster.founder(Saved::default()));
        bottle.publish(&cluster, &spec(1, 32 << 20));
        cluster.joins(20, &mut bottle);
        let hop = cluster.joins(30, &mut bottle).node.id();
        bottle.said.clear();
        Three {
            author: cluster.identity(20).keys,
            cluster,
            bottle,
            hop,
            digest: Digest::of(b"bytes"),
        }
    }

    fn author(&self) -> NodeId {
        NodeId(self.author.public().0)
    }

    fn sealed(&self, to: NodeId, number: u64) -> Sealed {
        let message = codec::encode(&Message::AskHolder { digest: self.digest });
        Sealed { to, life: self.bottle.node.status().counters["incarnation"], number, message }
    }

    /// Whether what came from `from` led to an answer.
    fn answers(&mut self, from: NodeId, sealed: Signed<Sealed>) -> bool {
        self.bottle.said.clear();
        self.bottle.input(Input::Message { from, message: Message::Carry(sealed.wire()) });
        self.bottle.said.iter().any(|message| matches!(message, Message::Have { .. }))
    }
}

/// The member that carries keeps what it carried, and plays it again, or in another life of the
/// addressee, or changed.
#[test]
fn carried_messages_are_heard_once_and_from_their_author() {
    let mut it = Three::new();
    let (me, hop, cluster) = (it.bottle.node.id(), it.hop, it.cluster.genesis.cluster());
    let good = it.sealed(me, 7);
    let sign = |body: &Sealed, keys: &KeyPair| Signed::sign(body.clone(), keys, &cluster);
    let author = it.author.clone();
    assert!(it.answers(hop, sign(&good, &author)), "the question came");
    assert!(!it.answers(hop, sign(&good, &author)), "a second time");
    assert!(
        !it.answers(hop, sign(&Sealed { number: 6, ..good.clone() }, &author)),
        "an earlier one"
    );
    assert!(
        !it.answers(hop, sign(&Sealed { number: 8, life: good.life + 1, ..good.clone() }, &author)),
        "of another life"
    );
    let elsewhere =
        Signed::sign(Sealed { number: 8, ..good.clone() }, &author, &ClusterId([5; 32]));
    assert!(!it.answers(hop, elsewhere), "not signed for this cluster");
    assert!(
        !it.answers(
            hop,
            sign(&Sealed { number: 8, ..good.clone() }, &KeyPair::from_seed(&[99; 32]))
        ),
        "a stranger"
    );
    assert!(
        it.answers(hop, sign(&Sealed { number: 8, ..good }, &author)),
        "none of these spent the number"
    );
}

/// A link's own words over a hop would let one node beat for another.
#[test]
fn what_speaks_of_a_link_is_not_carried() {
    let mut it = Three::new();
    let (me, hop, cluster) = (it.bottle.node.id(), it.hop, it.cluster.genesis.cluster());
    let beat = Message::Membership(crate::membership::Message::Beat { lag_ms: 60_000, view: 0 });
    let body = Sealed { message: codec::encode(&beat), ..it.sealed(me, 7) };
    it.answers(hop, Signed::sign(body, &it.author.clone(), &cluster));
    assert_eq!(it.bottle.node.status().counters.get("carried_unknown"), Some(&1));
}

/// A hop never asks another hop: with three members that believe in one another a message would go
/// round for ever.
#[test]
fn a_message_is_carried_over_one_hop() {
    let mut it = Three::new();
    let (hop, author, cluster) = (it.hop, it.author(), it.cluster.genesis.cluster());
    let mut carried = |to: NodeId, from: NodeId, number: u64| {
        let sealed = Signed::sign(it.sealed(to, number), &it.author.clone(), &cluster);
        it.answers(from, sealed);
        it.bottle.said.iter().any(|message| matches!(message, Message::Carry(_)))
    };
    assert!(carried(hop, author, 1), "from its author to a linked member");
    assert!(!carried(hop, hop, 2), "from another than its author");
    assert!(!carried(NodeId([77; 32]), author, 3), "to no member");
}

impl Three {
    /// The author cannot be dialled any more, and for so long the member in the middle says that it
    /// lives.
    fn loses_the_way(&mut self, time: Duration) {
        let author = self.author();
        self.bottle.input(Input::LinkDown { peer: author });
        self.fails_to_dial();
        for _ in 0..time.as_millis() / 50 {
            self.bottle.run_for(Duration::from_millis(50));
            for message in std::mem::take(&mut self.bottle.said) {
                let answer = match message {
                    Message::Membership(Word::Probe { seq, .. }) => Word::Answer { seq, lag_ms: 0 },
                    Message::Membership(Word::Ask { subject, incarnation, round, .. }) => {
                        Word::Alive { subject, incarnation, round }
                    }
                    _ => continue,
                };
                self.bottle
                    .input(Input::Message { from: self.hop, message: Message::Membership(answer) });
            }
        }
    }

    fn fails_to_dial(&mut self) {
        let target = DialTarget::Node(self.author());
        self.bottle.input(Input::DialFailed { target, how: DialFailure::TimedOut });
    }

    /// What this node has sealed for the author; a signature that does not hold is a panic.
    fn sealed_for_author(&self) -> Vec<(Sealed, Message)> {
        let sealed = self.bottle.said.iter().filter_map(|message| match message {
            Message::Carry(sealed) => {
                Some(sealed.clone().verify(&self.cluster.genesis.cluster()).unwrap())
            }
            _ => None,
        });
        let sealed = sealed.filter(|sealed| {
            NodeId(sealed.by().0) == self.bottle.node.id() && sealed.to == self.author()
        });
        sealed
            .map(|sealed| (sealed.body().clone(), codec::decode(&sealed.message).unwrap()))
            .collect()
    }

    fn count(&self, what: &str) -> u64 {
        self.bottle.node.status().counters.get(what).copied().unwrap_or_default()
    }

    /// Something that all members are asked about.
    fn asks_all(&mut self, replicas: u32) {
        self.bottle.said.clear();
        let change = {
            let spec =
                SpecForm { name: "more".parse().unwrap(), ..spec(replicas, 32 << 20).into() };
            let spec = Spec::try_from(spec).unwrap();
            let prepare = Command::Prepare {
                name: spec.name.clone(),
                spec: Some(spec.clone()),
                force: false,
            };
            let Reply::Prepared { draft, .. } = self.bottle.command(prepare) else {
                panic!("it is prepared")
            };
            self.cluster.sign(draft, &spec.name, Value::workload(&spec))
        };
        self.bottle.input(Input::Command {
            request: RequestId(77),
            command: Command::Submit { change: change.raw() },
        });
    }
}

fn is_announce(message: &Message) -> bool {
    matches!(message, Message::Auction(auction::Message::Announce(_)))
}

/// An owner asks a bidder that it cannot dial. People are told, once, that the way is missing and
/// what is done instead.
#[test]
fn who_cannot_be_dialled_is_asked_over_a_common_member() {
    let mut it = Three::new();
    it.loses_the_way(Duration::from_secs(7));
    let told: Vec<&String> =
        it.bottle.asked.iter().filter(|asked| asked.contains("no-way")).collect();
    assert!(matches!(told[..], [event] if event.contains("go over")), "{told:?}");
    it.asks_all(1);
    let sealed = it.sealed_for_author();
    assert!(sealed.iter().any(|(_, message)| is_announce(message)), "{sealed:?}");
    let numbers: Vec<u64> = sealed.iter().map(|(sealed, _)| sealed.number).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
}

/// The question came over a common member: there is no link for the answer either.
#[test]
fn who_asks_over_a_common_member_is_answered_over_one() {
    let mut it = Three::new();
    it.loses_the_way(Duration::from_secs(7));
    let (me, hop, cluster, author) =
        (it.bottle.node.id(), it.hop, it.cluster.genesis.cluster(), it.author.clone());
    let question = it.sealed(me, 7);
    it.answers(hop, Signed::sign(question, &author, &cluster));
    let sealed = it.sealed_for_author();
    assert!(
        sealed.iter().any(|(_, message)| matches!(message, Message::Have { .. })),
        "{sealed:?}"
    );
}

/// The question waited for a link, and the dial fails.
#[test]
fn what_waits_for_a_link_that_does_not_come_goes_over_a_common_member() {
    let mut it = Three::new();
    let author = it.author();
    it.bottle.input(Input::LinkDown { peer: author });
    it.asks_all(1);
    assert_eq!(it.sealed_for_author(), [], "there may be a link in a moment");
    it.fails_to_dial();
    assert!(it.sealed_for_author().iter().any(|(_, message)| is_announce(message)));
}

/// Numbers grow over restarts: else what is sealed after one counts as played again.
#[test]
fn what_is_sealed_after_a_restart_is_heard() {
    let number = |it: &mut Three| {
        let (now, author, digest) = (it.bottle.now, it.author(), it.digest);
        it.bottle.said.clear();
        assert!(it.bottle.node.carry(now, author, &Message::AskHolder { digest }));
        it.bottle.input(Input::Lag(Duration::ZERO));
        it.sealed_for_author()[0].0.number
    };
    let mut it = Three::new();
    let before = (0..3).map(|_| number(&mut it)).max();
    let mut bottle = Bottle::new(it.cluster.founder(saved(&it.bottle.records)));
    bottle.input(Input::LinkUp { peer: it.hop });
    let mut it = Three { bottle, ..it };
    assert!(Some(number(&mut it)) > before);
}

/// The node took word of its death back meanwhile: what was sealed for its incarnation of a moment
/// ago is as good.
#[test]
fn what_was_sealed_for_an_earlier_incarnation_of_this_process_is_heard() {
    let mut it = Three::new();
    let (me, hop, cluster) = (it.bottle.node.id(), it.hop, it.cluster.genesis.cluster());
    let before = it.sealed(me, 7);
    it.bottle.node.persist_incarnation(before.life + 1);
    it.bottle.run_for(Duration::from_millis(1));
    it.bottle.input(Input::Lag(Duration::ZERO));
    assert_eq!(it.sealed(me, 8).life, before.life + 1, "the set-up");
    assert!(it.answers(hop, Signed::sign(before, &it.author.clone(), &cluster)));
}

/// Bytes that come over a hop cross the network twice.
#[test]
fn holders_without_a_way_are_asked_last() {
    let mut it = Three::new();
    let (author, hop, digest) = (it.author(), it.hop, it.digest);
    for node in [author, hop] {
        it.bottle.input(Input::Message { from: node, message: Message::Have { node, digest } });
    }
    assert_eq!(it.bottle.node.candidates(&digest), [author, hop], "the set-up: by id");
    it.loses_the_way(Duration::from_millis(200));
    assert_eq!(it.bottle.node.candidates(&digest), [hop, author]);
}

/// A member that floods another over a hop gets the hop's share, and no more.
#[test]
fn so_much_is_carried_for_one_author_and_no_more() {
    let mut it = Three::new();
    let (hop, author, cluster) = (it.hop, it.author(), it.cluster.genesis.cluster());
    for number in 0..600 {
        let sealed = Signed::sign(it.sealed(hop, number), &it.author.clone(), &cluster).wire();
        it.bottle.input(Input::Message { from: author, message: Message::Carry(sealed) });
    }
    assert_eq!((it.count("carried_on"), it.count("carried_refused")), (512, 88));
    it.bottle.run_for(Duration::from_millis(50));
    assert!(it.answers(
        author,
        Signed::sign(it.sealed(it.bottle.node.id(), 601), &it.author.clone(), &cluster)
    ));
}

/// A member that this node cannot dial either is no business of it.
#[test]
fn a_node_carries_only_to_whom_it_reaches_itself() {
    let mut it = Three::new();
    it.loses_the_way(Duration::from_secs(1));
    let (hop, author, cluster) = (it.hop, it.author(), it.cluster.genesis.cluster());
    let keys = it.cluster.identity(30).keys;
    it.bottle.said.clear();
    let sealed = Signed::sign(it.sealed(author, 1), &keys, &cluster).wire();
    it.bottle.input(Input::Message { from: hop, message: Message::Carry(sealed) });
    assert_eq!((it.count("carried_on"), it.count("carried_refused")), (0, 1));
}

/// Whoever has a link can name any number of authors.
#[test]
fn of_strangers_nothing_is_kept() {
    let mut it = Three::new();
    let (me, hop, cluster) = (it.bottle.node.id(), it.hop, it.cluster.genesis.cluster());
    for stranger in 100..120 {
        it.answers(
            hop,
            Signed::sign(it.sealed(me, 1), &KeyPair::from_seed(&[stranger; 32]), &cluster),
        );
    }
    it.bottle.node.queues().iter().for_each(|queue| assert!(!queue.is_overfull(), "{queue:?}"));
}
