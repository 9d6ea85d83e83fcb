//! Revocations and invites: whatever the order in which changes come, replicas that have exchanged
//! what they hold agree, and nothing of a key that lost its rights counts.

use std::collections::BTreeSet;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::desired::{Applied, Barred, Context, Desired, Moved};
use crate::model::change::Revoked;
use crate::model::{
    Artifact, Chain, Change, ChangeBody, Digest, Key, KeyPair, Namespaces, NodeId, PublicKey,
    RawChange, Resources, Role, SpecForm, Value, WallClock, WorkloadName, codec,
};
use crate::trust::{self, Genesis, Terms};

fn name(text: &str) -> WorkloadName {
    text.parse().unwrap()
}

fn key(text: &str) -> Key {
    Key::Workload(name(text))
}

fn workload(text: &str, replicas: u32) -> Value {
    let artifact = Artifact { digest: Digest::of(b"artifact"), size: 10 };
    let resources = Resources { memory: 64 << 20, cpu: 100 };
    let form = SpecForm::wasm_service(name(text), artifact, replicas, resources);
    Value::workload(&form.try_into().unwrap())
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

fn shuffled<T: Clone>(all: &[T], seed: u64) -> Vec<T> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut all = all.to_vec();
    for i in (1..all.len()).rev() {
        all.swap(i, (rng.next_u64() % (i as u64 + 1)) as usize);
    }
    all
}

/// A cluster's keys, and who was given what.
struct Keys {
    genesis: Genesis,
    root: KeyPair,
}

/// The holder of a key with its chain.
struct Holder {
    keys: KeyPair,
    chain: Chain,
}

struct Stolen {
    founder: KeyPair,
    stolen: KeyPair,
    invite: Holder,
    /// Of the founder and of the stolen device.
    admissions: Vec<Change>,
}

fn pair(number: u8) -> KeyPair {
    KeyPair::from_seed(&[number; 32])
}

fn setup() -> Keys {
    let root = pair(1);
    Keys { genesis: Genesis { root: root.public() }, root }
}

impl Keys {
    fn root(&self) -> Holder {
        Holder { keys: self.root.clone(), chain: Chain::default() }
    }

    fn give(&self, giver: &Holder, number: u8, role: Role, serial: u64) -> Holder {
        let keys = pair(number);
        let expires = Some(WallClock(1 << 40));
        let (name, namespaces) = (format!("key {number}"), Namespaces::All);
        let terms = Terms { name, role, namespaces, serial, expires };
        let chain =
            trust::grant(&self.genesis, &giver.keys, &giver.chain, keys.public(), terms).unwrap();
        Holder { keys, chain }
    }

    fn write(&self, by: &Holder, on: &Desired, key: &Key, value: Value, serial: u64) -> Change {
        let writer = trust::writer_id(&by.keys.public(), &[0; 16]);
        let Context { mut clock, uid, serial: least } = on.context(key, WallClock(0)).unwrap();
        let serial = serial.max(least);
        clock.insert(writer, serial);
        let body = ChangeBody { key: key.clone(), writer, serial, clock, uid, value };
        trust::sign_change(&self.genesis, &by.keys, &by.chain, body).unwrap()
    }

    fn revoke(&self, by: &Holder, of: &Holder, last: u64, withdraw: bool, serial: u64) -> Change {
        let key = Key::Revocation(of.keys.public());
        let value = Value::Revoked(Revoked { last, withdraw, why: String::new(), stays: None });
        self.write(by, &Desired::default(), &key, value, serial)
    }

    /// The device `node` is admitted by `by`, with an invite of the root for so many.
    fn admit(&self, by: &KeyPair, invite: &Holder, node: u8, serial: u64) -> Change {
        let node = NodeId([node; 32]);
        let ticket = trust::ticket(&self.genesis, &invite.keys, by.public(), node, serial);
        trust::admit(&self.genesis, by, &invite.chain.with(ticket), node, serial).unwrap()
    }

    fn founder(&self) -> (KeyPair, Change) {
        let keys = pair(40);
        let node = NodeId(keys.public().0);
        let (root, chain) = (&self.root, Chain::default());
        let change = trust::admit_as_operator(&self.genesis, root, &chain, node, 1).unwrap();
        (keys, change)
    }

    /// A member that was let in by the founder, with an invite of many uses, and is stolen.
    fn stolen(&self) -> Stolen {
        let (founder, founding) = self.founder();
        let (invite, stolen) = (self.invite(100), pair(80));
        let id = NodeId(stolen.public().0);
        let ticket = trust::ticket(&self.genesis, &invite.keys, founder.public(), id, 10);
        let chain = invite.chain.with(ticket);
        let admission = trust::admit(&self.genesis, &founder, &chain, id, 10).unwrap();
        Stolen { founder, stolen, invite, admissions: vec![founding, admission] }
    }

    fn invite(&self, uses: u32) -> Holder {
        self.give(&self.root(), 50, Role::Inviter { uses, labels: Vec::new() }, 1)
    }
}

/// Plays the changes to three replicas in different orders and portions, then lets the replicas
/// exchange what they hold until nothing changes; returns one of them.
fn settle(changes: &[Change], seed: u64) -> Desired {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut replicas: Vec<Desired> = (0..3).map(|_| Desired::default()).collect();
    for change in shuffled(changes, seed) {
        // Each is heard by one at least.
        let first = (rng.next_u64() % 3) as usize;
        for (index, replica) in replicas.iter_mut().enumerate() {
            if index == first || rng.next_u64() % 2 == 0 {
                replica.apply(change.clone()).unwrap();
            }
        }
    }
    let genesis = setup().genesis;
    for _ in 0..20 {
        for from in 0..3 {
            let held: Vec<RawChange> =
                replicas[from].iter().flat_map(|(_, changes)| changes).collect();
            for replica in &mut replicas {
                for raw in shuffled(&held, rng.next_u64()) {
                    replica.apply(trust::accept(&genesis, raw).unwrap()).unwrap();
                }
            }
        }
    }
    for replica in &replicas[1..] {
        assert_eq!(bytes(replica), bytes(&replicas[0]), "seed {seed}");
        assert_eq!(replica.members(), replicas[0].members(), "seed {seed}");
        assert_eq!(replica.revoked(), replicas[0].revoked(), "seed {seed}");
        let views = |it: &Desired| it.workloads().cloned().collect::<Vec<_>>();
        assert_eq!(views(replica), views(&replicas[0]), "seed {seed}");
    }
    replicas.swap_remove(0)
}

/// An operator's key is stolen. What it wrote before stays, what came after does not count,
/// wherever it was heard first.
#[test]
fn revocation_keeps_what_was_written_before_and_nothing_later() {
    let keys = setup();
    let ada = keys.give(&keys.root(), 3, Role::Publisher, 1);
    let mut on = Desired::default();
    let early = keys.write(&ada, &on, &key("web"), workload("web", 1), 100);
    on.apply(early.clone()).unwrap();
    let late = keys.write(&ada, &on, &key("web"), workload("web", 9), 200);
    let new = keys.write(&ada, &on, &key("miner"), workload("miner", 9), 201);
    let end = keys.revoke(&keys.root(), &ada, 150, false, 300);
    for seed in 0..200 {
        let changes = [early.clone(), late.clone(), new.clone(), end.clone()];
        let settled = settle(&changes, seed);
        assert!(settled.workload(&name("miner")).is_none(), "seed {seed}");
        // Where everybody had heard the later one before, the earlier one is gone as well.
        let web = settled.workload(&name("web"));
        assert!(web.is_none_or(|it| it.spec.replicas() == 1), "seed {seed}");
        assert_eq!(
            settled.workload(&name("web")).is_none(),
            settled.item(&key("web").hash()).is_empty()
        );
    }
    let mut first = Desired::default();
    first.apply(early).unwrap();
    first.apply(end).unwrap();
    assert!(matches!(first.apply(late), Ok(Applied::Barred(Barred::Revoked { .. }))));
    assert_eq!(first.workload(&name("web")).unwrap().spec.replicas(), 1);
}

#[test]
fn withdrawal_takes_everything_away_that_a_key_ever_wrote_or_gave() {
    let keys = setup();
    let ada = keys.give(&keys.root(), 3, Role::Admin, 1);
    let bob = keys.give(&ada, 4, Role::Publisher, 2);
    let on = Desired::default();
    let by_ada = keys.write(&ada, &on, &key("a"), workload("a", 1), 100);
    let by_bob = keys.write(&bob, &on, &key("b"), workload("b", 1), 100);
    let by_root = keys.write(&keys.root(), &on, &key("c"), workload("c", 1), 100);
    let changes = [by_ada, by_bob, by_root];
    for (withdraw, left) in [(true, vec!["c"]), (false, vec!["a", "b", "c"])] {
        let end = keys.revoke(&keys.root(), &ada, 150, withdraw, 300);
        for seed in 0..100 {
            let settled = settle(&[&changes[..], std::slice::from_ref(&end)].concat(), seed);
            let names: Vec<String> = settled.workloads().map(|it| it.name.to_string()).collect();
            assert_eq!(names, left, "seed {seed}");
        }
    }
}

/// Two administrators revoke one another while they are apart. The one that wrote first prevails;
/// the root prevails over both.
#[test]
fn administrators_that_revoke_one_another_leave_one_state() {
    let keys = setup();
    let ada = keys.give(&keys.root(), 3, Role::Admin, 1);
    let bob = keys.give(&keys.root(), 4, Role::Admin, 1);
    let first = keys.revoke(&ada, &bob, 50, false, 100);
    let second = keys.revoke(&bob, &ada, 60, false, 101);
    for seed in 0..100 {
        let settled = settle(&[first.clone(), second.clone()], seed);
        let revoked: Vec<PublicKey> = settled.revoked().keys().copied().collect();
        assert_eq!(revoked, [bob.keys.public()], "seed {seed}");
        let by_root = keys.revoke(&keys.root(), &ada, 0, true, 200);
        let settled = settle(&[first.clone(), second.clone(), by_root], seed);
        let revoked: BTreeSet<PublicKey> = settled.revoked().keys().copied().collect();
        assert_eq!(revoked, [ada.keys.public()].into(), "seed {seed}");
    }
}

/// One single-use invite, two devices, two members that did not hear of one another: the earlier
/// admission counts, in whatever order they come.
#[test]
fn single_use_invite_admits_one_device() {
    let keys = setup();
    let (founder, founding) = keys.founder();
    let invite = keys.invite(1);
    let one = keys.admit(&founder, &invite, 61, 1_000);
    let two = keys.admit(&founder, &invite, 62, 1_001);
    let both = [founding.clone(), one.clone(), two.clone()];
    for seed in 0..100 {
        let settled = settle(&both, seed);
        assert_eq!(settled.members().len(), 2, "seed {seed}");
        assert!(settled.members().contains_key(&NodeId([61; 32])), "seed {seed}");
    }
    let mut desired = replica(&[founding, two]);
    let Ok(Applied::New { also, .. }) = desired.apply(one) else { panic!("it is taken") };
    assert_eq!(also, [Moved { key: Key::Member(NodeId([62; 32])), before: None }]);
    assert_eq!(desired.invite_uses(&invite.keys.public()), (2, Some(NodeId([61; 32]))));
}

/// A stolen device made up members of its own, and had them admit others.
#[test]
fn members_that_nobody_admitted_admit_nobody() {
    let keys = setup();
    let (founder, founding) = keys.founder();
    let invite = keys.invite(100);
    let stranger = pair(70);
    let by_stranger = keys.admit(&stranger, &invite, 61, 1_000);
    let mut desired = replica(std::slice::from_ref(&founding));
    assert_eq!(desired.apply(by_stranger.clone()), Ok(Applied::Barred(Barred::Unrooted)));
    // Of a chain of devices, each admitted by the one before, all are members in any order.
    let ids = |it: &KeyPair| NodeId(it.public().0);
    let device = |number: u8| pair(number);
    let admit = |by: &KeyPair, of: &KeyPair, serial| {
        let ticket = trust::ticket(&keys.genesis, &invite.keys, by.public(), ids(of), serial);
        let chain = invite.chain.with(ticket);
        trust::admit(&keys.genesis, by, &chain, ids(of), serial).unwrap()
    };
    let mut changes = vec![founding, by_stranger];
    let mut by = founder;
    for number in 80..90 {
        changes.push(admit(&by, &device(number), 1_000 + u64::from(number)));
        by = device(number);
    }
    for seed in 0..50 {
        let settled = settle(&changes, seed);
        assert_eq!(settled.members().len(), 11, "seed {seed}");
        assert!(!settled.members().contains_key(&NodeId([61; 32])), "seed {seed}");
    }
    let last = ids(&device(89));
    assert_eq!(settle(&changes, 0).lineage(last, 8).len(), 8);
}

/// A revoked device is no member, and what it admitted afterwards is none either; withdrawn, it
/// takes with it all that it let in.
#[test]
fn revoked_device_leaves_with_what_it_let_in_since() {
    let keys = setup();
    let Stolen { founder, stolen, invite, admissions } = keys.stolen();
    let before = keys.admit(&stolen, &invite, 61, 100);
    let after = keys.admit(&stolen, &invite, 62, 300);
    let thief = Holder { keys: stolen, chain: Chain::default() };
    let changes = [admissions, vec![before, after]].concat();
    for (withdraw, left) in [(false, vec![61]), (true, vec![])] {
        let end = keys.revoke(&keys.root(), &thief, 200, withdraw, 400);
        for seed in 0..100 {
            let settled = settle(&[&changes[..], std::slice::from_ref(&end)].concat(), seed);
            let mut expected: Vec<NodeId> = left.iter().map(|it| NodeId([*it; 32])).collect();
            expected.push(NodeId(founder.public().0));
            expected.sort();
            let members: Vec<NodeId> = settled.members().keys().copied().collect();
            assert_eq!(members, expected, "seed {seed}, withdraw {withdraw}");
        }
    }
}

/// A thief has a stolen device's key and an old invite, and dates an admission back to when the
/// invite lived. The revocation named what the device had let in, so nobody else gets in by it.
#[test]
fn revoked_device_lets_nobody_in_with_an_earlier_date() {
    let keys = setup();
    let Stolen { founder, stolen, invite, admissions } = keys.stolen();
    let before = keys.admit(&stolen, &invite, 61, 100);
    let dated_back = keys.admit(&stolen, &invite, 62, 101);
    let named = [crate::model::change::admission_name(&before.hash())].into();
    let end = Revoked { last: 200, withdraw: false, why: String::new(), stays: Some(named) };
    let key = Key::Revocation(stolen.public());
    let on = Desired::default();
    let end = keys.write(&keys.root(), &on, &key, Value::Revoked(end), 400);
    let again = trust::accept(&keys.genesis, end.clone().raw()).unwrap();
    assert_eq!(again.signed.value, end.signed.value, "it is read as it was written");
    let changes = [admissions, vec![before, dated_back, end]].concat();
    for seed in 0..100 {
        let settled = settle(&changes, seed);
        let mut expected = vec![NodeId([61; 32]), NodeId(founder.public().0)];
        expected.sort();
        let members: Vec<NodeId> = settled.members().keys().copied().collect();
        assert_eq!(members, expected, "seed {seed}");
    }
}
