//! Tries every history of three nodes within bounds: the auction and the hand-over of claims, with
//! any message lost, any deadline late, any node down.
//!
//! The simulator draws histories at random; this checker tries all of them. It runs the real core,
//! `protocol::node::Node`. A state is three nodes with their disks and runtimes, and the messages
//! under way, which arrive in any order. From each state every possible step is taken (`world`
//! lists them), equal states are visited once (`digest`), and each state is checked against the
//! laws (`laws`).
//!
//! **Time** does not pass while something is under way; then all clocks advance to the next
//! deadline. A message, a disk or a runtime that takes longer than that is a fault (`lates`).
//!
//! **Left out:** the detector and repair start nothing by themselves. A notice that a node is down
//! carries real votes, and is accepted or refuted by the real rules. A slot whose gossip was lost
//! arrives within five seconds. The counters and timers of these two rooms are no part of a state,
//! nor is randomness, which only orders questions here. At most one node is down at a time. There
//! is one workload, of one replica, or of two that are updated, and each node has room for one.
//! When a ruling becomes durable is left out, too: it is at once.
//!
//! **The check was tested** by breaking the code, one thing at a time. The table shows the law that
//! was found broken, the number of steps to that state, and of states visited until then:
//!
//! | broken | found as | steps | states |
//! | --- | --- | --- | --- |
//! | gossip of a claim does not wait for the disk | written before said | 9 | 110 |
//! | a loser stops though the keeper is not healthy | yields to the healthy | 10 | 3,279 |
//! | what is reserved is offered again | fits | 8 | 2,540 |
//! | a release frees nothing | rests well | 26 | 4,519 |
//! | an award is taken under a counter that was seen | new counter | 10 | 11,432 |
//! | a loser does not ask | 2,438 states never come to rest | - | 2,696 |
//! | all replicas have their turn at once | one at a time | 5 | 2,499 |
//!
//! It does not find errors that need two generations of a workload (two holders that would both
//! yield), nor a missing check that another check covers.
//!
//! With other bounds, by hand (`bounds` names the faults):
//!
//! ```text
//! SHOAL_MODEL=running,crashes=1,losses=1 \
//!     cargo test --release -p shoal-testnet --test model -- --ignored --nocapture
//! ```
#![expect(clippy::print_stdout, reason = "figures, for a run by hand")]

mod bounds;
mod cache;
mod device;
mod digest;
mod histories;
mod laws;
mod setup;
mod transition;
mod work;
mod world;

use histories::check;

#[test]
fn workload_is_placed_though_any_message_is_lost() {
    check("wished,losses=1");
}

#[test]
fn workload_is_placed_though_any_message_comes_twice() {
    check("wished,repeats=1");
}

#[test]
fn workload_is_placed_though_any_deadline_comes_early() {
    check("wished,lates=1");
}

#[test]
fn workload_is_placed_though_a_replica_fails() {
    check("wished,failures=1");
}

/// The holder, the owner or the third node loses power, and restarts at any moment or never.
#[test]
fn replica_outlives_any_node_that_may_return_any_time() {
    check("running,crashes=1");
}

/// A live node is declared down and another may take over; then one of both must yield, whichever
/// message is lost.
#[test]
fn replica_is_held_once_despite_a_false_fall_and_a_loss() {
    check("running,suspicions=1,losses=1");
}

/// The owner is alive and has announced; its heir takes it for dead and announces as well. All
/// orders of the first fourteen steps: beyond them lie millions of states.
#[test]
fn two_owners_at_once_award_nothing_twice() {
    check("asked,suspicions=1,steps=14");
}

/// A new version of two replicas that are replaced one by one: never are two replaced at once, one
/// of both serves at all times, and in the end both run it.
#[test]
fn two_replicas_are_updated_one_by_one_in_all_orders() {
    check("updating");
}

/// The same while a node loses power. All orders of the first nine steps: beyond them lie millions
/// of states.
#[test]
fn update_of_two_replicas_outlives_a_crash() {
    check("updating,crashes=1,steps=9");
}

/// Takes minutes or hours: see above.
#[test]
#[ignore = "by hand: takes as long as the bounds in SHOAL_MODEL say"]
fn scenario_from_the_environment() {
    check(
        &std::env::var("SHOAL_MODEL")
            .expect("SHOAL_MODEL says what to check, as in running,crashes=1,losses=1"),
    );
}
