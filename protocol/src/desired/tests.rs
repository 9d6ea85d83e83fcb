use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::*;
use crate::model::{
    Artifact, ClusterId, Grant, KeyPair, Namespaces, Resources, Role, Signed, Spec, SpecForm,
    WriterId, codec,
};

mod fuzz;
mod quota;
mod values;

const NOW: WallClock = WallClock(1_795_219_200_000);

fn name(text: &str) -> WorkloadName {
    text.parse().unwrap()
}

fn key(text: &str) -> Key {
    Key::Workload(name(text))
}

fn spec(text: &str, replicas: u32) -> Spec {
    let form = SpecForm::wasm_service(
        name(text),
        Artifact { digest: Digest::of(b"artifact"), size: 10 },
        replicas,
        Resources { memory: 64 << 20, cpu: 100 },
    );
    form.try_into().unwrap()
}

fn workload(text: &str, replicas: u32) -> Value {
    Value::workload(&spec(text, replicas))
}

/// An operator's installation, which is one writer.
struct Author {
    keys: KeyPair,
    writer: WriterId,
}

fn author(number: u8) -> Author {
    Author { keys: KeyPair::from_seed(&[number; 32]), writer: WriterId([number; 32]) }
}

impl Author {
    fn sign(&self, body: ChangeBody) -> Change {
        Change {
            signed: Signed::sign(body, &self.keys, &ClusterId([0; 32])),
            chain: Chain::default(),
        }
    }

    /// Writes `value` under `key`, having seen all that `desired` holds.
    fn write(&self, desired: &Desired, key: &Key, value: Value) -> Change {
        self.write_at(desired, key, value, NOW)
    }

    fn write_at(&self, desired: &Desired, key: &Key, value: Value, wall: WallClock) -> Change {
        let Context { mut clock, serial, uid } = desired.context(key, wall).unwrap();
        clock.insert(self.writer, serial);
        self.sign(ChangeBody { key: key.clone(), writer: self.writer, serial, clock, uid, value })
    }

    /// Writes with exactly this clock; its own entry is the serial.
    fn write_with(&self, key: &Key, clock: &[(u8, u64)], value: Value) -> Change {
        let clock: Clock =
            clock.iter().map(|(writer, serial)| (WriterId([*writer; 32]), *serial)).collect();
        let serial = *clock.get(&self.writer).unwrap();
        self.sign(ChangeBody {
            key: key.clone(),
            writer: self.writer,
            serial,
            clock,
            uid: None,
            value,
        })
    }
}

fn fresh(desired: &mut Desired, change: &Change) -> bool {
    match desired.apply(change.clone()).unwrap() {
        Applied::New { effective, .. } => effective,
        other => panic!("{other:?}"),
    }
}

/// All that a replica would send or store, as bytes.
fn bytes(desired: &Desired) -> Vec<u8> {
    codec::encode(&desired.iter().collect::<Vec<_>>())
}

fn replica(changes: &[Change]) -> Desired {
    let mut desired = Desired::default();
    for change in changes {
        desired.apply(change.clone()).unwrap();
    }
    desired
}

fn shuffled(changes: &[Change], seed: u64) -> Vec<Change> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut changes = changes.to_vec();
    for i in (1..changes.len()).rev() {
        changes.swap(i, (rng.next_u64() % (i as u64 + 1)) as usize);
    }
    changes
}

/// A name through its whole life: each write supersedes the former, a removal ends the workload,
/// and a new one under the name has another uid but, with the same spec, the same generation.
#[test]
fn workload_is_written_altered_removed_and_rewritten() {
    let (ada, mut desired, web) = (author(1), Desired::default(), key("web"));
    let created = ada.write(&desired, &web, workload("web", 1));
    assert!(fresh(&mut desired, &created));
    assert_eq!(desired.apply(created.clone()), Ok(Applied::Known));
    let first = desired.workload(&name("web")).unwrap().clone();
    assert_eq!(
        (first.uid, first.change, first.spec.replicas()),
        (created.hash(), created.hash(), 1)
    );

    let scaled = ada.write(&desired, &web, workload("web", 3));
    assert!(fresh(&mut desired, &scaled));
    let second = desired.workload(&name("web")).unwrap();
    assert_eq!(
        (second.uid, second.generation, second.spec.replicas()),
        (first.uid, first.generation, 3)
    );
    assert_eq!(desired.apply(created), Ok(Applied::Superseded));

    let removed = ada.write(&desired, &web, Value::Tombstone);
    assert!(fresh(&mut desired, &removed));
    assert_eq!(desired.workload(&name("web")), None);
    assert_eq!(desired.by_uid(&first.uid), None);
    assert_eq!(desired.apply(scaled), Ok(Applied::Superseded));
    assert_eq!(desired.context(&web, NOW).unwrap().uid, None);

    let again = ada.write(&desired, &web, workload("web", 1));
    assert!(fresh(&mut desired, &again));
    let third = desired.workload(&name("web")).unwrap();
    assert_ne!(third.uid, first.uid);
    assert_eq!(third.generation, first.generation);
    assert_eq!(desired.by_uid(&third.uid), Some(third));
    assert_eq!(desired.apply(removed), Ok(Applied::Superseded));
}

/// Two operators write one name without seeing one another's change. Both stay as siblings, the
/// later clock is effective, and the next write, which has seen both, ends the conflict.
#[test]
fn concurrent_writes_conflict_until_a_write_has_seen_both() {
    let (ada, bob, web) = (author(1), author(2), key("web"));
    let empty = Desired::default();
    let early = ada.write_at(&empty, &web, workload("web", 1), NOW);
    let late = bob.write_at(&empty, &web, workload("web", 2), WallClock(NOW.0 + 1));
    for order in [[&early, &late], [&late, &early]] {
        let mut desired = replica(&order.map(Clone::clone));
        assert_eq!(desired.effective(&web), Some(&late));
        assert_eq!(desired.siblings(&web).collect::<Vec<_>>(), [&late, &early]);
        assert_eq!(desired.conflicts().collect::<Vec<_>>(), [&web]);
        let settled = ada.write(&desired, &web, workload("web", 4));
        assert_eq!(settled.uid(), late.hash());
        assert!(fresh(&mut desired, &settled));
        assert_eq!(desired.siblings(&web).collect::<Vec<_>>(), [&settled]);
        assert_eq!(desired.conflicts().next(), None);
    }
}

/// A device without a battery clock must be able to write after one whose clock is right.
#[test]
fn clock_of_1970_writes_above_known_serials() {
    let (ada, bob, mut desired, web) = (author(1), author(2), Desired::default(), key("web"));
    let first = ada.write(&desired, &web, workload("web", 1));
    fresh(&mut desired, &first);
    let second = bob.write_at(&desired, &web, workload("web", 2), WallClock(5));
    assert_eq!(second.signed.serial, first.signed.serial + 1);
    assert!(fresh(&mut desired, &second));
    assert_eq!(desired.workload(&name("web")).unwrap().spec.replicas(), 2);
    let on_an_empty_node = Desired::default().context(&web, WallClock(0)).unwrap();
    assert_eq!(on_an_empty_node.serial, 1);
}

#[test]
fn clock_in_the_far_future_is_refused() {
    let (ada, mut desired, web) = (author(1), Desired::default(), key("web"));
    assert_eq!(desired.context(&web, WallClock(u64::MAX)).unwrap().serial, 1);

    let ahead =
        ada.write_at(&desired, &web, workload("web", 1), WallClock(NOW.0 + 2 * MAX_AHEAD_MS));
    let refused = desired.plausible(&ahead.signed, NOW);
    let author = WallClock(NOW.0 + 2 * MAX_AHEAD_MS);
    assert_eq!(refused, Err(Implausible::Ahead { author, here: NOW }));
    assert_eq!(
        desired.plausible(&ahead.signed, WallClock(7)),
        Ok(()),
        "a clock that was never set judges nobody"
    );

    // If such a change is known all the same, other authors must be able to write above it.
    fresh(&mut desired, &ahead);
    let next = ada.write(&desired, &web, workload("web", 2));
    assert_eq!(desired.plausible(&next.signed, NOW), Ok(()));
    assert!(fresh(&mut desired, &next));
}

#[test]
fn greatest_serial_exhausts_a_key_without_panic() {
    let (ada, mut desired, web) = (author(1), Desired::default(), key("web"));
    let last = ada.write_with(&web, &[(1, MAX_SERIAL)], workload("web", 1));
    assert!(fresh(&mut desired, &last));
    assert_eq!(desired.context(&web, NOW), Err(Implausible::Exhausted));
    assert!(desired.context(&key("other"), NOW).is_ok());
}

/// A cloned disk wrote two changes with one clock. Every replica keeps the same one of them.
#[test]
fn equal_clocks_converge_to_the_greater_change() {
    let (ada, web) = (author(1), key("web"));
    let one = ada.write_with(&web, &[(1, 9)], workload("web", 1));
    let other = ada.write_with(&web, &[(1, 9)], workload("web", 2));
    let greater = if one.hash() > other.hash() { &one } else { &other };
    let left = replica(&[one.clone(), other.clone()]);
    let right = replica(&[other.clone(), one.clone()]);
    assert_eq!(left.siblings(&web).collect::<Vec<_>>(), [greater]);
    assert_eq!(bytes(&left), bytes(&right));
}

#[test]
fn newer_forms_are_kept_but_are_no_workloads() {
    let (ada, mut desired, web) = (author(1), Desired::default(), key("web"));
    let newer = ada.write(&desired, &web, Value::Workload { version: 2, bytes: vec![1, 2, 3] });
    assert!(fresh(&mut desired, &newer));
    assert_eq!(desired.workload(&name("web")), None);
    assert_eq!(desired.opaque().collect::<Vec<_>>(), [(&name("web"), newer.hash())]);
    assert_eq!(desired.item(&web.hash()), [newer.raw()]);
    assert_eq!(desired.context(&web, NOW).unwrap().uid, Some(newer.hash()));
    let removed = ada.write(&desired, &web, Value::Tombstone);
    fresh(&mut desired, &removed);
    assert_eq!(desired.opaque().next(), None);
}

/// An operator signs workloads `a` and `c` with the uid of `b`. The first name, `a`, has it; when
/// `a` is removed, `b` has it again.
#[test]
fn forged_uid_goes_to_the_first_name() {
    let (ada, mut desired) = (author(1), Desired::default());
    let real = ada.write(&desired, &key("b"), workload("b", 1));
    fresh(&mut desired, &real);
    for thief in ["a", "c"] {
        let mut body = ada.write(&desired, &key(thief), workload(thief, 1)).signed.body().clone();
        body.uid = Some(real.hash());
        fresh(&mut desired, &ada.sign(body));
    }
    let names: Vec<_> = desired.workloads().map(|workload| workload.name.to_string()).collect();
    assert_eq!(names, ["a"]);
    assert_eq!(desired.by_uid(&real.hash()).unwrap().name, name("a"));
    let removed = ada.write(&desired, &key("a"), Value::Tombstone);
    fresh(&mut desired, &removed);
    assert_eq!(desired.by_uid(&real.hash()).unwrap().name, name("b"));
}

#[test]
fn removed_member_cannot_admit_itself_again() {
    let (ada, joiner, mut desired, node) =
        (author(1), author(2), Desired::default(), NodeId([7; 32]));
    let member = Key::Member(node);
    let admitted = joiner.write_with(&member, &[(2, 5)], Value::Member { salt: 40 });
    assert!(fresh(&mut desired, &admitted));
    assert_eq!(desired.members(), &OrdMap::unit(node, 40));

    let removed = ada.write_at(&desired, &member, Value::Tombstone, WallClock(0));
    assert!(fresh(&mut desired, &removed));
    assert!(desired.members().is_empty());
    // This admission has seen nothing, so it is a sibling of the removal, with a greater serial.
    let by_itself = joiner.write_with(&member, &[(2, 1 << 50)], Value::Member { salt: 41 });
    assert!(!fresh(&mut desired, &by_itself));
    assert!(desired.members().is_empty());
    assert_eq!(desired.effective(&member), Some(&removed));

    let by_an_operator = ada.write(&desired, &member, Value::Member { salt: 42 });
    assert!(fresh(&mut desired, &by_an_operator));
    assert_eq!(desired.members(), &OrdMap::unit(node, 42));
}

#[test]
fn full_state_refuses_new_keys_only() {
    let ada = author(1);
    let mut desired =
        Desired::new(Config { max_workloads: 2, max_members: 1, ..Config::default() });
    for text in ["a", "b"] {
        let change = ada.write(&desired, &key(text), workload(text, 1));
        fresh(&mut desired, &change);
    }
    let before = bytes(&desired);
    let third = ada.write(&desired, &key("c"), workload("c", 1));
    assert_eq!(desired.apply(third), Err(Full::Workloads(2)));
    assert_eq!(bytes(&desired), before);
    assert_eq!(desired.digest(&key("c")), None);

    let added = Applied::New { effective: true, also: Vec::new() };
    for (node, expected) in [(1, Ok(added)), (2, Err(Full::Members(1)))] {
        let change =
            ada.write(&desired, &Key::Member(NodeId([node; 32])), Value::Member { salt: 1 });
        assert_eq!(desired.apply(change), expected);
    }
    let removed = ada.write(&desired, &key("a"), Value::Tombstone);
    assert!(fresh(&mut desired, &removed));
}

#[test]
fn chain_of_many_changes_is_kept_once() {
    let (ada, root) = (author(1), KeyPair::from_seed(&[9; 32]));
    let granted = |name: &str| {
        let grant = Grant {
            subject: ada.keys.public(),
            name: name.into(),
            role: Role::Publisher,
            namespaces: Namespaces::All,
            serial: 1,
            expires: None,
        };
        let grant = Signed::sign(grant, &root, &ClusterId([0; 32])).wire();
        codec::decode::<Chain>(&codec::encode(&Chain::default().with(grant))).unwrap()
    };
    let mut desired = Desired::default();
    for (text, operator) in [("a", "ada"), ("b", "ada"), ("c", "a. lovelace"), ("d", "ada")] {
        let change = ada.write(&desired, &key(text), workload(text, 1));
        fresh(&mut desired, &Change { chain: granted(operator), ..change });
        assert_eq!(desired.effective(&key(text)).unwrap().chain, granted(operator));
    }
    assert_eq!(desired.chains, [granted("ada"), granted("a. lovelace")]);
}

#[test]
fn equal_digests_mean_equal_state() {
    let (ada, bob, web) = (author(1), author(2), key("web"));
    let one = ada.write_with(&web, &[(1, 9)], workload("web", 1));
    let other = bob.write_with(&web, &[(2, 9)], workload("web", 2));
    let (left, right) = (replica(&[one.clone(), other.clone()]), replica(&[other, one.clone()]));
    assert_eq!(left.digest(&web), right.digest(&web));
    assert_ne!(left.digest(&web), replica(&[one]).digest(&web));
    assert_eq!(left.digests().collect::<Vec<_>>(), [left.digest(&web).unwrap()]);
    assert_eq!(left.item(&Digest::of(b"unknown")), []);
}

/// Eighty concurrent changes of one key, of which a replica keeps 32. Replicas that took them in
/// different orders drop different ones; exchanging what they keep must still end in one state.
#[test]
fn dropped_siblings_do_not_stop_convergence() {
    let web = key("web");
    let changes: Vec<Change> = (1..=80u8)
        .map(|number| {
            let replicas = u32::from(number);
            // A few changes have seen some of the others, so that dropping and superseding mix.
            let clock: &[(u8, u64)] = match number {
                10 | 50 => &[(number, 1000), (11, 900), (12, 900), (60, 900)],
                _ => &[(number, 100 + u64::from(number % 7))],
            };
            author(number).write_with(&web, clock, workload("web", replicas))
        })
        .collect();
    let written: Vec<(RawChange, Change)> =
        changes.iter().map(|change| (change.raw(), change.clone())).collect();
    for seed in 0..20 {
        let mut replicas: Vec<Desired> =
            (0..3).map(|i| replica(&shuffled(&changes, seed * 3 + i))).collect();
        for _ in 0..10 {
            for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 2), (2, 1), (1, 0)] {
                for raw in replicas[from].item(&web.hash()) {
                    // Takes the change as its author made it: verifying signatures is tested
                    // elsewhere and would cost seconds here.
                    let (_, change) = written
                        .iter()
                        .find(|(known, _)| *known == raw)
                        .expect("one of those written");
                    replicas[to].apply(change.clone()).unwrap();
                }
            }
        }
        assert!(replicas[0].siblings(&web).count() <= MAX_SIBLINGS);
        assert!(
            replicas.iter().all(|replica| bytes(replica) == bytes(&replicas[0])),
            "seed {seed}"
        );
    }
}
