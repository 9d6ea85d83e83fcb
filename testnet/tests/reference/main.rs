//! Random histories beside a small reference.

mod draw;
mod run;
mod state;
mod step;
mod trial;
mod user;

use state::State;
use step::{Request, Step, Twist, Wish};

/// Histories in the gate, and the seed from which they are drawn: the gate never meets new ones.
const GATE: (u32, u64) = (120, 1);

#[test]
fn whatever_is_done_nodes_say_and_show_what_a_person_who_watched_expects() {
    let number = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(text.parse().unwrap_or_else(|why| panic!("{name}={text}: {why}")))
    };
    let cases = number("SHOAL_CASES").map(|cases| u32::try_from(cases).expect("not so many"));
    let fresh = || std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let seed = number("SHOAL_SEED").unwrap_or_else(|| if cases.is_some() { fresh() } else { GATE.1 });
    run::random(seed, cases.unwrap_or(GATE.0)).unwrap_or_else(|why| panic!("{why}"));
}

/// A device is awarded several places at once, and its disk turns out to be full before the claims are on it. It let go of one after the
/// other, and with the first word of that told of the others, which were never written: a restart would not know of them.
#[test]
#[ignore = "known: a disk that fails before several claims are on it"]
fn a_disk_that_is_full_when_claims_come_makes_nobody_tell_of_them() {
    let wish = Wish { version: 1, replicas: 4, is_huge: false };
    let request = Request::Publish { wish, force: false };
    let steps = [Step::Ask { name: "db", request, via: 2, twist: Twist::None }, Step::Fill(0)];
    for seed in 0..100 {
        run::one(&State::new(seed, 3), &steps).unwrap_or_else(|why| panic!("{why}"));
    }
}
