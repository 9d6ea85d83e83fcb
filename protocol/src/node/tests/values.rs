//! Secrets: which node may get one, and what a new value does to replicas.

use super::harness::{Cluster, cluster, facts};
use super::*;
use crate::membership;
use crate::model::change::Secret;
use crate::model::codec::Bytes;
use crate::model::spec::{Target, ValueKind, ValueUse};
use crate::model::{Key, KeyPair, NodeRecord, PublicKey, SealingKey, Signed, SpecForm, Value};

const OTHER: u8 = 11;
const SEALING: SealingKey = SealingKey([5; 32]);

fn other() -> NodeId {
    NodeId(KeyPair::from_seed(&[OTHER; 32]).public().0)
}

fn db() -> Key {
    Key::Secret("db".parse().unwrap())
}

/// A workload that gets the secret `db`, on nodes with this label if any.
fn using(zone: Option<&str>) -> Spec {
    let mut form = SpecForm::from(spec(1, 32 << 20));
    form.later.values = vec![ValueUse {
        kind: ValueKind::Secret,
        name: "db".parse().unwrap(),
        to: Target::Env("DB".into()),
    }];
    form.placement.require = zone.map(|zone| ("zone".into(), zone.into())).into_iter().collect();
    form.try_into().unwrap()
}

fn set(cluster: &Cluster, founder: &mut Harness, holders_only: bool) -> Digest {
    let Reply::Drafted { draft, .. } = founder.command(Command::Draft { key: db() }) else {
        panic!()
    };
    let keys = BTreeMap::from([(founder.node.id(), Bytes(vec![1; 80]))]);
    let value = Value::Secret(Secret { sealed: Bytes(vec![7; 23]), keys, holders_only });
    let change = cluster.sign_value(draft, db(), value);
    let reply = founder.command(Command::Submit { change: change.raw() });
    assert!(matches!(reply, Reply::Accepted { .. }), "{reply:?}");
    founder.node.value(&db()).unwrap().0
}

/// A founder, and a member with these facts.
fn two(cluster: &Cluster, facts: Facts) -> Harness {
    let mut founder = Harness::new(cluster.founder(Saved::default()));
    cluster.join_member(OTHER, &mut founder);
    let record = NodeRecord {
        counter: 9,
        incarnation: 1,
        name: "b".into(),
        addresses: Vec::new(),
        facts,
        version: "0".into(),
        ready: true,
        leaving: false,
        no_way_to: Vec::new(),
    };
    let keys = KeyPair::from_seed(&[OTHER; 32]);
    let record = Signed::sign(record, &keys, &cluster.genesis.cluster());
    let message = Message::Membership(membership::Message::Record(record.wire()));
    founder.input(Input::Message { from: other(), message });
    founder
}

fn sealing() -> Facts {
    Facts { sealing: Some(SEALING), ..facts() }
}

fn may_read(founder: &Harness, version: &Digest) -> Result<SealingKey, NotForIt> {
    founder.node.may_read(&"db".parse().unwrap(), version, &other())
}

/// A member that was left out gets the key if it may run what uses the secret, and nothing else.
#[test]
fn key_is_for_members_that_may_run_a_user_of_the_secret() {
    let cluster = cluster();
    let mut founder = two(&cluster, sealing());
    let version = set(&cluster, &mut founder, false);
    assert_eq!(may_read(&founder, &version), Err(NotForIt::NotEntitled), "nothing uses it");
    founder.publish(&cluster, &using(None));
    assert_eq!(may_read(&founder, &version), Ok(SEALING));
    assert_eq!(may_read(&founder, &Digest([9; 32])), Err(NotForIt::Unknown), "another version");
    let stranger = NodeId([77; 32]);
    let asked = founder.node.may_read(&"db".parse().unwrap(), &version, &stranger);
    assert_eq!(asked, Err(NotForIt::NoMember));

    let only = set(&cluster, &mut founder, true);
    assert_eq!(may_read(&founder, &only), Err(NotForIt::HoldersOnly));
    let again = set(&cluster, &mut founder, false);
    assert_eq!(may_read(&founder, &again), Ok(SEALING));
    let revoked = cluster.revocation(PublicKey(other().0), u64::MAX >> 2, false);
    let reply = founder.command(Command::Submit { change: revoked.raw() });
    assert!(matches!(reply, Reply::Accepted { .. }), "{reply:?}");
    assert_eq!(may_read(&founder, &again), Err(NotForIt::NoMember), "a stolen node");
}

/// Secrets of a zone stay in it, though other members could open them.
#[test]
fn node_that_cannot_run_the_workload_gets_no_key() {
    let cluster = cluster();
    let mut founder = two(&cluster, sealing());
    founder.input(Input::Facts(Facts { labels: zone("a"), ..facts() }));
    let version = set(&cluster, &mut founder, false);
    founder.publish(&cluster, &using(Some("a")));
    assert_eq!(may_read(&founder, &version), Err(NotForIt::NotEntitled));
}

/// A secret of one shop was sealed to the devices of all others, which could all be stolen.
#[test]
fn secret_is_sealed_to_nodes_that_may_run_its_users() {
    let cluster = cluster();
    let mut founder = two(&cluster, sealing());
    founder.input(Input::Facts(Facts { labels: zone("a"), ..sealing() }));
    let readers = |founder: &Harness| -> Vec<NodeId> {
        let readers = founder.node.readers(&"db".parse().unwrap());
        readers.nodes.iter().map(|it| it.id.parse().unwrap()).collect()
    };
    assert_eq!(readers(&founder).len(), 2, "nothing uses it yet");
    founder.publish(&cluster, &using(Some("a")));
    assert_eq!(readers(&founder), [founder.node.id()]);
    founder.publish(&cluster, &using(None));
    assert_eq!(readers(&founder).len(), 2);
}

fn zone(name: &str) -> BTreeMap<String, String> {
    [("zone".to_owned(), name.to_owned())].into()
}

#[test]
fn node_of_an_older_program_gets_no_key_and_is_named() {
    let cluster = cluster();
    let mut founder = two(&cluster, facts());
    founder.input(Input::Facts(sealing()));
    let version = set(&cluster, &mut founder, false);
    founder.publish(&cluster, &using(None));
    assert_eq!(may_read(&founder, &version), Err(NotForIt::NoKey));
    let readers = founder.node.readers(&"db".parse().unwrap());
    assert_eq!(readers.without, ["b"]);
    assert_eq!((readers.nodes.len(), readers.users), (1, vec!["web".to_owned()]));
}

/// A new value is as a new version of the workload: the holder is ordered to run it.
#[test]
fn new_value_replaces_the_replicas_that_use_it() {
    let cluster = cluster();
    let mut founder = Harness::new(cluster.founder(Saved::default()));
    founder.publish(&cluster, &using(None));
    founder.run_for(Duration::from_secs(5));
    let runs = |founder: &Harness| -> Vec<Digest> {
        let generation = |order: &Order| match order {
            Order::Run { generation, .. } => Some(*generation),
            Order::Stop { .. } | Order::Again { .. } => None,
        };
        founder.orders.iter().filter_map(generation).collect()
    };
    let before = runs(&founder);
    assert_eq!(before.len(), 1, "it is ordered without the secret, and waits in the executor");
    set(&cluster, &mut founder, false);
    founder.run_for(Duration::from_secs(5));
    let after = runs(&founder);
    assert_eq!(after.len(), 2);
    assert_ne!(after[0], after[1]);
    let view = founder.node.workload(&"web".parse().unwrap()).unwrap();
    assert_eq!((view.healthy, view.replicas[0].current), (1, true));
    set(&cluster, &mut founder, false);
    founder.run_for(Duration::from_secs(5));
    assert_eq!(runs(&founder).len(), 3);
}

/// The list shows all but the value.
#[test]
fn views_show_size_and_users_and_no_contents() {
    let cluster = cluster();
    let mut founder = Harness::new(cluster.founder(Saved::default()));
    founder.input(Input::Facts(sealing()));
    founder.publish(&cluster, &using(None));
    founder.run_for(Duration::from_secs(5));
    let readers = founder.node.readers(&"db".parse().unwrap());
    assert!(readers.nodes[0].holds, "it runs what uses the secret");
    set(&cluster, &mut founder, true);
    let views = founder.node.values();
    assert_eq!((views.len(), views[0].size, views[0].holders_only), (1, 7, true));
    assert_eq!((&views[0].users[..], views[0].by.as_str()), (&["web".to_owned()][..], "me"));
    assert_eq!(views[0].readers.len(), 1);
}
