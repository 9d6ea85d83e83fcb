use super::*;
use crate::model::change::{MAX_CLOCK, MAX_SERIAL, Revoked};
use crate::model::grant::MAX_CHAIN;
use crate::model::{
    Artifact, Chain, Change, ChangeBody, Clock, Grant, Key, KeyPair, Namespaces, RawChange,
    Resources, Role,
};
use crate::model::{Signable, Signed, Spec, SpecForm, Value, WorkloadName, codec};

mod invite;
mod rights;

const INSTALLATION: [u8; 16] = [9; 16];

struct Cluster {
    genesis: Genesis,
    root: KeyPair,
    operator: KeyPair,
    chain: Chain,
}

fn terms(role: Role, namespaces: Namespaces) -> Terms {
    Terms { name: "ada".into(), role, namespaces, serial: 5, expires: None }
}

fn cluster() -> Cluster {
    let (root, operator) = (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[3; 32]));
    let genesis = Genesis { root: root.public() };
    let terms = terms(Role::Publisher, Namespaces::All);
    let chain = grant(&genesis, &root, &Chain::default(), operator.public(), terms).unwrap();
    Cluster { genesis, root, operator, chain }
}

fn name(text: &str) -> WorkloadName {
    text.parse().unwrap()
}

fn spec(text: &str) -> Spec {
    let form = SpecForm::wasm_service(
        name(text),
        Artifact { digest: Digest::of(b"artifact"), size: 10 },
        2,
        Resources { memory: 64 << 20, cpu: 100 },
    );
    form.try_into().unwrap()
}

fn body(cluster: &Cluster) -> ChangeBody {
    let writer = writer_id(&cluster.operator.public(), &INSTALLATION);
    ChangeBody {
        key: Key::Workload(name("web")),
        writer,
        serial: 7,
        clock: Clock::from([(writer, 7)]),
        uid: None,
        value: Value::workload(&spec("web")),
    }
}

fn sign(cluster: &Cluster, body: ChangeBody) -> Result<Change, Rejection> {
    sign_change(&cluster.genesis, &cluster.operator, &cluster.chain, body)
}

/// The fault of a valid body after `change` altered it.
fn fault(change: impl FnOnce(&mut ChangeBody)) -> Fault {
    let cluster = cluster();
    let mut body = body(&cluster);
    change(&mut body);
    match sign(&cluster, body) {
        Err(Rejection::Never(fault)) => fault,
        other => panic!("{other:?}"),
    }
}

fn raw(cluster: &Cluster, keys: &KeyPair, chain: &Chain) -> RawChange {
    let signed = Signed::sign(body(cluster), keys, &cluster.genesis.cluster());
    RawChange { change: signed.wire(), chain: chain.clone() }
}

/// A change that is encoded, sent and decoded is accepted as the one that was signed.
#[test]
fn operators_change_is_accepted_after_encoding() {
    let cluster = cluster();
    let change = sign(&cluster, body(&cluster)).unwrap();
    let arrived: RawChange = codec::decode(&codec::encode(&change.raw())).unwrap();
    assert_eq!(accept(&cluster.genesis, arrived), Ok(change));
}

#[test]
fn root_needs_no_grant() {
    let cluster = cluster();
    assert!(accept(&cluster.genesis, raw(&cluster, &cluster.root, &Chain::default())).is_ok());
    let hung_on = raw(&cluster, &cluster.root, &cluster.chain);
    assert_eq!(accept(&cluster.genesis, hung_on), Err(Fault::NeedlessGrant.into()));
}

#[test]
fn only_operators_write_workloads() {
    let cluster = cluster();
    let stranger = KeyPair::from_seed(&[4; 32]);
    let judge = |raw| accept(&cluster.genesis, raw).unwrap_err();

    let alone = raw(&cluster, &stranger, &Chain::default());
    assert_eq!(judge(alone), Fault::Stranger(stranger.public()).into());
    let borrowed = raw(&cluster, &stranger, &cluster.chain);
    let subject = cluster.operator.public();
    assert_eq!(judge(borrowed), Fault::GrantSubject { subject, author: stranger.public() }.into());

    let own = Grant {
        subject: stranger.public(),
        name: "me".into(),
        role: Role::Admin,
        namespaces: Namespaces::All,
        serial: 1,
        expires: None,
    };
    let own = Signed::sign(own, &stranger, &cluster.genesis.cluster());
    let self_made = raw(&cluster, &stranger, &Chain::default().with(own.wire()));
    let (by, giver) = (stranger.public(), cluster.root.public());
    assert_eq!(judge(self_made), Fault::GrantGiver { by, giver }.into());
}

/// The same root key in two clusters cannot be; a grant of another root is another cluster's.
#[test]
fn grant_of_another_cluster_is_refused() {
    let cluster = cluster();
    let other_root = KeyPair::from_seed(&[8; 32]);
    let other = Genesis { root: other_root.public() };
    let terms = terms(Role::Publisher, Namespaces::All);
    let chain =
        grant(&other, &other_root, &Chain::default(), cluster.operator.public(), terms).unwrap();
    let raw = raw(&cluster, &cluster.operator, &chain);
    let (by, giver) = (other_root.public(), cluster.root.public());
    assert_eq!(accept(&cluster.genesis, raw), Err(Fault::GrantGiver { by, giver }.into()));
}

#[test]
fn no_byte_of_a_change_can_be_altered() {
    let cluster = cluster();
    let change = sign(&cluster, body(&cluster)).unwrap();
    let bytes = codec::encode(&change.raw());
    for i in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[i] ^= 1;
        let verdict =
            codec::decode::<RawChange>(&altered).ok().map(|raw| accept(&cluster.genesis, raw));
        assert!(
            !matches!(verdict, Some(Ok(_) | Err(Rejection::NotYet(_)))),
            "byte {i}: {verdict:?}"
        );
    }
}

#[test]
fn change_of_another_cluster_is_refused() {
    let cluster = cluster();
    let signed = Signed::sign(body(&cluster), &cluster.root, &ClusterId([8; 32]));
    let raw = RawChange { change: signed.wire(), chain: Chain::default() };
    assert_eq!(accept(&cluster.genesis, raw), Err(Fault::Signature(cluster.root.public()).into()));
}

#[test]
fn clocks_that_could_make_replicas_differ_are_refused() {
    let other = WriterId([1; 32]);
    assert_eq!(fault(|body| body.clock = Clock::new()), Fault::ClockSize(0));
    assert_eq!(
        fault(|body| {
            body.clock.insert(body.writer, 6);
        }),
        Fault::ClockWriter
    );
    assert_eq!(fault(|body| body.writer = other), Fault::ClockWriter);
    assert_eq!(
        fault(|body| {
            body.clock.insert(other, 0);
        }),
        Fault::ClockZero
    );
    assert_eq!(
        fault(|body| {
            body.clock.insert(other, 7);
        }),
        Fault::ClockAhead
    );
    let crowd = |body: &mut ChangeBody| body.clock.extend((0..64).map(|i| (WriterId([i; 32]), 1)));
    assert_eq!(fault(crowd), Fault::ClockSize(MAX_CLOCK + 1));
    let at = |serial| {
        move |body: &mut ChangeBody| {
            body.serial = serial;
            body.clock.insert(body.writer, serial);
        }
    };
    assert_eq!(fault(at(0)), Fault::Serial(0));
    assert_eq!(fault(at(u64::MAX)), Fault::Serial(u64::MAX));
    assert_eq!(fault(at(MAX_SERIAL + 1)), Fault::Serial(MAX_SERIAL + 1));
}

#[test]
fn value_must_suit_its_key() {
    let wrong_name = |body: &mut ChangeBody| body.value = Value::workload(&spec("other"));
    assert_eq!(fault(wrong_name), Fault::Name { spec: name("other"), key: name("web") });
    assert_eq!(fault(|body| body.value = Value::Member { salt: 1 }), Fault::Kind);
    let as_config = |body: &mut ChangeBody| body.key = Key::Config(name("web"));
    assert_eq!(fault(as_config), Fault::Kind);
    let no_version =
        |body: &mut ChangeBody| body.value = Value::Workload { version: 0, bytes: vec![] };
    assert_eq!(fault(no_version), Fault::SpecVersion(0));
}

/// A spec beyond this version's bounds may be good for a newer one: an operator signed it, so it is
/// kept, and acted on by nobody who cannot read it.
#[test]
fn spec_that_this_version_refuses_is_kept_unread() {
    let mut form = SpecForm::from(spec("web"));
    form.kind = crate::model::spec::Kind::Service { replicas: 1_000_000 };
    let cluster = cluster();
    let mut body = body(&cluster);
    body.value = Value::Workload { version: 2, bytes: codec::encode(&form) };
    let change = sign(&cluster, body).unwrap();
    assert_eq!(change.signed.value.spec(), None);
    let why = change.signed.value.check().unwrap_err();
    assert!(why.to_string().contains("replicas: 1000000"), "{why}");
}

/// A newer program writes a spec or a change in a form that this one does not know. Spec: kept
/// unread. Change: not judged yet if the author has a right to write, refused for ever if not.
#[test]
fn newer_spec_is_kept_and_newer_change_blames_nobody() {
    let cluster = cluster();
    let mut newer = body(&cluster);
    newer.value = Value::Workload { version: 3, bytes: vec![1, 2, 3] };
    let change = sign(&cluster, newer).unwrap();
    assert_eq!(change.signed.value.spec(), None);

    // The same signature domain, but a body that this program cannot decode.
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Newer(u8);
    impl Signable for Newer {
        const DOMAIN: &'static str = ChangeBody::DOMAIN;
    }
    let raw = |keys: &KeyPair, chain: &Chain| {
        let signed = Signed::sign(Newer(255), keys, &cluster.genesis.cluster());
        let change = codec::decode(&codec::encode(&signed.wire())).unwrap();
        RawChange { change, chain: chain.clone() }
    };
    let verdict = accept(&cluster.genesis, raw(&cluster.operator, &cluster.chain));
    assert!(matches!(verdict, Err(Rejection::NotYet(Unjudged::Change(_)))), "{verdict:?}");
    let verdict = accept(&cluster.genesis, raw(&KeyPair::from_seed(&[4; 32]), &Chain::default()));
    assert!(matches!(verdict, Err(Rejection::Never(Fault::Stranger(_)))), "{verdict:?}");
}

#[test]
fn change_too_large_for_gossip_is_refused() {
    let huge = |body: &mut ChangeBody| {
        body.value = Value::Workload { version: 2, bytes: vec![0; MAX_CHANGE] }
    };
    assert!(matches!(fault(huge), Fault::Size(_)));
}

#[test]
fn persistent_forms_do_not_change() {
    // These values were computed by another program.
    let genesis = Genesis { root: PublicKey([1; 32]) };
    assert_eq!(
        genesis.cluster().to_string(),
        "31e5295c5534f02d17147f5e82288e54a8b711b2df622d751c524a86a8e41b8f"
    );
    assert_eq!(
        writer_id(&PublicKey([1; 32]), &[2; 16]).to_string(),
        "8a52b6736193b07c35fcffced0ef2df18fa78e6e1faa265281bfd7b04f7265ce"
    );
    assert_eq!(admission_salt(&genesis, &NodeId([2; 32])), 16_686_635_671_833_441_146);
}

/// A workload that only an absent node knows has to be removable, and a removed name has to be
/// removable again.
#[test]
fn removal_of_an_unknown_workload_is_accepted() {
    let cluster = cluster();
    let removal = ChangeBody { value: Value::Tombstone, ..body(&cluster) };
    assert!(sign(&cluster, removal).is_ok());
}
