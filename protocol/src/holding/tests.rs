use std::time::Duration;

use super::*;
use crate::model::Resources;
use crate::model::{AuctionId, ClusterId, Digest, KeyPair, NodeId, Phase, Place, Token};

const OLD: Revision = Digest([2; 32]);
const NEW: Revision = Digest([3; 32]);
const SMALL: Resources = Resources { memory: 10, cpu: 1 };
const LARGE: Resources = Resources { memory: 30, cpu: 2 };
const REPLICA: ReplicaId = ReplicaId { uid: Digest([1; 32]), place: Place::Ordinal(0) };
const LATE: Duration = Duration::from_millis(500);

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(1_000 + seconds)
}

fn award(revision: Revision) -> Signed<Award> {
    let keys = KeyPair::from_seed(&[7; 32]);
    let owner = NodeId(keys.public().0);
    let award = Award {
        auction: AuctionId { owner, number: 1 },
        replica: REPLICA,
        generation: revision,
        token: Token { counter: 1, by: owner, incarnation: 1 },
        to: owner,
    };
    Signed::sign(award, &keys, &ClusterId([9; 32]))
}

/// A claim that is on its way to disk, in batch 5.
fn won() -> Holding {
    let mut holding = Holding::new(Config::default());
    holding.claim(at(0), award(OLD), SMALL, PersistId(5));
    holding
}

/// A replica of the old revision that runs and was reported healthy.
fn ready() -> Holding {
    let mut holding = won();
    holding.claims_written(at(0), PersistId(5), LATE);
    assert_eq!(holding.next(&REPLICA, &Bytes::Ready), Next::Run { after: None });
    assert!(holding.ready(at(0), &REPLICA, OLD));
    holding.reported(&REPLICA);
    holding
}

fn missing(tries: u32) -> Bytes {
    Bytes::Missing { tries, why: "no holder".into() }
}

/// A restarted node knows only claims that are on disk. So a replica does not run before its claim
/// is there, while its bytes may be fetched, and the order to run it may wait with the claim.
#[test]
fn claim_runs_only_once_it_is_on_disk() {
    let mut holding = won();
    let writing = Some(award(OLD).token);
    assert_eq!(holding.held(&REPLICA), Some(Held { writing }));
    assert_eq!(holding.next(&REPLICA, &missing(0)), Next::Fetch);
    assert_eq!(holding.claims_written(at(0), PersistId(4), LATE), []);
    let after = Some(PersistId(5));
    assert_eq!(holding.next(&REPLICA, &Bytes::Ready), Next::Run { after });
    assert_eq!(holding.next(&REPLICA, &Bytes::Ready), Next::Nothing, "it was ordered once");
    assert_eq!(holding.claims_written(at(0), PersistId(5), LATE), [award(OLD)]);
    assert_eq!(holding.held(&REPLICA), Some(Held { writing: None }));
    assert_eq!(holding.next(&REPLICA, &Bytes::Ready), Next::Nothing, "it was ordered before");
    assert!(holding.ready(at(0), &REPLICA, OLD));
}

/// The bytes come after the claim was written: the order does not wait.
#[test]
fn written_claim_runs_once_its_bytes_are_there() {
    let mut holding = won();
    holding.claims_written(at(0), PersistId(5), LATE);
    assert_eq!(holding.next(&REPLICA, &missing(0)), Next::Fetch);
    assert_eq!(holding.next(&REPLICA, &Bytes::Ready), Next::Run { after: None });
}

/// Another revision belongs there before the claim is on disk: the replica is ordered anew, and a
/// report on the first order is no success.
#[test]
fn replica_replaced_before_its_claim_is_on_disk_runs_the_new_revision() {
    let mut holding = won();
    holding.next(&REPLICA, &Bytes::Ready);
    assert!(holding.replace(&REPLICA, NEW, SMALL, true));
    holding.claims_written(at(0), PersistId(5), LATE);
    assert!(!holding.ready(at(0), &REPLICA, OLD));
    assert_eq!(holding.next(&REPLICA, &Bytes::Ready), Next::Run { after: None });
    assert!(holding.ready(at(0), &REPLICA, NEW));
}

/// The order to run a released replica may still wait for the disk. The caller must order a stop
/// after it, or the replica would run although no claim names it.
#[test]
fn release_tells_of_an_order_that_waits_for_the_disk() {
    let mut holding = won();
    assert_eq!(holding.release(&REPLICA), None, "it was not ordered");
    let mut holding = won();
    holding.next(&REPLICA, &Bytes::Ready);
    assert_eq!(holding.release(&REPLICA), Some(PersistId(5)));
    assert!(holding.held(&REPLICA).is_none());
    assert_eq!(holding.stopping().narrow().size, Resources::default(), "it never ran");
    assert_eq!(ready().release(&REPLICA), None);
}

/// The owner of a late claim may have awarded the place again. The claim's health report waits a
/// second, in which the other winner's claim would come.
#[test]
fn late_claim_delays_its_health_report() {
    let mut holding = won();
    holding.claims_written(at(1), PersistId(5), LATE);
    assert!(!holding.may_report(&REPLICA, true));
    assert_eq!(holding.poll_timeout(), Some(at(2)));
    assert!(!holding.end_report_delays(at(1)) && holding.end_report_delays(at(2)));
    assert!(holding.may_report(&REPLICA, true));
}

/// A bad new version caused an outage: the old one was stopped as soon as the new one had failed.
/// The old revision serves now, however often the new one fails, until the new one is ready.
#[test]
fn old_revision_serves_until_the_new_one_is_ready() {
    let mut holding = ready();
    assert!(holding.replace(&REPLICA, NEW, LARGE, true));
    assert_eq!(holding.committed().narrow().size, LARGE);
    assert_eq!(holding.serving(&REPLICA), Some(OLD));
    assert_eq!(holding.next(&REPLICA, &Bytes::Ready), Next::Run { after: None });
    let mut now = at(1);
    for tries in 0..20 {
        let failed = holding.fail(now, &REPLICA, NEW, "trap", true);
        assert_eq!(failed, Failed::Replacement, "after {tries} tries");
        assert_eq!(holding.serving(&REPLICA), Some(OLD));
        now = holding.poll_timeout().expect("it is tried again");
        assert_eq!(holding.take_due(now), [(REPLICA, Due::Retry)]);
        assert_eq!(holding.next(&REPLICA, &Bytes::Ready), Next::Run { after: None });
    }
    assert!(holding.ready(now, &REPLICA, NEW));
    assert_eq!(holding.serving(&REPLICA), Some(NEW));
    // A smaller replacement gives room back once the larger old one is gone.
    holding.reported(&REPLICA);
    holding.replace(&REPLICA, OLD, SMALL, true);
    assert_eq!(holding.committed().narrow().size, LARGE);
    holding.next(&REPLICA, &Bytes::Ready);
    assert!(holding.ready(now, &REPLICA, OLD));
    assert_eq!(holding.committed().narrow().size, SMALL);
    holding.replace(&REPLICA, NEW, LARGE, true);
    holding.next(&REPLICA, &Bytes::Ready);
    assert!(holding.ready(now, &REPLICA, NEW));
    assert_eq!(holding.unreported().collect::<Vec<_>>(), [REPLICA]);
}

/// The new revision fails, and then the old one does. No revision serves, so the replica is given
/// up and other nodes may bid for the place.
#[test]
fn replica_is_given_up_when_both_revisions_fail() {
    let mut holding = ready();
    holding.replace(&REPLICA, NEW, SMALL, true);
    holding.next(&REPLICA, &Bytes::Ready);
    for _ in 0..=Config::default().max_restarts {
        holding.fail(at(1), &REPLICA, NEW, "trap", true);
        holding.fail(at(1), &REPLICA, OLD, "killed", true);
        assert_eq!(holding.serving(&REPLICA), None);
        // The longest pauses are over.
        holding.take_due(at(600));
        holding.next(&REPLICA, &Bytes::Ready);
    }
    assert_eq!(holding.former(&REPLICA), None);
    let mut now = at(1);
    let released = (0..10).find_map(|_| {
        now = holding.poll_timeout()?;
        let due = holding.take_due(now);
        if let [(_, Due::Release(why))] = &due[..] {
            return Some(why.clone());
        }
        holding.next(&REPLICA, &Bytes::Ready);
        holding.fail(now, &REPLICA, NEW, "trap", true);
        None
    });
    assert_eq!(released.as_deref(), Some("trap"));
}

/// The old version, which serves until the new one is ready, is not ready for a while: it gets no
/// requests meanwhile, and the replica stays here, whatever the new one does.
#[test]
fn old_revision_that_is_not_ready_serves_again_later() {
    let mut holding = ready();
    assert!(holding.replace(&REPLICA, NEW, LARGE, true));
    holding.next(&REPLICA, &Bytes::Ready);
    assert_eq!(holding.wait(&REPLICA, OLD, "not ready: 503"), Waits::Down);
    assert_eq!(holding.serving(&REPLICA), None);
    assert_eq!(holding.wait(&REPLICA, OLD, "not ready: 503"), Waits::Known);
    let mut now = at(1);
    for _ in 0..10 {
        assert_eq!(holding.fail(now, &REPLICA, NEW, "trap", true), Failed::Replacement);
        now = holding.poll_timeout().unwrap();
        assert_eq!(holding.take_due(now), [(REPLICA, Due::Retry)]);
        holding.next(&REPLICA, &Bytes::Ready);
    }
    let reason = "not ready: 503".to_owned();
    assert_eq!(holding.former(&REPLICA), Some((OLD, Phase::Waiting { reason })));
    assert!(holding.ready(now, &REPLICA, OLD));
    assert!(!holding.ready(now, &REPLICA, OLD), "it is known");
    assert_eq!(holding.serving(&REPLICA), Some(OLD));
    assert!(holding.ready(now, &REPLICA, NEW));
    assert_eq!(holding.wait(&REPLICA, OLD, "not ready: 503"), Waits::Known, "it is over");
    assert_eq!((holding.serving(&REPLICA), holding.former(&REPLICA)), (Some(NEW), None));
    assert_eq!(holding.committed().narrow().size, LARGE);
}

/// The old version fails while the new one is not ready: it is started again, after pauses that
/// double, and given up after some tries. One that had to end for the new one is not.
#[test]
fn old_revision_that_fails_is_started_again() {
    let mut holding = ready();
    holding.replace(&REPLICA, NEW, SMALL, true);
    holding.next(&REPLICA, &Bytes::Ready);
    let mut now = at(1);
    for pause in [1, 2, 4] {
        assert_eq!(holding.fail(now, &REPLICA, OLD, "liveness: 503", true), Failed::Down);
        assert_eq!(holding.fail(now, &REPLICA, OLD, "stopped", true), Failed::Known);
        assert_eq!(holding.poll_timeout(), Some(now + Duration::from_secs(pause)));
        now = now + Duration::from_secs(pause);
        assert_eq!(holding.take_due(now), [(REPLICA, Due::Again(OLD))]);
        assert!(holding.ready(now, &REPLICA, OLD));
        assert_eq!(holding.serving(&REPLICA), Some(OLD));
    }
    assert_eq!(holding.fail(now, &REPLICA, OLD, "liveness: 503", true), Failed::Down);
    assert_eq!((holding.former(&REPLICA), holding.poll_timeout()), (None, None));
    let mut holding = ready();
    holding.replace(&REPLICA, NEW, SMALL, true);
    assert_eq!(holding.fail(at(1), &REPLICA, OLD, "it had to end", false), Failed::Down);
    assert_eq!((holding.former(&REPLICA), holding.poll_timeout()), (None, None));
}

/// An operator goes back to the old version while the new one fails. The old revision serves all
/// the time, and its replacement is called off.
#[test]
fn replacement_is_called_off_by_going_back() {
    let mut holding = ready();
    holding.replace(&REPLICA, NEW, SMALL, true);
    holding.next(&REPLICA, &Bytes::Ready);
    holding.fail(at(1), &REPLICA, NEW, "trap", true);
    assert!(holding.replace(&REPLICA, OLD, SMALL, true));
    assert_eq!(
        holding.next(&REPLICA, &Bytes::Ready),
        Next::Run { after: None },
        "the runtime drops the new one"
    );
    assert!(holding.ready(at(2), &REPLICA, OLD));
    assert_eq!(holding.serving(&REPLICA), Some(OLD));
}

/// After three further tries the claim shows the reason for a moment. Then it is released, and
/// other nodes may bid for the place.
#[test]
fn failing_replica_is_given_up_after_its_tries() {
    let mut holding = ready();
    let mut now = at(1);
    for restarts in 1..=3 {
        assert_eq!(holding.fail(now, &REPLICA, OLD, "trap", true), Failed::Down);
        let reason = "trap".to_owned();
        assert_eq!(holding.phase(&REPLICA), Some(Phase::Failing { reason, restarts }));
        assert_eq!(holding.fail(now, &REPLICA, OLD, "trap", true), Failed::Known);
        now = holding.poll_timeout().unwrap();
        assert_eq!(holding.take_due(now), [(REPLICA, Due::Retry)]);
        assert_eq!(holding.next(&REPLICA, &Bytes::Ready), Next::Run { after: None });
    }
    assert_eq!(holding.fail(now, &REPLICA, OLD, "trap", true), Failed::Down);
    now = holding.poll_timeout().unwrap();
    assert_eq!(holding.take_due(now), [(REPLICA, Due::Release("trap".into()))]);
}

/// A replica fails every few minutes. It was ready for more than a minute each time, so its count
/// of tries starts again, and it is never given up.
#[test]
fn long_readiness_forgives_earlier_failures() {
    let mut holding = ready();
    for seconds in [61, 200, 400, 600, 800] {
        assert_eq!(holding.fail(at(seconds), &REPLICA, OLD, "trap", true), Failed::Down);
        let due = holding.poll_timeout().unwrap();
        assert_eq!(holding.take_due(due), [(REPLICA, Due::Retry)], "after {seconds} s");
        holding.next(&REPLICA, &Bytes::Ready);
        assert!(holding.ready(due, &REPLICA, OLD));
    }
}

/// The artifact cannot be fetched. A replica without a serving revision is given up, because
/// another node may have the bytes; one with a serving revision is kept.
#[test]
fn missing_bytes_give_up_only_what_does_not_serve() {
    let mut holding = won();
    holding.claims_written(at(0), PersistId(5), LATE);
    assert_eq!(holding.next(&REPLICA, &missing(4)), Next::Fetch);
    assert_eq!(holding.next(&REPLICA, &missing(5)), Next::Fail("no holder".into()));
    let mut holding = ready();
    holding.replace(&REPLICA, NEW, SMALL, true);
    assert_eq!(holding.next(&REPLICA, &missing(500)), Next::Fetch);
}

/// The runtime's report about an earlier claim of the replica comes late. It must not make the new
/// claim ready, which the runtime has no order for.
#[test]
fn late_report_of_an_earlier_claim_is_ignored() {
    let mut holding = won();
    assert!(!holding.ready(at(0), &REPLICA, OLD));
    holding.claims_written(at(0), PersistId(5), LATE);
    assert!(!holding.ready(at(0), &REPLICA, OLD));
    assert_eq!(holding.next(&REPLICA, &Bytes::Ready), Next::Run { after: None });
    assert!(!holding.ready(at(0), &REPLICA, NEW), "that was not ordered");
    assert!(holding.ready(at(0), &REPLICA, OLD));
}

/// A released replica takes its memory until the runtime has stopped it.
#[test]
fn released_replica_takes_room_until_it_is_stopped() {
    let mut holding = ready();
    holding.release(&REPLICA);
    assert_eq!(holding.held(&REPLICA), None);
    let sums = |held: &Holding| (held.committed().narrow().size, held.stopping().narrow().size);
    assert_eq!(sums(&holding), (Resources::default(), SMALL));
    holding.stopped(&REPLICA);
    assert_eq!(sums(&holding), (Resources::default(), Resources::default()));

    // Won again while it stops: it counts once.
    let mut holding = ready();
    holding.release(&REPLICA);
    holding.claim(at(1), award(NEW), LARGE, PersistId(6));
    assert_eq!(sums(&holding), (LARGE, Resources::default()));
    holding.stopped(&REPLICA);
    assert!(holding.held(&REPLICA).is_some());

    // A replica that never ran is gone at once.
    let mut holding = won();
    holding.release(&REPLICA);
    assert_eq!(sums(&holding), (Resources::default(), Resources::default()));
}

/// A claim of an earlier run is not reported healthy before the node has compared, because another
/// node may have taken the replica over. Once reported, it is like any other.
#[test]
fn claim_of_an_earlier_run_is_reported_after_comparing() {
    let mut holding = Holding::new(Config::default());
    holding.adopt(at(0), REPLICA, SMALL);
    assert!(holding.replace(&REPLICA, OLD, SMALL, true));
    assert_eq!(holding.next(&REPLICA, &Bytes::Ready), Next::Run { after: None });
    assert!(holding.ready(at(0), &REPLICA, OLD));
    assert!(!holding.may_report(&REPLICA, false) && holding.may_report(&REPLICA, true));
    holding.reported(&REPLICA);
    assert!(holding.may_report(&REPLICA, false));
    holding.stalled();
    assert!(holding.may_report(&REPLICA, false), "it was reported before the stall");
    holding.fail(at(1), &REPLICA, OLD, "trap", true);
    holding.stalled();
    assert!(!holding.may_report(&REPLICA, false));
}

/// A container listened on no port, and its replica was shown as starting without a reason. The
/// reason is part of its phase, also when it stops answering; the first report of it is news.
#[test]
fn replica_that_does_not_get_on_says_why() {
    let mut holding = won();
    assert_eq!(holding.wait(&REPLICA, OLD, "x"), Waits::Known, "it was not ordered yet");
    holding.claims_written(at(0), PersistId(5), LATE);
    holding.next(&REPLICA, &Bytes::Ready);
    assert_eq!(holding.wait(&REPLICA, NEW, "x"), Waits::Known, "of another revision");
    assert_eq!(holding.wait(&REPLICA, OLD, "nothing listens"), Waits::NotYet);
    assert_eq!(holding.wait(&REPLICA, OLD, "nothing listens"), Waits::Known);
    let waiting = |reason: &str| Some(Phase::Waiting { reason: reason.into() });
    assert_eq!(holding.phase(&REPLICA), waiting("nothing listens"));
    assert_eq!(holding.next(&REPLICA, &Bytes::Ready), Next::Nothing, "it was ordered");

    assert!(holding.ready(at(1), &REPLICA, OLD));
    holding.reported(&REPLICA);
    assert_eq!(holding.wait(&REPLICA, OLD, "paused"), Waits::Down);
    assert_eq!((holding.phase(&REPLICA), holding.serving(&REPLICA)), (waiting("paused"), None));
    assert!(holding.ready(at(2), &REPLICA, OLD), "it goes on");
    assert_eq!(holding.unreported().count(), 1, "and is reported again");

    holding.wait(&REPLICA, OLD, "paused");
    assert_eq!(holding.fail(at(3), &REPLICA, OLD, "killed", true), Failed::Down);
    assert_eq!(holding.wait(&REPLICA, OLD, "late"), Waits::Known, "it has failed since");
}

/// While its replacement does not get on, the old revision serves.
#[test]
fn old_revision_serves_while_its_replacement_waits() {
    let mut holding = ready();
    holding.replace(&REPLICA, NEW, SMALL, true);
    holding.next(&REPLICA, &Bytes::Ready);
    assert_eq!(holding.wait(&REPLICA, NEW, "nothing listens"), Waits::NotYet);
    assert_eq!(holding.serving(&REPLICA), Some(OLD));
    // Then it does not answer itself, as any replica that is paused.
    assert_eq!(holding.wait(&REPLICA, OLD, "paused"), Waits::Down);
    assert_eq!(holding.serving(&REPLICA), None);
}

/// A revision was ordered, and another one is wished for before it is up: it takes its room until
/// then, and serves when it comes up.
#[test]
fn revision_in_between_serves_until_the_target_is_ready() {
    let mut holding = won();
    holding.claims_written(at(0), PersistId(5), LATE);
    assert_eq!(holding.next(&REPLICA, &Bytes::Ready), Next::Run { after: None });
    assert!(holding.replace(&REPLICA, NEW, LARGE, true));
    assert_eq!(holding.need_of(&REPLICA), Some(Need::from(LARGE)));
    assert!(holding.is_begun(&REPLICA), "the runtime was told to run something");
    assert!(holding.ready(at(1), &REPLICA, OLD));
    assert_eq!(holding.former(&REPLICA), Some((OLD, Phase::Healthy)));
    assert_eq!(holding.next(&REPLICA, &missing(9)), Next::Fetch, "it is not given up");
    assert_eq!(holding.next(&REPLICA, &Bytes::Ready), Next::Run { after: None });
    assert!(holding.ready(at(2), &REPLICA, NEW));
    assert_eq!((holding.serving(&REPLICA), holding.former(&REPLICA)), (Some(NEW), None));
    assert!(!holding.ready(at(3), &REPLICA, OLD), "a late report");
}

/// The same, and it fails instead: nothing serves, and the target alone takes room.
#[test]
fn revision_in_between_that_fails_is_forgotten() {
    let mut holding = won();
    holding.claims_written(at(0), PersistId(5), LATE);
    assert_eq!(holding.next(&REPLICA, &Bytes::Ready), Next::Run { after: None });
    assert!(holding.replace(&REPLICA, NEW, LARGE, true));
    assert_eq!(holding.fail(at(1), &REPLICA, OLD, "trapped", true), Failed::Known);
    assert!(!holding.ready(at(2), &REPLICA, OLD));
    assert!(!holding.is_begun(&REPLICA));
}
