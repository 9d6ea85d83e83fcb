//! Votes of members about a node that is up.

use super::*;
use crate::membership::Notice;

fn notice(votes: Vec<Unverified<Vote>>, subject: NodeId) -> Message {
    Message::Membership(Word::Down(Notice { subject, incarnation: 1, votes }, None))
}

/// A member and its ghost were the majority of observers of a node that the judge had a live link
/// to. All that this node ran was placed again.
#[test]
fn live_link_beats_the_votes_of_others() {
    let cluster = cluster();
    let mut honest = Harness::new(cluster.founder(Saved::default()));
    let liar = Liar::new(&cluster, &mut honest, 11);
    let mut victim = Liar::new(&cluster, &mut honest, 50);
    victim.lives(&mut honest, Duration::from_secs(2));
    assert_eq!(state(&honest, victim.id), "up");
    let ghost = Liar::unlinked(&cluster, &mut honest, KeyPair::from_seed(&[51; 32]));
    honest.gossip(liar.id, Message::Membership(Word::Record(ghost.record(&cluster, 1, "ghost"))));
    let votes = vec![liar.vote(&cluster, victim.id), ghost.vote(&cluster, victim.id)];
    honest.gossip(liar.id, notice(votes.clone(), victim.id));
    assert_eq!(state(&honest, victim.id), "up");
    victim.lives(&mut honest, Duration::from_secs(10));
    assert_eq!(state(&honest, victim.id), "up");
    // Once it hears nothing either, it believes them.
    honest.run_for(Duration::from_secs(20));
    honest.gossip(liar.id, notice(votes, victim.id));
    assert_eq!(state(&honest, victim.id), "down");
}

/// Nodes that were admitted a moment ago outvoted those of years.
#[test]
fn newcomers_do_not_vote_beside_older_members() {
    let cluster = cluster();
    let mut before = Harness::new(cluster.founder(Saved::default()));
    let (mut old, mut victim) =
        (Liar::new(&cluster, &mut before, 11), Liar::new(&cluster, &mut before, 50));
    old.lives(&mut before, Duration::from_secs(1));
    // The members on its disk are older than its process.
    let mut honest = Harness::new(cluster.founder(saved(&before.records)));
    for member in [&old, &victim] {
        honest.link(member.id);
        member.says_hello(&cluster, &mut honest);
    }
    victim.lives(&mut honest, Duration::from_secs(1));
    honest.input(Input::LinkDown { peer: victim.id });
    let ghosts: Vec<Liar> = (60..66)
        .map(|seed| Liar::unlinked(&cluster, &mut honest, KeyPair::from_seed(&[seed; 32])))
        .collect();
    for ghost in &ghosts {
        let record = ghost.record(&cluster, 1, "ghost");
        honest.gossip(old.id, Message::Membership(Word::Record(record)));
    }
    let votes: Vec<_> = ghosts.iter().map(|ghost| ghost.vote(&cluster, victim.id)).collect();
    honest.gossip(old.id, notice(votes.clone(), victim.id));
    assert_eq!(state(&honest, victim.id), "up", "six ghosts say so");
    let votes = votes.into_iter().chain([old.vote(&cluster, victim.id)]).collect();
    honest.gossip(old.id, notice(votes, victim.id));
    old.lives(&mut honest, Duration::from_secs(1));
    assert_eq!(state(&honest, victim.id), "down", "an older member says so");
}
