//! A member that lies.

use super::*;

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
