//! Random histories beside a small reference: real cores on simulated devices, and a person who
//! watches.
//!
//! A history is a row of steps: users ask for things through any device, also for what must be
//! refused, and devices are killed, cut off, paused, filled, lost and added. After each step the
//! answer is held against what the reference says, and so is what every node shows. In the end all
//! faults end, and then what was promised must be there: shown by every node, run as often as was
//! wished for, and reached from everywhere. All the while the world checks what it always checks,
//! claims before words and disks before answers among it.
//!
//! | file | what |
//! | --- | --- |
//! | `state` | **the reference: what may be answered, shown and there in the end**, by rules that fit on a page or two |
//! | `step` | what can be done, in words |
//! | `draw` | which steps make sense when, and how often each comes |
//! | `trial` | the cluster beside the reference: does the steps, compares |
//! | `user` | what the command line does |
//! | `run` | from a seed to histories, and from one that fails to a short one |
//!
//! **What the reference leaves open:** of what a device may have heard and of what was not answered
//! it allows both. Who was cut off has heard nothing; who could be reached for a minute and a half
//! has heard all. Clocks are honest, so that of two writes the later one counts; that a wrong clock
//! does no harm is for `cargo testnet sim`, as are clones, bad weather and runtimes that fail.
//!
//! By hand, more of them and new ones; without `SHOAL_SEED` the seed is fresh, and a failure names
//! it:
//!
//! ```text
//! SHOAL_CASES=1000 SHOAL_SEED=7 cargo test --release -p shoal-testnet --test reference
//! ```

mod draw;
mod run;
mod state;
mod step;
mod trial;
mod user;

use state::State;
use step::{Request, Step, Twist, Workload};

/// Histories in the gate, and the seed from which they are drawn: the gate never meets new ones.
const GATE: (u32, u64) = (150, 5);

#[test]
fn random_histories_match_the_reference() {
    let number = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok()?;
        Some(text.parse().unwrap_or_else(|why| panic!("{name}={text}: {why}")))
    };
    let cases = number("SHOAL_CASES").map(|cases| u32::try_from(cases).expect("not so many"));
    let fresh = || std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs());
    let seed =
        number("SHOAL_SEED").unwrap_or_else(|| if cases.is_some() { fresh() } else { GATE.1 });
    run::random(seed, cases.unwrap_or(GATE.0)).unwrap_or_else(|why| panic!("{why}"));
}

/// A device is awarded several places at once, and its disk turns out to be full before the claims
/// are on it. It let go of one after the other, and with the first word of that told of the others,
/// which were never written: a restart would not know of them.
#[test]
fn full_disk_makes_no_node_tell_of_unwritten_claims() {
    let workload = Workload { version: 1, replicas: 4, is_huge: false };
    let request = Request::Publish { workload, force: false };
    let steps = [Step::Ask { name: "db", request, via: 2, twist: Twist::None }, Step::Fill(0)];
    for seed in 0..100 {
        run::run_one(&State::new(seed, 3), &steps).unwrap_or_else(|why| panic!("{why}"));
    }
}
