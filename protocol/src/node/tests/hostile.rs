//! A member without an operator's key (a stolen device) against one
//! honest node: what it may say, and what comes of it.

mod departed;
mod floods;
mod ghosts;
mod takeover;
mod votes;

use super::harness::*;
use super::*;
use crate::membership::{Message as Word, Seen, Vote};
use crate::model::{Claim, Key, NodeRecord, Phase, ReplicaId, Slot, Token, Unverified};

/// The answer of a liar to each question: it has whatever it is asked for, and is healthy.
struct Liar {
    keys: KeyPair,
    id: NodeId,
    beat_at: Time,
}

impl Liar {
    /// Admitted by the honest node, linked to it and up for it.
    fn new(cluster: &harness::Cluster, honest: &mut Harness, seed: u8) -> Liar {
        let liar = Liar::unlinked(cluster, honest, KeyPair::from_seed(&[seed; 32]));
        honest.link(liar.id);
        liar.says_hello(cluster, honest);
        liar
    }

    /// Admitted by the honest node, with an invite for many, and no more.
    fn unlinked(cluster: &harness::Cluster, honest: &mut Harness, keys: KeyPair) -> Liar {
        let id = NodeId(keys.public().0);
        let at = trust::serial_at(NOW) + 1;
        let by = cluster.identity(10).keys;
        let change = cluster.admitted_by(&by, &cluster.invite(2, 10_000), id, at).raw();
        let message = Message::Changed { change, holder: None };
        honest.input(Input::Message { from: id, message: message.clone() });
        // A stranger's word does not count: the honest node hears it from itself.
        honest.gossip(honest.node.id(), message);
        Liar { keys, id, beat_at: Time::ZERO }
    }

    fn says_hello(&self, cluster: &harness::Cluster, honest: &mut Harness) {
        let record = Some(self.record(cluster, 1, "liar"));
        let hello = Word::Hello { record, settled: true };
        honest.input(Input::Message { from: self.id, message: Message::Membership(hello) });
    }

    fn record(
        &self,
        cluster: &harness::Cluster,
        counter: u64,
        name: &str,
    ) -> Unverified<NodeRecord> {
        let record = NodeRecord {
            counter,
            incarnation: 1,
            name: name.into(),
            addresses: vec!["/ip4/127.0.0.1/tcp/9".into()],
            facts: facts(),
            version: "0".into(),
            ready: true,
            leaving: false,
            no_way_to: Vec::new(),
        };
        self.sign(cluster, record)
    }

    fn vote(&self, cluster: &harness::Cluster, subject: NodeId) -> Unverified<Vote> {
        self.sign(cluster, Vote { subject, incarnation: 1, seen: Seen::Refused })
    }

    fn sign<T: crate::model::Signable>(&self, cluster: &harness::Cluster, it: T) -> Unverified<T> {
        Signed::sign(it, &self.keys, &cluster.genesis.cluster()).wire()
    }

    fn says(&self, honest: &mut Harness, message: Message) {
        honest.input(Input::Message { from: self.id, message });
    }

    /// Lets time pass, in which it stays in touch and tells the honest node what that wants to
    /// hear.
    fn lives(&mut self, honest: &mut Harness, time: Duration) {
        let end = honest.now + time;
        while honest.now < end {
            honest.run_for(Duration::from_millis(100));
            if honest.now >= self.beat_at {
                self.beat_at = honest.now + Duration::from_millis(300);
                self.says(honest, Message::Membership(Word::Beat { lag_ms: 0, view: 0 }));
            }
            for (to, message) in std::mem::take(&mut honest.mail) {
                if let (true, Some(answer)) = (to == self.id, self.answer(message)) {
                    self.says(honest, answer);
                }
            }
        }
    }

    fn answer(&self, message: Message) -> Option<Message> {
        match message {
            Message::Membership(Word::Probe { seq, .. }) => {
                Some(Message::Membership(Word::Answer { seq, lag_ms: 0 }))
            }
            Message::Claims(claims::Message::AskKeeper { replica, question, .. }) => {
                Some(Message::Claims(claims::Message::Keeping {
                    replica,
                    question,
                    generation: spec(1, 32 << 20).revision(),
                    healthy: true,
                }))
            }
            _ => None,
        }
    }
}

/// The state that the honest node shows of a node.
fn state(honest: &Harness, node: NodeId) -> String {
    let shown = honest.node.nodes().into_iter().find(|it| it.id == node.to_string());
    shown.map(|it| it.state).unwrap_or_default()
}
