//! Sheets: slots that are accepted, refused and remembered.

use crate::model::claim::{MAX_REASON, MAX_SLOT_CLAIMS, SLOTS, Slot};

use super::*;

fn sign(node: u8, slot: u8, counter: u64, claims: Vec<Claim>) -> Signed<Slot> {
    Signed::sign(Slot { slot, counter, claims, newer: Vec::new() }, &keys(node), &CLUSTER)
}

/// The first replicas of one slot.
fn neighbours(slot: u8, count: usize) -> Vec<ReplicaId> {
    let mut found: Vec<ReplicaId> =
        (0..).map(replica).filter(|replica| replica.slot() == slot).take(count).collect();
    found.sort();
    found
}

/// A peer takes a claim and its release. An older slot that comes late brings nothing back, and the
/// token outlives the claim until the workload is forgotten.
#[test]
fn peer_sees_a_claim_until_it_is_released() {
    let (mut a, mut b) = (room(1), room(2));
    let slot = a.claim(claim(replica(0), 1, 3)).unwrap();
    let outcome = b.handle_slot(slot.clone(), &everyone).unwrap();
    assert_eq!(outcome, Outcome::Changed { node: id(1), replicas: vec![replica(0)] });
    assert_eq!(b.of(&replica(0)).len(), 1);
    assert_eq!(b.of_workload(&replica(0).uid).len(), 1);
    assert_eq!(b.handle_slot(slot.clone(), &everyone), Ok(Outcome::Known));

    let released = a.release(&replica(0)).unwrap();
    assert!(b.handle_slot(released, &everyone).is_ok());
    assert!(b.of(&replica(0)).is_empty());
    assert_eq!(
        b.handle_slot(slot, &everyone),
        Ok(Outcome::Known),
        "an older slot brings nothing back"
    );
    assert!(b.of(&replica(0)).is_empty());
    assert_eq!(
        b.highest_token(&replica(0)).map(|token| token.counter),
        Some(3),
        "the token outlives the claim"
    );
    b.forget_workload(&replica(0).uid);
    assert_eq!(b.highest_token(&replica(0)), None);
}

/// A peer takes changes of phase and generation. A call that changes nothing issues no slot, and a
/// reason that is too long is cut, because peers would refuse it.
#[test]
fn only_a_changed_claim_is_issued() {
    let (mut a, mut b) = (room(1), room(2));
    a.claim(claim(replica(0), 1, 1)).unwrap();
    assert_eq!(a.set_phase(&replica(0), Phase::Healthy, WallClock(5)), None);
    assert_eq!(a.set_phase(&replica(1), Phase::Healthy, WallClock(5)), None, "not claimed");
    let failing = |restarts| Phase::Failing { reason: "trap".into(), restarts };
    a.set_phase(&replica(0), failing(0), WallClock(7)).unwrap();
    let slot = a.set_phase(&replica(0), failing(1), WallClock(9)).unwrap();
    b.handle_slot(slot, &everyone).unwrap();
    let seen = b.of(&replica(0))[0].1.clone();
    assert_eq!((seen.phase, seen.since), (failing(1), WallClock(7)), "since it began to fail");

    let long = Phase::Failing { reason: "x".repeat(MAX_REASON * 2), restarts: 2 };
    let slot = a.set_phase(&replica(0), long, WallClock(9)).unwrap();
    b.handle_slot(slot, &everyone).expect("a long reason is cut, not refused by the others");

    let slot = a.set_generation(&replica(0), OLD, Phase::Starting, WallClock(11)).unwrap();
    b.handle_slot(slot, &everyone).unwrap();
    let seen = b.of(&replica(0))[0].1;
    assert_eq!((seen.generation, &seen.phase), (OLD, &Phase::Starting));
    assert_eq!(a.set_generation(&replica(0), OLD, Phase::Starting, WallClock(12)), None);
}

/// A restarted node restores its sheet. Nothing runs yet, so its claims go back to starting, and a
/// peer that knows the earlier sheet accepts that.
#[test]
fn restored_claims_are_starting() {
    let mut a = room(1);
    let slots: Vec<_> =
        (0..40).map(|index| a.claim(claim(replica(index), 1, 1)).unwrap()).collect();
    let mut again = room(1);
    assert!(again.restore(slots).is_empty());
    assert_eq!(again.mine().count(), 40);
    let issued = again.restarting(WallClock(1));
    assert!(again.mine().all(|claim| claim.phase == Phase::Starting));
    // A peer that knows the old sheet accepts the new one.
    let mut b = room(2);
    a.slots().for_each(|slot| _ = b.handle_slot(slot.clone(), &everyone).unwrap());
    issued.into_iter().for_each(|slot| _ = b.handle_slot(slot, &everyone).unwrap());
    assert!(b.of_node(&id(1)).all(|claim| claim.phase == Phase::Starting));
    assert!(again.restarting(WallClock(2)).is_empty());
}

/// A node lost its disk, and a peer sends it the sheet of its earlier life. The node issues the
/// slot again, above that one and without the claim.
#[test]
fn node_without_its_disk_overrules_its_old_sheet() {
    let (mut before, mut peer) = (room(1), room(2));
    let slot = before.claim(claim(replica(0), 1, 1)).unwrap();
    peer.handle_slot(slot.clone(), &everyone).unwrap();
    let mut after = room(1);
    let Ok(Outcome::Reissue(truth)) = after.handle_slot(slot.clone(), &everyone) else {
        panic!("not reissued")
    };
    assert!(truth.counter > slot.counter);
    peer.handle_slot(truth, &everyone).unwrap();
    assert!(peer.of(&replica(0)).is_empty());
    assert_eq!(after.handle_slot(slot, &everyone), Ok(Outcome::Known), "once is enough");
}

/// Two versions of a slot have the same counter. All peers keep the same one, in whichever order
/// they come.
#[test]
fn two_versions_with_one_counter_converge() {
    let one = sign(1, replica(0).slot(), 5, vec![claim(replica(0), 1, 1)]);
    let other = sign(1, replica(0).slot(), 5, vec![]);
    let (mut b, mut c) = (room(2), room(3));
    for slot in [&one, &other] {
        b.handle_slot(slot.clone(), &everyone).unwrap();
    }
    for slot in [&other, &one] {
        c.handle_slot(slot.clone(), &everyone).unwrap();
    }
    assert_eq!(b.slot(&id(1), one.slot), c.slot(&id(1), one.slot));
    assert_eq!(b.hashes().collect::<Vec<_>>(), c.hashes().collect::<Vec<_>>());
    assert_eq!(b.of(&replica(0)).len(), c.of(&replica(0)).len());
}

/// Claims that were awarded together are signed and written together.
#[test]
fn claims_of_one_slot_are_issued_once() {
    let mut a = room(1);
    let run: Vec<ReplicaId> = (0..16).map(replica).collect();
    assert!(
        run.iter().all(|replica| replica.slot() == run[0].slot()),
        "places that follow one another share a slot"
    );
    let (slots, full) = a.claim_all(run.iter().map(|replica| claim(*replica, 1, 1)).collect());
    assert_eq!((slots.len(), full.len()), (1, 0));
    assert_eq!(slots[0].claims.len(), 16);
    let (_, full) =
        a.claim_all(neighbours(5, MAX_SLOT_CLAIMS + 2).iter().map(|it| claim(*it, 1, 1)).collect());
    assert_eq!(full.len(), 2);
    let healthy = |room: &Claims| room.mine().filter(|claim| claim.phase == Phase::Healthy).count();
    let starting = |index| Claim { phase: Phase::Starting, ..claim(replica(index), 2, 1) };
    let mut b = room(2);
    b.claim_all((0..3).map(starting).collect());
    let answer: Vec<_> = run[1..4].iter().map(|replica| (*replica, CURRENT)).collect();
    let slot = b.set_healthy(run[0].slot(), &answer, WallClock(7)).unwrap();
    assert_eq!((healthy(&b), slot.claims[1].since), (2, WallClock(7)));
    assert_eq!(b.set_healthy(run[0].slot(), &answer, WallClock(8)), None, "no change");
}

/// A node that holds all of a large workload fills its slots evenly, up to the last one.
#[test]
fn sheet_takes_all_of_a_large_workload() {
    let most = u32::from(SLOTS) * MAX_SLOT_CLAIMS as u32;
    let mut filled = std::collections::BTreeMap::<u8, usize>::new();
    (0..most).for_each(|index| *filled.entry(replica(index).slot()).or_default() += 1);
    assert!(
        filled.len() == usize::from(SLOTS)
            && filled.values().all(|claims| *claims == MAX_SLOT_CLAIMS)
    );
}

/// A further claim is refused. A claim that replaces another one needs no room.
#[test]
fn full_slot_takes_no_more_and_stays_as_it_was() {
    let mut a = room(1);
    let replicas = neighbours(3, MAX_SLOT_CLAIMS + 1);
    for replica in &replicas[..MAX_SLOT_CLAIMS] {
        a.claim(claim(*replica, 1, 1)).unwrap();
    }
    assert_eq!(
        a.claim(claim(replicas[MAX_SLOT_CLAIMS], 1, 1)),
        Err(SheetFull { slot: 3, claims: MAX_SLOT_CLAIMS })
    );
    assert_eq!(a.mine().count(), MAX_SLOT_CLAIMS);
    a.claim(claim(replicas[0], 1, 2)).expect("replacing one needs no room");
}

/// Each case is refused for ever, and nothing of it is kept.
#[test]
fn slot_that_no_honest_node_signs_is_refused() {
    let r = replica(0);
    let slot = r.slot();
    let good = || claim(r, 1, 5);
    let two = neighbours(slot, 2);
    let forged = |award: Award| claim_by(&Signed::sign(award, &keys(200), &CLUSTER));
    let long = Phase::Failing { reason: "x".repeat(MAX_REASON + 1), restarts: 0 };
    let low = Claim { token: Token { counter: 4, by: id(200), incarnation: 1 }, ..good() };
    let not_owners = Signed::sign(award(r, 1, 5), &keys(201), &CLUSTER);
    let other_cluster = Signed::sign(award(r, 1, 5), &keys(200), &ClusterId([8; 32]));
    let cases = [
        (sign(1, SLOTS, 1, vec![]), Invalid::Number(SLOTS)),
        (sign(1, slot, u64::MAX, vec![]), Invalid::Counter(u64::MAX)),
        (
            sign(1, slot, 1, vec![good(); MAX_SLOT_CLAIMS + 1]),
            Invalid::TooMany(MAX_SLOT_CLAIMS + 1),
        ),
        (sign(1, slot, 1, vec![good(), good()]), Invalid::Order),
        (sign(1, slot, 1, vec![claim(two[1], 1, 1), claim(two[0], 1, 1)]), Invalid::Order),
        (sign(1, (slot + 1) % SLOTS, 1, vec![good()]), Invalid::WrongSlot(r)),
        (sign(1, slot, 1, vec![Claim { phase: long, ..good() }]), Invalid::Reason(MAX_REASON + 1)),
        (sign(1, slot, 1, vec![low]), Invalid::BelowAward(r)),
        (sign(1, slot, 1, vec![claim(r, 2, 5)]), Invalid::AwardToAnother(r)),
        (
            sign(1, slot, 1, vec![Claim { replica: r, ..claim(two[1], 1, 5) }]),
            Invalid::AwardOfAnother(r),
        ),
        (sign(1, slot, 1, vec![claim_by(&not_owners)]), Invalid::AwardNotSigners(r)),
        (sign(1, slot, 1, vec![claim_by(&other_cluster)]), Invalid::AwardSignature(r)),
        (sign(1, slot, 1, vec![forged(award(r, 1, u64::MAX))]), Invalid::Counter(u64::MAX)),
    ];
    for (slot, why) in cases {
        let mut b = room(2);
        assert_eq!(b.handle_slot(slot, &everyone), Err(Rejection::Never(why)));
        assert_eq!(b.slots().count(), 0);
    }
}

/// The slot is by a node that is no member, has an award by a stranger, or a counter far ahead. Its
/// sender is not to blame, and the slot may be accepted later.
#[test]
fn slot_that_cannot_be_judged_yet_is_refused() {
    let slot = sign(1, replica(0).slot(), 1, vec![claim(replica(0), 1, 5)]);
    let mut b = room(2);
    let without = |stranger: NodeId, standing: Standing| {
        move |node: &NodeId| if *node == stranger { standing } else { Standing::Member }
    };
    for standing in [Standing::Stranger, Standing::Left] {
        let stranger = b.handle_slot(slot.clone(), &without(id(1), standing));
        assert_eq!(stranger, Err(Rejection::NotYet(Premature::Stranger(id(1)))));
    }
    let strangers_award = b.handle_slot(slot.clone(), &without(id(200), Standing::Stranger));
    let expected = Premature::StrangersAward { by: id(200), replica: replica(0) };
    assert_eq!(strangers_award, Err(Rejection::NotYet(expected)));
    // The owner that awarded it may have left since.
    assert!(b.handle_slot(slot, &without(id(200), Standing::Left)).is_ok());

    let ahead = 5 + (1 << 20);
    let far = |counter| sign(1, replica(0).slot(), 2, vec![claim(replica(0), 1, counter)]);
    let expected = Premature::CounterAhead { replica: replica(0), counter: ahead + 1 };
    assert_eq!(b.handle_slot(far(ahead + 1), &everyone), Err(Rejection::NotYet(expected)));
    assert_eq!(b.highest_token(&replica(0)).unwrap().counter, 5);
    assert!(b.handle_slot(far(ahead), &everyone).is_ok());
}

/// The owner of an award is no longer known as a member. A slot with that award is accepted if the
/// slot before had it, too. An award that differs, even only in its signature, is judged.
#[test]
fn verified_award_is_not_judged_again() {
    let (mut a, mut b) = (room(1), room(2));
    let slot = a.claim(claim(replica(0), 1, 5)).unwrap();
    b.handle_slot(slot, &everyone).unwrap();
    let slot = a.set_phase(&replica(0), Phase::Starting, WallClock(1)).unwrap();
    let forgotten =
        |node: &NodeId| if *node == id(200) { Standing::Stranger } else { Standing::Member };
    assert!(b.handle_slot(slot, &forgotten).is_ok());
    // Another award in its place is judged, even if only the signature differs.
    let mut forged = claim(replica(0), 1, 5);
    forged.award = {
        let mut bytes = crate::model::codec::encode(&forged.award);
        *bytes.last_mut().unwrap() ^= 1;
        crate::model::codec::decode(&bytes).unwrap()
    };
    let slot = sign(1, replica(0).slot(), 9, vec![forged]);
    assert_eq!(
        b.handle_slot(slot, &everyone),
        Err(Rejection::Never(Invalid::AwardSignature(replica(0))))
    );
}

#[test]
fn node_that_left_loses_its_claims_not_its_tokens() {
    let (mut a, mut b) = (room(1), room(2));
    b.handle_slot(a.claim(claim(replica(0), 1, 4)).unwrap(), &everyone).unwrap();
    assert_eq!(b.forget_node(&id(1)), [replica(0)]);
    assert_eq!((b.slots().count(), b.of(&replica(0)).len(), b.hashes().count()), (0, 0, 0));
    assert_eq!(b.highest_token(&replica(0)).unwrap().counter, 4);
    assert_eq!(b.item(&Claims::key(&id(1), replica(0).slot())), None);
}

/// Three of four claims are released, and two tokens without a claim may be remembered.
#[test]
fn longest_idle_token_is_forgotten_first() {
    let mut a =
        Claims::new(Config { max_idle_tokens: 2, ..Config::default() }, id(1), keys(1), CLUSTER, 0);
    for index in 0..4 {
        a.claim(claim(replica(index), 1, 1)).unwrap();
    }
    for index in [2, 0, 1] {
        a.release(&replica(index)).unwrap();
    }
    let known: Vec<bool> = (0..4).map(|index| a.highest_token(&replica(index)).is_some()).collect();
    assert_eq!(known, [true, true, false, true]);
}

/// A peer that fetches every slot of the list has the same hashes then.
#[test]
fn each_hash_for_repair_has_its_slot() {
    let (mut a, mut b) = (room(1), room(2));
    for index in 0..50 {
        a.claim(claim(replica(index), 1, 1)).unwrap();
    }
    for (key, hash) in a.hashes() {
        let slot = a.item(&key).expect("what is listed is there");
        assert_eq!(slot.hash(), hash);
        b.handle_slot(slot.clone(), &everyone).unwrap();
    }
    assert_eq!(a.hashes().collect::<Vec<_>>(), b.hashes().collect::<Vec<_>>());
    assert_eq!(b.of_node(&id(1)).count(), 50);
}

/// A phase was sent and not written when the power was cut. The slots of the next life still have
/// greater counters, because their upper half is the incarnation.
#[test]
fn counters_grow_over_a_power_cut() {
    let life = |incarnation| Claims::new(Config::default(), id(1), keys(1), CLUSTER, incarnation);
    let mut first = life(1);
    let stored = first.claim(claim(replica(0), 1, 1)).unwrap();
    let sent = first.set_phase(&replica(0), Phase::Starting, WallClock(5)).unwrap();
    // A power cut: the claim is on disk, the phase is not.
    let mut second = life(2);
    second.restore(vec![stored]);
    let again = second.set_phase(
        &replica(0),
        Phase::Failing { reason: "it trapped".into(), restarts: 1 },
        WallClock(9),
    );
    assert!(again.unwrap().counter > sent.counter);
}
