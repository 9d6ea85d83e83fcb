//! A member that lies.

use shoal_protocol::membership::Message as Word;
use shoal_protocol::model::{KeyPair, NodeId, NodeRecord, Signed};
use shoal_protocol::node::{Command, Message, Reply};
use shoal_protocol::trust;

use super::*;
use crate::sim::event::Event;
use crate::sim::rumour::Rumour;
use crate::sim::world::{derived, facts};

/// A scenario with a liar, each kind in its own test so that a failure names it.
fn lies(lie: &str) {
    let text = format!(
        "nodes 5\nat 1s publish web 4 via n0\nat 3s publish api 3 container via n1\n\
        at 20s lie n3 {lie}\nat 30s publish db 2 via n1\nat 100s kill n1\nat 105s start n1\n\
        at 130s remove db via n2\n"
    );
    let scenario = Scenario::parse(&text).unwrap();
    for seed in 0..2 {
        if let Err(why) = scenario.run(seed, false) {
            panic!("seed {seed}: {text}{why}");
        }
    }
}

#[test]
fn award_to_itself_takes_nothing_that_runs_well() {
    lies("award");
}

#[test]
fn claims_to_everything_leave_what_runs() {
    lies("claims");
}

#[test]
fn votes_of_a_liar_call_nobody_down_that_is_heard() {
    lies("votes");
}

#[test]
fn rulings_without_end_stay_within_their_bounds() {
    lies("rulings");
}

#[test]
fn ghosts_without_an_invite_are_no_members() {
    lies("ghosts");
}

#[test]
fn old_and_altered_statements_change_nothing() {
    lies("replay");
}

#[test]
fn words_about_artifacts_stop_nothing() {
    lies("have");
}

#[test]
fn records_of_a_liar_harm_nobody() {
    lies("texts");
}

#[test]
fn replicas_of_a_liar_are_placed_anew_after_its_end() {
    lies("dumb");
}

/// Devices that the liar let in, with an invite for each. They are no devices at all.
fn friends(sim: &mut Simulation, liar: usize) -> Vec<KeyPair> {
    let own = sim.world.node(liar).unwrap().admission().unwrap();
    let serial = own.change.peek().unwrap().serial + 1;
    let admit = |number| {
        let keys = KeyPair::from_seed(&derived(1, "friend", number));
        let friend = NodeId(keys.public().0);
        let seed = derived(1, "friend's invite", number);
        let invite = sim.world.make_invite(KeyPair::from_seed(&seed));
        let by = &sim.world.devices[liar].identity.keys;
        let genesis = &sim.world.genesis;
        let ticket = trust::ticket(genesis, &invite.keys, by.public(), friend, serial);
        let change = trust::admit(genesis, by, &invite.chain.with(ticket), friend, serial).unwrap();
        let command = Command::Submit { change: change.raw() };
        let reply = sim.operator.ask(&mut sim.world, 0, command).unwrap();
        assert!(matches!(reply, Some(Reply::Accepted { .. })), "{reply:?}");
        keys
    };
    (0..3).map(admit).collect()
}

/// Says to all in the name of a friend that it is up, in this incarnation.
fn shows_up(world: &mut World, liar: usize, friend: &KeyPair, incarnation: u64) {
    let record = NodeRecord {
        counter: incarnation,
        incarnation,
        name: "friend".into(),
        addresses: vec!["/memory/900".into()],
        facts: facts(),
        version: "0".into(),
        ready: true,
        leaving: false,
        no_way_to: Vec::new(),
    };
    let record = Signed::sign(record, friend, &world.genesis.cluster()).wire();
    let rumour = Rumour::new(world.now, Message::Membership(Word::Record(record)));
    for to in 0..world.devices.len() {
        let rumour = rumour.clone();
        world.schedule(world.now, Event::Gossip { from: liar, to, hops: 1, rumour });
    }
}

/// The liar and three devices that it let in long ago are the majority of the observers of every
/// node. All honest ones hear one another over links.
#[test]
fn liar_and_its_friends_call_nobody_down_that_is_heard() {
    let (mut sim, liar) = (cluster(1, 5), 3);
    let friends = friends(&mut sim, liar);
    // Newcomers do not vote beside older members.
    sim.world.run_for(Duration::from_secs(660)).unwrap();
    sim.apply(&"lie n3 votes".parse().unwrap()).unwrap();
    sim.world.devices[liar].liar.as_mut().unwrap().ghosts.clone_from(&friends);
    for second in 0..40 {
        for friend in &friends {
            shows_up(&mut sim.world, liar, friend, 2 + second);
        }
        sim.world.run_for(Duration::from_secs(1)).unwrap();
    }
}

/// Everything has run for long and all know it, so not even the owner of a workload takes a replica
/// of it from a node that runs it well.
#[test]
fn owner_that_lies_takes_nothing_that_is_known_to_run_well() {
    let publish = |n| format!("at 1s publish w{n} 2 via n0\n");
    let all: String = (0..6).map(publish).collect();
    let scenario =
        Scenario::parse(&format!("nodes 5\n{all}at 400s lie n3 award\nat 460s mend\n")).unwrap();
    for seed in 0..3 {
        if let Err(why) = scenario.run(seed, false) {
            panic!("seed {seed}: {why}");
        }
    }
}
