//! Lies about nodes, rulings, artifacts and itself.

use rand_chacha::rand_core::RngCore;
use shoal_protocol::membership::{Message as Word, Notice, Seen, Vote};
use shoal_protocol::model::codec::Bytes;
use shoal_protocol::model::ruling::{JobResult, Tick};
use shoal_protocol::model::{Digest, Facts, NodeRecord, Resources, Ruling, RulingBody, Signed};
use shoal_protocol::node::Message;
use shoal_protocol::rulings::MAX_SEQUENCE;

use crate::sim::network::below;
use crate::sim::world::{World, facts};

/// Rulings of a round: the first ones use up what a member may say at once.
const RULINGS: u64 = 90;
/// Words about artifacts in a round.
const WORDS: u64 = 600;
/// The greatest counter of a record that is accepted.
const MAX_COUNTER: u64 = 1 << 62;

impl World {
    /// Votes and notices that every honest node is down, its ghosts' votes among them.
    pub(super) fn lie_about_nodes(&mut self, device: usize) {
        for other in self.honest() {
            let it = &self.devices[other];
            let seen = [Seen::Refused, Seen::Silent, Seen::Closed];
            let (subject, incarnation) = (it.id, it.disk.incarnation);
            let seen = seen[below(&mut self.rng, 3) as usize];
            let body = Vote { subject, incarnation, seen };
            let vote = self.forge(device, body);
            let cluster = self.genesis.cluster();
            let ghosts = self.liar_of(device).ghosts.iter().take(4);
            let ghosts = ghosts.map(|keys| Signed::sign(body, keys, &cluster).wire());
            let votes = [vote.clone()].into_iter().chain(ghosts).collect();
            let notice = Word::Down(Notice { subject, incarnation, votes }, None);
            self.say_to_all(device, &Message::Membership(Word::Vote(vote)));
            self.say_everywhere(device, Message::Membership(notice));
        }
    }

    /// Rulings about living workloads and others, of every kind, within and beyond the bounds.
    pub(super) fn lie_about_rulings(&mut self, device: usize) {
        let uids: Vec<Digest> =
            self.watch.generations.keys().map(|(uid, _)| *uid).chain([Digest([7; 32])]).collect();
        for _ in 0..RULINGS {
            let Some(uid) = self.draw_one(&uids) else { return };
            let rng = &mut self.rng;
            let huge = [0, 1, self.now, MAX_SEQUENCE, MAX_SEQUENCE + 1, u64::MAX];
            let places = [3, 10_000, 10_001, u32::MAX][below(rng, 4) as usize];
            let body = match below(rng, 6) {
                0 => RulingBody::Autoscale { replicas: places },
                1 => RulingBody::Frontier { below: places },
                2 => RulingBody::RolloutVerdict { is_good: false },
                3 => RulingBody::CronTick(Tick::Started),
                4 => RulingBody::JobResult(JobResult::failed(i32::MIN)),
                _ => {
                    let bytes = vec![1; [1, 64, 65, 2_000][below(rng, 4) as usize]];
                    RulingBody::Other(100 + below(rng, 500) as u16, Bytes(bytes))
                }
            };
            let ruling = Ruling {
                uid,
                generation: Digest([below(rng, 9) as u8; 32]),
                tick: below(rng, 200),
                sequence: huge[below(rng, huge.len() as u64) as usize],
                body,
            };
            let ruling = self.forge(device, ruling);
            self.gossip(device, Message::Ruled(ruling));
        }
    }

    /// Words about artifacts that do not exist, and that it has all that do.
    pub(super) fn lie_about_artifacts(&mut self, device: usize) {
        let node = self.devices[device].id;
        for _ in 0..WORDS {
            let digest = Digest::of(&self.rng.next_u64().to_be_bytes());
            self.gossip(device, Message::Have { node, digest });
        }
        let all = self.devices.iter().flat_map(|it| it.artifacts.iter().copied());
        for digest in all.collect::<std::collections::BTreeSet<_>>() {
            self.say_everywhere(device, Message::Have { node, digest });
        }
    }

    /// Records with control characters, addresses of others, and numbers that no device has.
    pub(super) fn lie_about_itself(&mut self, device: usize) {
        let name = self.devices[device].name.clone();
        let others = self.honest();
        let kind = below(&mut self.rng, 8);
        let liar = self.liar_of(device);
        liar.records += 1;
        let counter = (1 << 40) + liar.records;
        let mut record = NodeRecord {
            counter,
            incarnation: self.devices[device].disk.incarnation,
            name,
            addresses: vec![self.address_of(device)],
            facts: facts(),
            version: "0".into(),
            ready: true,
            leaving: false,
            no_way_to: Vec::new(),
        };
        match kind {
            0 => record.name = "e\u{1b}[31mX\n n9  up".into(),
            1 => record.version = "\u{7}\r".into(),
            2 => {
                record.addresses =
                    others.iter().take(8).map(|other| self.address_of(*other)).collect();
                record.addresses.extend((0..8).map(|n| format!("/memory/{}", 900 + n)));
            }
            3 => {
                let capacity = Resources { memory: 1 << 63, cpu: u32::MAX };
                record.facts = Facts { capacity, ..facts() };
            }
            4 => {
                let capacity = Resources { memory: u64::MAX, cpu: u32::MAX };
                record.facts = Facts { capacity, ..facts() };
            }
            5 => {
                record.no_way_to = others.iter().map(|other| self.devices[*other].id).collect();
                record.no_way_to.sort();
            }
            6 => {
                record.facts.labels.insert("a\u{1b}[2J".into(), "b\n".into());
            }
            // It can say nothing more of itself after the first of these.
            _ if below(&mut self.rng, 4) == 0 => record.counter = MAX_COUNTER,
            _ => record.counter = u64::MAX - below(&mut self.rng, 2),
        }
        let record = self.forge(device, record);
        self.say_everywhere(device, Message::Membership(Word::Record(record)));
    }
}
