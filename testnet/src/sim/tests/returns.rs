//! Nodes that were away, and what they bring back.

use super::*;

/// Two nodes came back while a third woke up that had missed what happened. They were in step with both, and so thought that they
/// knew all. A fourth, slow to answer, had taken over what they had run; what it ran well went back for nothing.
#[test]
fn who_returns_hears_out_those_it_has_not_compared_with() {
    for seed in 0..20 {
        let mut play = cluster(seed, 4);
        play.publish(0, &workload("web", 1, 4)).unwrap();
        play.settle().unwrap();
        play.world.pause(0, 15_000_000);
        (1..3).for_each(|device| play.world.kill(device));
        play.world.run_for(Duration::from_secs(15)).unwrap();
        let before = invariants::healthy_alone(&play.world);
        play.world.devices[3].pulse.slowness = 20_000;
        (1..3).for_each(|device| play.world.start(device, false, &[]));
        play.world.run_for(Duration::from_millis(300)).unwrap();
        play.world.devices[3].pulse.slowness = 0;
        play.settle().unwrap();
        let after = invariants::healthy_alone(&play.world);
        assert!(
            before.iter().all(|(replica, place)| after.get(replica) == Some(place)),
            "seed {seed}: {before:?} {after:?}"
        );
    }
}
