//! Messages over one common member: what is taken, and what the member in the middle cannot do.

use super::*;
use crate::model::codec;

/// A node with the bytes of a workload, a member that asks whether it has them, and one that carries the question.
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
        Three { author: cluster.identity(20).keys, cluster, bottle, hop, digest: Digest::of(b"bytes") }
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

/// The member that carries keeps what it carried, and plays it again, or in another life of the addressee, or changed.
#[test]
fn carried_messages_are_heard_once_and_from_their_author() {
    let mut it = Three::new();
    let (me, hop, cluster) = (it.bottle.node.id(), it.hop, it.cluster.genesis.cluster());
    let good = it.sealed(me, 7);
    let sign = |body: &Sealed, keys: &KeyPair| Signed::sign(body.clone(), keys, &cluster);
    let author = it.author.clone();
    assert!(it.answers(hop, sign(&good, &author)), "the question came");
    assert!(!it.answers(hop, sign(&good, &author)), "a second time");
    assert!(!it.answers(hop, sign(&Sealed { number: 6, ..good.clone() }, &author)), "an earlier one");
    assert!(
        !it.answers(hop, sign(&Sealed { number: 8, life: good.life + 1, ..good.clone() }, &author)),
        "of another life"
    );
    let elsewhere = Signed::sign(Sealed { number: 8, ..good.clone() }, &author, &ClusterId([5; 32]));
    assert!(!it.answers(hop, elsewhere), "not signed for this cluster");
    assert!(
        !it.answers(hop, sign(&Sealed { number: 8, ..good.clone() }, &KeyPair::from_seed(&[99; 32]))),
        "a stranger"
    );
    assert!(it.answers(hop, sign(&Sealed { number: 8, ..good }, &author)), "none of these spent the number");
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

/// A hop never asks another hop: with three members that believe in one another a message would go round for ever.
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
