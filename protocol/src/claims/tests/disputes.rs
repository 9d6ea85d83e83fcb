//! Several holders of one replica: all but one stop, and never all of them.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use crate::model::out::Outgoing;
use crate::model::{Out, Resources, Time};

use super::*;

/// Nodes that all hold replica 0, a network that may lose and reorder messages, and a clock.
struct World {
    rooms: Vec<Claims>,
    /// Sender, receiver, message. A link keeps the order, but may be replaced by another one, so
    /// the rule must hold without.
    mail: Vec<(usize, usize, Message)>,
    now: Time,
    yields: Vec<(usize, NodeId)>,
    wanted: Vec<Option<Digest>>,
    unreachable: BTreeSet<(usize, usize)>,
    /// Nodes that do not see what they run.
    blind: BTreeSet<usize>,
    /// Whoever awards knows what runs.
    aware: bool,
    /// Nodes that cannot rely on it, each with the rival that it has just met.
    unaware_of: BTreeSet<(usize, usize)>,
}

/// All that is said can be relied on.
const GOOD: Credit<'static> = Credit {
    plausible: &|_, _| true,
    knows: &|_, _| true,
    needs: &|_| Resources { memory: 1, cpu: 1 }.into(),
    offers: &|_, _| true,
    leaves: &|_, _| false,
};

fn all_know(_: &NodeId, _: &ReplicaId) -> bool {
    true
}

impl World {
    /// Node `i` holds replica 0 under `counters[i]`; no node knows of another one yet.
    fn new(counters: &[u64]) -> Self {
        let mut rooms = Vec::new();
        for (i, counter) in counters.iter().enumerate() {
            let n = u8::try_from(i + 1).unwrap();
            let mut room = room(n);
            room.claim(claim(replica(0), n, *counter)).unwrap();
            rooms.push(room);
        }
        let wanted = vec![Some(CURRENT); rooms.len()];
        World {
            rooms,
            mail: Vec::new(),
            now: Time::ZERO,
            yields: Vec::new(),
            wanted,
            unreachable: BTreeSet::new(),
            blind: BTreeSet::new(),
            aware: false,
            unaware_of: BTreeSet::new(),
        }
    }

    fn index_of(node: &NodeId) -> usize {
        (1..=9).position(|n| id(n) == *node).expect("a node of this world")
    }

    /// `to` receives the sheet of `from` as it is now.
    fn send_sheet(&mut self, from: usize, to: usize) {
        let slots: Vec<_> = self.rooms[from]
            .slots()
            .filter(|slot| slot.by() == self.public(from))
            .cloned()
            .collect();
        for slot in slots {
            self.rooms[to].handle_slot(slot, &everyone).unwrap();
        }
    }

    fn public(&self, node: usize) -> crate::model::PublicKey {
        keys(u8::try_from(node + 1).unwrap()).public()
    }

    fn send_all_sheets(&mut self) {
        for from in 0..self.rooms.len() {
            for to in (0..self.rooms.len()).filter(|to| *to != from) {
                self.send_sheet(from, to);
            }
        }
    }

    fn reconsider(&mut self, node: usize) {
        let mut out = Out::new();
        let wanted = self.wanted[node];
        let (blind, aware, unaware_of) = (&self.blind, self.aware, &self.unaware_of);
        let cut: BTreeSet<NodeId> = self
            .unreachable
            .iter()
            .filter(|(at, _)| *at == node)
            .map(|(_, other)| id(u8::try_from(other + 1).unwrap()))
            .collect();
        let credit = Credit { knows: &|node, _| !blind.contains(&Self::index_of(node)), ..GOOD };
        let judge = Judge {
            up: &|other| !cut.contains(other),
            current: &|_| wanted,
            credit,
            stops_first: &|_| false,
            unaware: &|_, rival, _| !aware || unaware_of.contains(&(node, Self::index_of(rival))),
            was_owner: &|_| false,
        };
        let facts = self.rooms[node].reconsider(self.now, &judge, &mut out);
        self.act(node, facts, out);
    }

    fn act(&mut self, node: usize, facts: Vec<Fact>, mut out: Out<Message>) {
        while let Some(outgoing) = out.pop() {
            let Outgoing::Send { to, message, .. } = outgoing else {
                panic!("only sends are expected")
            };
            let to = Self::index_of(&to);
            self.mail.push((node, to, message));
        }
        for fact in facts {
            match fact {
                Fact::Yield { replica, to, .. } => {
                    self.yields.push((node, to));
                    self.rooms[node].release(&replica).expect("it held it");
                }
                Fact::Adopt { replica, token } => {
                    _ = self.rooms[node].adopt(&replica, token).expect("a greater token")
                }
                Fact::Duplicate { .. } | Fact::Doubted { .. } => {}
                Fact::Misbehaved { why, .. } => panic!("an honest node accused: {why}"),
            }
        }
    }

    /// Delivers or loses one message.
    fn deliver(&mut self, choice: usize, lose: bool) {
        if self.mail.is_empty() {
            return;
        }
        let (from, to, message) = self.mail.remove(choice % self.mail.len());
        if lose {
            return;
        }
        let mut out = Out::new();
        let from = id(u8::try_from(from + 1).unwrap());
        let blind = &self.blind;
        let knows = |node: &NodeId, _: &ReplicaId| !blind.contains(&Self::index_of(node));
        let facts = self.rooms[to].handle_message(from, message, &knows, &mut out);
        self.act(to, facts, out);
    }

    /// Delivers all sheets and all messages, ten times.
    fn settle(&mut self) {
        for _ in 0..10 {
            self.send_all_sheets();
            (0..self.rooms.len()).for_each(|node| self.reconsider(node));
            while !self.mail.is_empty() {
                self.deliver(0, false);
            }
            self.now = self.now + Duration::from_secs(5);
        }
    }

    fn holders(&self) -> Vec<usize> {
        (0..self.rooms.len())
            .filter(|node| self.rooms[*node].my_claim(&replica(0)).is_some())
            .collect()
    }

    fn set_phase(&mut self, node: usize, healthy: bool) {
        let failing = Phase::Failing { reason: "x".into(), restarts: 0 };
        let phase = if healthy { Phase::Healthy } else { failing };
        self.rooms[node].set_phase(&replica(0), phase, WallClock(1));
    }
}

/// Two holders are healthy. The one with the older claim is kept and adopts the greater token,
/// without a restart; the other one stops.
#[test]
fn older_of_two_healthy_holders_is_kept() {
    let mut world = World::new(&[3, 7]);
    world.settle();
    assert_eq!(world.holders(), [0]);
    assert_eq!(world.yields, [(1, id(1))]);
    let kept = world.rooms[0].my_claim(&replica(0)).unwrap();
    assert_eq!((kept.token.counter, &kept.phase), (7, &Phase::Healthy), "without a restart");
}

/// The older holder is kept, also after it has adopted the greater token: age is judged by the
/// token of the award.
#[test]
fn keeper_is_the_same_after_it_adopted_a_token() {
    let (older, newer) = (claim(replica(0), 9, 3), claim(replica(0), 1, 7));
    let adopted = Claim { token: newer.token, ..older.clone() };
    for older in [older, adopted] {
        let kept = keeper(&[(id(1), &newer), (id(9), &older)], Some(&CURRENT), GOOD).unwrap();
        assert_eq!(
            kept,
            Keeper { node: id(9), because: KeptBecause::Older { counter: 3, than: 7 } }
        );
    }
}

/// The older claim is still starting, or of another generation than the desired one.
#[test]
fn healthy_current_claim_beats_an_older_one() {
    let newer = claim(replica(0), 1, 7);
    let starting = Claim { phase: Phase::Starting, ..claim(replica(0), 2, 3) };
    let outdated = Claim { generation: OLD, ..claim(replica(0), 2, 3) };
    for older in [starting, outdated] {
        let kept = keeper(&[(id(2), &older), (id(1), &newer)], Some(&CURRENT), GOOD).unwrap();
        assert_eq!(kept, Keeper { node: id(1), because: KeptBecause::Healthy });
    }
    assert_eq!(keeper(&[], None, GOOD), None);
    assert_eq!(keeper(&[(id(1), &newer)], None, GOOD).unwrap().because, KeptBecause::Alone);
}

/// Two holders fail, and none stops. Once the keeper is healthy, the other one stops.
#[test]
fn loser_runs_until_the_keeper_is_healthy() {
    let mut world = World::new(&[3, 7]);
    world.set_phase(0, false);
    world.set_phase(1, false);
    world.settle();
    assert_eq!(world.holders(), [0, 1], "no holder stops for one that does not run");
    world.set_phase(0, true);
    world.settle();
    assert_eq!(world.holders(), [0]);
}

#[test]
fn newer_holder_is_kept_while_the_older_fails() {
    let mut world = World::new(&[3, 7]);
    world.set_phase(0, false);
    world.settle();
    assert_eq!(world.holders(), [1]);
}

/// The older holder's container engine is gone: whatever it claims, it cannot know. The other one,
/// which runs, is kept. With no engine anywhere none stops, for each may serve.
#[test]
fn holder_that_cannot_see_its_replica_is_not_kept() {
    let mut world = World::new(&[3, 7]);
    world.blind = [0, 1].into();
    world.settle();
    assert_eq!(world.holders(), [0, 1], "none stops for one that knows nothing");
    world.blind = [0].into();
    world.settle();
    assert_eq!(world.holders(), [1]);
}

/// A holder has lost its container engine, and the other one does not know that yet: it asks, and
/// goes on when it hears the answer.
#[test]
fn holder_that_cannot_see_its_replica_does_not_call_it_healthy() {
    let mut world = World::new(&[3, 7]);
    world.send_all_sheets();
    world.reconsider(1);
    assert_eq!(world.mail.len(), 1, "it asks");
    world.blind = [0].into();
    world.deliver(0, false);
    assert!(matches!(world.mail[0].2, Message::Keeping { healthy: false, .. }));
    world.deliver(0, false);
    assert_eq!(world.holders(), [0, 1]);
}

/// The keeper is not up. The other holder asks nothing, sets no timer and runs on.
#[test]
fn holder_that_is_not_up_makes_none_yield() {
    let mut world = World::new(&[3, 7]);
    world.unreachable = [(1, 0)].into();
    world.send_all_sheets();
    world.reconsider(1);
    assert!(world.mail.is_empty());
    assert_eq!(world.rooms[1].poll_timeout(), None);
    assert_eq!(world.holders(), [0, 1]);
}

/// The pause after each unanswered question doubles, up to five seconds.
#[test]
fn silent_keeper_is_asked_less_and_less_often() {
    let mut world = World::new(&[3, 7]);
    world.send_all_sheets();
    let mut waits = Vec::new();
    for _ in 0..8 {
        world.reconsider(1);
        world.reconsider(1); // A spurious call asks nothing.
        assert_eq!(world.mail.len(), 1);
        world.deliver(0, true);
        let (at, _) = world.rooms[1].poll_timeout().expect("it asks again");
        waits.push(at.since(world.now).as_millis());
        world.now = at;
    }
    assert_eq!(waits, [250, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
    assert_eq!(world.holders(), [0, 1]);
}

/// A rival whose award may have been made unaware is asked until it answers, however long that
/// takes: the award does not become a lie meanwhile. One that comes later is one.
#[test]
fn award_is_judged_once() {
    let mut world = World::new(&[3, 7]);
    world.send_all_sheets();
    world.reconsider(1);
    world.deliver(0, true);
    world.aware = true;
    world.now = world.now + Duration::from_secs(600);
    // Its link was gone meanwhile.
    world.unreachable.insert((1, 0));
    world.reconsider(1);
    world.unreachable.clear();
    world.reconsider(1);
    while !world.mail.is_empty() {
        world.deliver(0, false);
    }
    assert_eq!((world.holders(), &world.yields), (vec![0], &vec![(1, id(1))]));

    let mut later = World::new(&[3, 7]);
    later.aware = true;
    later.send_all_sheets();
    later.reconsider(1);
    let asks = later.mail.iter().any(|(_, _, it)| matches!(it, Message::AskKeeper { .. }));
    assert!(!asks, "a holder that runs well asks a liar");
}

/// The older holder was away while another device had its identity, so the newer one doubts it:
/// of two honest holders, one goes. A node that doubts the other one, too, stays.
#[test]
fn honest_holder_that_is_doubted_yields() {
    let mut world = World::new(&[3, 7]);
    world.unaware_of = [(0, 1)].into();
    world.aware = true;
    world.settle();
    assert_eq!((world.holders(), &world.yields), (vec![1], &vec![(0, id(2))]));

    let mut both = World::new(&[3, 7]);
    both.aware = true;
    both.settle();
    assert_eq!((both.holders(), both.yields.len()), (vec![0, 1], 0));
}

/// A holder that fails does not make a healthy one stop by saying that it stays.
#[test]
fn failing_holder_that_insists_gets_nothing() {
    let mut world = World::new(&[3, 7]);
    world.set_phase(1, false);
    world.send_all_sheets();
    let unasked = Message::Keeping {
        replica: replica(0),
        question: u64::MAX,
        generation: CURRENT,
        healthy: true,
    };
    world.mail.push((1, 0, unasked));
    world.deliver(0, false);
    world.settle();
    assert_eq!(world.holders(), [0]);
}

/// Ten duplicates, and three questions at a time: after four rounds each was asked about.
#[test]
fn questions_are_bounded_and_none_starves() {
    let config = Config { max_asks_at_once: 3, ..Config::default() };
    let mut b = Claims::new(config, id(2), keys(2), CLUSTER, 0);
    let mut a = room(1);
    for index in 0..10 {
        a.claim(claim(replica(index), 1, 1)).unwrap();
        b.claim(claim(replica(index), 2, 2)).unwrap();
    }
    a.slots().for_each(|slot| _ = b.handle_slot(slot.clone(), &everyone).unwrap());
    let mut asked = BTreeSet::new();
    let mut now = Time::ZERO;
    for _ in 0..4 {
        let mut out = Out::new();
        let judge = Judge {
            up: &|_| true,
            current: &|_| Some(CURRENT),
            credit: GOOD,
            stops_first: &|_| false,
            unaware: &|_, _, _| true,
            was_owner: &|_| false,
        };
        b.reconsider(now, &judge, &mut out);
        let mut count = 0;
        while let Some(Outgoing::Send { message: Message::AskKeeper { replica, .. }, .. }) =
            out.pop()
        {
            asked.insert(replica);
            count += 1;
        }
        assert!(count <= 3);
        now = b.poll_timeout().expect("more to ask").0;
    }
    assert_eq!(asked.len(), 10);
}

/// A holder yields to an answer by the keeper to its latest question, and only once.
#[test]
fn outdated_or_foreign_answer_stops_none() {
    let mut world = World::new(&[3, 7]);
    world.send_all_sheets();
    world.reconsider(1);
    let answer = |question| Message::Keeping {
        replica: replica(0),
        question,
        generation: CURRENT,
        healthy: true,
    };
    let mut out = Out::new();
    assert_eq!(world.rooms[1].handle_message(id(3), answer(0), &all_know, &mut out), []);
    assert_eq!(world.rooms[1].handle_message(id(1), answer(17), &all_know, &mut out), []);
    let facts = world.rooms[1].handle_message(id(1), answer(0), &all_know, &mut out);
    assert!(matches!(facts.as_slice(), [Fact::Yield { .. }]), "{facts:?}");
    assert_eq!(world.rooms[1].handle_message(id(1), answer(0), &all_know, &mut out), [], "once");
}

/// Two healthy holders with different views take each other for the keeper and ask at the same
/// time. Without the rule that an answer voids the own question, both would stop.
#[test]
fn two_holders_that_defer_to_each_other_do_not_both_stop() {
    let mut world = World::new(&[3, 7]);
    // Node 0 asks node 1 while its own replica fails. It recovers, and node 1 sees that: node 1
    // takes the older node 0 for the keeper, and asks it.
    world.set_phase(0, false);
    world.send_sheet(1, 0);
    world.reconsider(0);
    world.set_phase(0, true);
    world.send_sheet(0, 1);
    world.reconsider(1);
    assert_eq!(world.mail.len(), 2, "both ask");
    while !world.mail.is_empty() {
        world.deliver(0, false); // Both questions, then both answers.
    }
    assert_eq!(world.holders(), [0, 1], "none stops on an answer from before its own");
    world.settle();
    assert_eq!(world.holders(), [0]);
}

/// A question mentions a token far above all that were seen. The keeper does not adopt it, and
/// reports the asker. It adopts a token that is a little ahead.
#[test]
fn token_far_ahead_is_not_adopted_from_a_question() {
    let mut a = room(1);
    a.claim(claim(replica(0), 1, 3)).unwrap();
    let ask = |counter| Message::AskKeeper {
        replica: replica(0),
        token: Token { counter, by: id(7), incarnation: 1 },
        question: 1,
    };
    let mut out = Out::new();
    let facts = a.handle_message(id(7), ask(u64::MAX), &all_know, &mut out);
    assert!(matches!(facts.as_slice(), [Fact::Misbehaved { .. }]), "{facts:?}");
    assert_eq!(out.pop(), None);
    let facts = a.handle_message(id(7), ask(4), &all_know, &mut out);
    assert_eq!(
        facts,
        [Fact::Adopt {
            replica: replica(0),
            token: Token { counter: 4, by: id(7), incarnation: 1 }
        }]
    );
}

#[derive(Debug, Clone)]
enum Step {
    SendSheet(usize, usize),
    Reconsider(usize),
    Deliver(usize),
    Lose(usize),
    Phase(usize, bool),
    /// The replica fails for a moment, and the node asks in that moment.
    Flap(usize),
    Want(usize, bool),
    /// The node sees what it runs, or no longer does.
    See(usize, bool),
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0usize..4, 0usize..4).prop_map(|(a, b)| Step::SendSheet(a, b)),
        4 => (0usize..4).prop_map(Step::Reconsider),
        8 => (0usize..16).prop_map(Step::Deliver),
        1 => (0usize..16).prop_map(Step::Lose),
        2 => (0usize..4, any::<bool>()).prop_map(|(a, b)| Step::Phase(a, b)),
        3 => (0usize..4).prop_map(Step::Flap),
        1 => (0usize..4, any::<bool>()).prop_map(|(a, b)| Step::Want(a, b)),
        1 => (0usize..4, any::<bool>()).prop_map(|(a, b)| Step::See(a, b)),
        2 => (0u64..6_000).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 300,
        ..ProptestConfig::default()
    })]

    /// Views differ, messages are lost, replicas fail: never have all holders stopped. Once all
    /// have the same view, one of the holders is left.
    #[test]
    fn some_holder_always_runs_and_finally_exactly_one(
        counters in proptest::collection::vec(1u64..4, 2..5),
        steps in proptest::collection::vec(any_step(), 0..150),
    ) {
        let mut world = World::new(&counters);
        let count = counters.len();
        for step in steps {
            match step {
                Step::SendSheet(a, b) if a % count != b % count => {
                    world.send_sheet(a % count, b % count);
                }
                Step::SendSheet(..) => {}
                Step::Reconsider(a) => world.reconsider(a % count),
                Step::Deliver(choice) => world.deliver(choice, false),
                Step::Lose(choice) => world.deliver(choice, true),
                Step::Phase(a, healthy) => world.set_phase(a % count, healthy),
                Step::Flap(a) => {
                    world.set_phase(a % count, false);
                    world.reconsider(a % count);
                    world.set_phase(a % count, true);
                }
                Step::Want(a, old) => {
                    world.wanted[a % count] = Some(if old { OLD } else { CURRENT });
                }
                Step::See(a, true) => _ = world.blind.remove(&(a % count)),
                Step::See(a, false) => _ = world.blind.insert(a % count),
                Step::Wait(ms) => world.now = world.now + Duration::from_millis(ms),
            }
            prop_assert!(!world.holders().is_empty(), "all stopped: {:?}", world.yields);
        }
        world.wanted = vec![Some(CURRENT); count];
        world.blind.clear();
        (0..count).for_each(|node| world.set_phase(node, true));
        let before = world.holders();
        world.settle();
        let after = world.holders();
        prop_assert_eq!(after.len(), 1);
        prop_assert!(before.contains(&after[0]));
    }
}
