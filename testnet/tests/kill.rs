//! A kill with real processes. `cargo testnet kill --times 20` repeats it.

use shoal_testnet::kill;
use shoal_testnet::real::Options;
use shoal_testnet::workspace::{Profile, Workspace};

/// The node that runs the only replica of a workload is killed. A survivor must answer requests,
/// hold the replica alone, and name the auction that it won.
#[test]
fn killed_nodes_workload_answers_from_a_survivor() {
    let workspace = Workspace::find().expect("the test runs from a checkout");
    let options = Options::build(&workspace, Profile::Dev)
        .expect("the daemon and the example component can be built");
    let outcome = kill::once(&options).unwrap_or_else(|error| panic!("{error:#}"));
    assert_ne!(outcome.survivor, outcome.victim);
    assert_eq!(outcome.auction.replica, "hello/0");
    assert!(
        !outcome.auction.why.is_empty() && !outcome.auction.outcome.is_empty(),
        "{:?}",
        outcome.auction
    );
}
