//! Messages over one common member: which are taken, and what that member cannot do.

use super::*;
use crate::membership::Message as Word;
use crate::model::codec;

/// A node with the artifact of a workload, a member that asks for it, and a hop that carries the
/// question.
struct ThreeNodes {
    cluster: harness::Cluster,
    harness: Harness,
    author: KeyPair,
    hop: NodeId,
    digest: Digest,
}

impl ThreeNodes {
    fn new() -> Self {
        let cluster = cluster();
        let mut harness = Harness::new(cluster.founder(Saved::default()));
        harness.publish(&cluster, &spec(1, 32 << 20));
        cluster.join_member(20, &mut harness);
        let hop = cluster.join_member(30, &mut harness).node.id();
        harness.sent.clear();
        ThreeNodes {
            author: cluster.identity(20).keys,
            cluster,
            harness,
            hop,
            digest: Digest::of(b"bytes"),
        }
    }

    fn author(&self) -> NodeId {
        NodeId(self.author.public().0)
    }

    fn sealed(&self, to: NodeId, number: u64) -> Sealed {
        let message = codec::encode(&Message::AskHolder { digest: self.digest });
        Sealed {
            to,
            incarnation: self.harness.node.status().counters["incarnation"],
            number,
            message,
        }
    }

    /// Whether a message from `from` led to an answer.
    fn answers(&mut self, from: NodeId, sealed: Signed<Sealed>) -> bool {
        self.harness.sent.clear();
        self.harness.input(Input::Message { from, message: Message::Carry(sealed.wire()) });
        self.harness.sent.iter().any(|message| matches!(message, Message::Have { .. }))
    }
}

/// The hop may send a message that it has carried again, in another life of the addressee, or
/// altered. None of these counts.
#[test]
fn carried_message_is_taken_once_and_from_its_author() {
    let mut nodes = ThreeNodes::new();
    let (me, hop, cluster) = (nodes.harness.node.id(), nodes.hop, nodes.cluster.genesis.cluster());
    let good = nodes.sealed(me, 7);
    let sign = |body: &Sealed, keys: &KeyPair| Signed::sign(body.clone(), keys, &cluster);
    let author = nodes.author.clone();
    assert!(nodes.answers(hop, sign(&good, &author)), "the question came");
    assert!(!nodes.answers(hop, sign(&good, &author)), "a second time");
    assert!(
        !nodes.answers(hop, sign(&Sealed { number: 6, ..good.clone() }, &author)),
        "an earlier one"
    );
    assert!(
        !nodes.answers(
            hop,
            sign(&Sealed { number: 8, incarnation: good.incarnation + 1, ..good.clone() }, &author)
        ),
        "of another life"
    );
    let elsewhere =
        Signed::sign(Sealed { number: 8, ..good.clone() }, &author, &ClusterId([5; 32]));
    assert!(!nodes.answers(hop, elsewhere), "not signed for this cluster");
    assert!(
        !nodes.answers(
            hop,
            sign(&Sealed { number: 8, ..good.clone() }, &KeyPair::from_seed(&[99; 32]))
        ),
        "a stranger"
    );
    assert!(
        nodes.answers(hop, sign(&Sealed { number: 8, ..good }, &author)),
        "none of these spent the number"
    );
}

/// A beat over a hop would let one node beat for another.
#[test]
fn message_about_a_link_is_not_carried() {
    let mut nodes = ThreeNodes::new();
    let (me, hop, cluster) = (nodes.harness.node.id(), nodes.hop, nodes.cluster.genesis.cluster());
    let beat = Message::Membership(crate::membership::Message::Beat { lag_ms: 60_000, view: 0 });
    let body = Sealed { message: codec::encode(&beat), ..nodes.sealed(me, 7) };
    nodes.answers(hop, Signed::sign(body, &nodes.author.clone(), &cluster));
    assert_eq!(nodes.harness.node.status().counters.get("carried_unknown"), Some(&1));
}

/// A hop never uses another hop. Otherwise a message would circle among three members that each
/// take the next one for the hop.
#[test]
fn message_takes_at_most_one_hop() {
    let mut nodes = ThreeNodes::new();
    let (hop, author, cluster) = (nodes.hop, nodes.author(), nodes.cluster.genesis.cluster());
    let mut carried = |to: NodeId, from: NodeId, number: u64| {
        let sealed = Signed::sign(nodes.sealed(to, number), &nodes.author.clone(), &cluster);
        nodes.answers(from, sealed);
        nodes.harness.sent.iter().any(|message| matches!(message, Message::Carry(_)))
    };
    assert!(carried(hop, author, 1), "from its author to a linked member");
    assert!(!carried(hop, hop, 2), "from another than its author");
    assert!(!carried(NodeId([77; 32]), author, 3), "to no member");
}

impl ThreeNodes {
    /// The author cannot be dialled for `time`, in which the hop says that it is alive.
    fn loses_the_way(&mut self, time: Duration) {
        let author = self.author();
        self.harness.input(Input::LinkDown { peer: author });
        self.fails_to_dial();
        for _ in 0..time.as_millis() / 50 {
            self.harness.run_for(Duration::from_millis(50));
            for message in std::mem::take(&mut self.harness.sent) {
                let answer = match message {
                    Message::Membership(Word::Probe { seq, .. }) => Word::Answer { seq, lag_ms: 0 },
                    Message::Membership(Word::Ask { subject, incarnation, round, .. }) => {
                        Word::Alive { subject, incarnation, round }
                    }
                    _ => continue,
                };
                self.harness
                    .input(Input::Message { from: self.hop, message: Message::Membership(answer) });
            }
        }
    }

    fn fails_to_dial(&mut self) {
        let target = DialTarget::Node(self.author());
        self.harness.input(Input::DialFailed { target, how: DialFailure::TimedOut });
    }

    /// The messages that this node has sealed for the author. Panics if a signature is wrong.
    fn sealed_for_author(&self) -> Vec<(Sealed, Message)> {
        let sealed = self.harness.sent.iter().filter_map(|message| match message {
            Message::Carry(sealed) => {
                Some(sealed.clone().verify(&self.cluster.genesis.cluster()).unwrap())
            }
            _ => None,
        });
        let sealed = sealed.filter(|sealed| {
            NodeId(sealed.by().0) == self.harness.node.id() && sealed.to == self.author()
        });
        sealed
            .map(|sealed| (sealed.body().clone(), codec::decode(&sealed.message).unwrap()))
            .collect()
    }

    fn count(&self, what: &str) -> u64 {
        self.harness.node.status().counters.get(what).copied().unwrap_or_default()
    }

    /// Publishes a workload, for which all members are asked to bid.
    fn asks_all(&mut self, replicas: u32) {
        self.harness.sent.clear();
        let change = {
            let spec =
                SpecForm { name: "more".parse().unwrap(), ..spec(replicas, 32 << 20).into() };
            let spec = Spec::try_from(spec).unwrap();
            let prepare = Command::Prepare {
                name: spec.name.clone(),
                spec: Some(spec.clone()),
                force: false,
            };
            let Reply::Prepared { draft, .. } = self.harness.command(prepare) else {
                panic!("it is prepared")
            };
            self.cluster.sign(draft, &spec.name, Value::workload(&spec))
        };
        self.harness.input(Input::Command {
            request: RequestId(77),
            command: Command::Submit { change: change.raw() },
        });
    }
}

fn is_announce(message: &Message) -> bool {
    matches!(message, Message::Auction(auction::Message::Announce(_)))
}

/// An owner asks a bidder that it cannot dial. One event says that the way is missing, and that
/// messages go over a common member.
#[test]
fn bidder_that_cannot_be_dialled_is_asked_over_a_hop() {
    let mut nodes = ThreeNodes::new();
    nodes.loses_the_way(Duration::from_secs(7));
    let events: Vec<&String> =
        nodes.harness.effects.iter().filter(|asked| asked.contains("no-way")).collect();
    assert!(matches!(events[..], [event] if event.contains("go over")), "{events:?}");
    nodes.asks_all(1);
    let sealed = nodes.sealed_for_author();
    assert!(sealed.iter().any(|(_, message)| is_announce(message)), "{sealed:?}");
    let numbers: Vec<u64> = sealed.iter().map(|(sealed, _)| sealed.number).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
}

/// The question came over a common member. There is no link for the answer either.
#[test]
fn question_over_a_hop_is_answered_over_a_hop() {
    let mut nodes = ThreeNodes::new();
    nodes.loses_the_way(Duration::from_secs(7));
    let (me, hop, cluster, author) =
        (nodes.harness.node.id(), nodes.hop, nodes.cluster.genesis.cluster(), nodes.author.clone());
    let question = nodes.sealed(me, 7);
    nodes.answers(hop, Signed::sign(question, &author, &cluster));
    let sealed = nodes.sealed_for_author();
    assert!(
        sealed.iter().any(|(_, message)| matches!(message, Message::Have { .. })),
        "{sealed:?}"
    );
}

/// The question waited for a link, and the dial fails.
#[test]
fn message_goes_over_a_hop_when_its_dial_fails() {
    let mut nodes = ThreeNodes::new();
    let author = nodes.author();
    nodes.harness.input(Input::LinkDown { peer: author });
    nodes.asks_all(1);
    assert_eq!(nodes.sealed_for_author(), [], "there may be a link in a moment");
    nodes.fails_to_dial();
    assert!(nodes.sealed_for_author().iter().any(|(_, message)| is_announce(message)));
}

/// Numbers grow over restarts. Otherwise a message that is sealed after one would count as sent
/// again.
#[test]
fn message_sealed_after_a_restart_is_taken() {
    let number = |nodes: &mut ThreeNodes| {
        let (now, author, digest) = (nodes.harness.now, nodes.author(), nodes.digest);
        nodes.harness.sent.clear();
        assert!(nodes.harness.node.carry(now, author, &Message::AskHolder { digest }));
        nodes.harness.input(Input::Lag(Duration::ZERO));
        nodes.sealed_for_author()[0].0.number
    };
    let mut nodes = ThreeNodes::new();
    let before = (0..3).map(|_| number(&mut nodes)).max();
    let mut harness = Harness::new(nodes.cluster.founder(saved(&nodes.harness.records)));
    harness.link(nodes.hop);
    let mut nodes = ThreeNodes { harness, ..nodes };
    assert!(Some(number(&mut nodes)) > before);
}

/// The addressee refuted its death meanwhile, and has another incarnation in the same process. A
/// message for the previous one is as good.
#[test]
fn message_sealed_for_the_previous_incarnation_is_taken() {
    let mut nodes = ThreeNodes::new();
    let (me, hop, cluster) = (nodes.harness.node.id(), nodes.hop, nodes.cluster.genesis.cluster());
    let before = nodes.sealed(me, 7);
    nodes.harness.node.persist_incarnation(before.incarnation + 1);
    nodes.harness.run_for(Duration::from_millis(1));
    nodes.harness.input(Input::Lag(Duration::ZERO));
    assert_eq!(nodes.sealed(me, 8).incarnation, before.incarnation + 1, "the set-up");
    assert!(nodes.answers(hop, Signed::sign(before, &nodes.author.clone(), &cluster)));
}

/// Bytes that come over a hop cross the network twice.
#[test]
fn holders_without_a_way_are_asked_last() {
    let mut nodes = ThreeNodes::new();
    let (author, hop, digest) = (nodes.author(), nodes.hop, nodes.digest);
    for node in [author, hop] {
        nodes.harness.input(Input::Message { from: node, message: Message::Have { node, digest } });
    }
    assert_eq!(nodes.harness.node.candidates(&digest), [author, hop], "the set-up: by id");
    nodes.loses_the_way(Duration::from_millis(200));
    assert_eq!(nodes.harness.node.candidates(&digest), [hop, author]);
}

/// A member that floods another one over a hop gets its share of the hop, and no more.
#[test]
fn carrying_for_one_author_is_bounded() {
    let mut nodes = ThreeNodes::new();
    let (hop, author, cluster) = (nodes.hop, nodes.author(), nodes.cluster.genesis.cluster());
    for number in 0..600 {
        let sealed =
            Signed::sign(nodes.sealed(hop, number), &nodes.author.clone(), &cluster).wire();
        nodes.harness.input(Input::Message { from: author, message: Message::Carry(sealed) });
    }
    assert_eq!((nodes.count("carried_on"), nodes.count("carried_refused")), (512, 88));
    nodes.harness.run_for(Duration::from_millis(50));
    assert!(nodes.answers(
        author,
        Signed::sign(nodes.sealed(nodes.harness.node.id(), 601), &nodes.author.clone(), &cluster)
    ));
}

/// This node cannot dial the addressee either, and refuses to carry.
#[test]
fn node_carries_only_to_members_that_it_reaches() {
    let mut nodes = ThreeNodes::new();
    nodes.loses_the_way(Duration::from_secs(1));
    let (hop, author, cluster) = (nodes.hop, nodes.author(), nodes.cluster.genesis.cluster());
    let keys = nodes.cluster.identity(30).keys;
    nodes.harness.sent.clear();
    let sealed = Signed::sign(nodes.sealed(author, 1), &keys, &cluster).wire();
    nodes.harness.input(Input::Message { from: hop, message: Message::Carry(sealed) });
    assert_eq!((nodes.count("carried_on"), nodes.count("carried_refused")), (0, 1));
}

/// A peer with a link can name any number of authors.
#[test]
fn authors_that_are_no_members_leave_no_state() {
    let mut nodes = ThreeNodes::new();
    let (me, hop, cluster) = (nodes.harness.node.id(), nodes.hop, nodes.cluster.genesis.cluster());
    for stranger in 100..120 {
        nodes.answers(
            hop,
            Signed::sign(nodes.sealed(me, 1), &KeyPair::from_seed(&[stranger; 32]), &cluster),
        );
    }
    nodes.harness.node.queues().iter().for_each(|queue| assert!(!queue.is_overfull(), "{queue:?}"));
}
