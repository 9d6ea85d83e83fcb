use super::*;
use crate::model::change::{MAX_CLOCK, MAX_SERIAL};
use crate::model::{
    Artifact, Certificate, Change, ChangeBody, Clock, Key, KeyPair, RawChange, Resources,
};
use crate::model::{Signable, Signed, Spec, SpecForm, Unverified, Value, WorkloadName, codec};

const INSTALLATION: [u8; 16] = [9; 16];

struct Cluster {
    genesis: Genesis,
    root: KeyPair,
    join: KeyPair,
    operator: KeyPair,
    certificate: Unverified<Certificate>,
}

fn cluster() -> Cluster {
    let (root, join, operator) =
        (KeyPair::from_seed(&[1; 32]), KeyPair::from_seed(&[2; 32]), KeyPair::from_seed(&[3; 32]));
    let genesis = Genesis { root: root.public(), join: join.public() };
    let certificate = certify(&genesis, &root, operator.public(), "ada").unwrap();
    Cluster { genesis, root, join, operator, certificate }
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
    sign_change(&cluster.genesis, &cluster.operator, Some(&cluster.certificate), body)
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

fn raw(
    cluster: &Cluster,
    keys: &KeyPair,
    certificate: Option<&Unverified<Certificate>>,
) -> RawChange {
    let signed = Signed::sign(body(cluster), keys, &cluster.genesis.cluster());
    RawChange { change: signed.wire(), certificate: certificate.cloned() }
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
fn root_needs_no_certificate() {
    let cluster = cluster();
    assert!(accept(&cluster.genesis, raw(&cluster, &cluster.root, None)).is_ok());
    let hung_on = raw(&cluster, &cluster.root, Some(&cluster.certificate));
    assert_eq!(accept(&cluster.genesis, hung_on), Err(Fault::NeedlessCertificate.into()));
}

#[test]
fn only_operators_write_workloads() {
    let cluster = cluster();
    let stranger = KeyPair::from_seed(&[4; 32]);
    let judge = |raw| accept(&cluster.genesis, raw).unwrap_err();

    let alone = raw(&cluster, &stranger, None);
    assert_eq!(judge(alone), Fault::Stranger(stranger.public()).into());
    let join = raw(&cluster, &cluster.join, None);
    assert_eq!(judge(join), Fault::Stranger(cluster.join.public()).into());
    let borrowed = raw(&cluster, &stranger, Some(&cluster.certificate));
    let subject = cluster.operator.public();
    assert_eq!(
        judge(borrowed),
        Fault::CertificateSubject { subject, author: stranger.public() }.into()
    );

    let own = Certificate { subject: stranger.public(), name: "me".into() };
    let own = Signed::sign(own, &stranger, &cluster.genesis.cluster());
    let self_made = raw(&cluster, &stranger, Some(&own.wire()));
    assert_eq!(judge(self_made), Fault::CertificateIssuer(stranger.public()).into());
}

/// The same root key in a cluster with another join key: the certificate names another cluster id.
#[test]
fn certificate_of_another_cluster_is_refused() {
    let cluster = cluster();
    let other = Genesis { root: cluster.root.public(), join: PublicKey([5; 32]) };
    let certificate = certify(&other, &cluster.root, cluster.operator.public(), "ada").unwrap();
    let raw = raw(&cluster, &cluster.operator, Some(&certificate));
    assert_eq!(
        accept(&cluster.genesis, raw),
        Err(Fault::CertificateIssuer(cluster.root.public()).into())
    );
    assert!(check_certificate(&other, &certificate).is_ok());
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
    let raw = RawChange { change: signed.wire(), certificate: None };
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
    assert_eq!(fault(|body| body.key = Key::Member(NodeId([1; 32]))), Fault::Kind);
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
    let raw = |keys: &KeyPair, certificate: Option<&Unverified<Certificate>>| {
        let signed = Signed::sign(Newer(255), keys, &cluster.genesis.cluster());
        let change = codec::decode(&codec::encode(&signed.wire())).unwrap();
        RawChange { change, certificate: certificate.cloned() }
    };
    let verdict = accept(&cluster.genesis, raw(&cluster.operator, Some(&cluster.certificate)));
    assert!(matches!(verdict, Err(Rejection::NotYet(Unjudged::Change(_)))), "{verdict:?}");
    let verdict = accept(&cluster.genesis, raw(&KeyPair::from_seed(&[4; 32]), None));
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
fn join_key_only_admits() {
    let cluster = cluster();
    let node = NodeId([7; 32]);
    let change = admit(&cluster.genesis, &cluster.join, node, 42, 5).unwrap();
    assert_eq!(accept(&cluster.genesis, change.raw()), Ok(change.clone()));
    assert_eq!(change.signed.value, Value::Member { salt: 42 });

    let by_join = |alter: &dyn Fn(&mut ChangeBody)| {
        let mut body = change.signed.body().clone();
        alter(&mut body);
        sign_change(&cluster.genesis, &cluster.join, None, body).unwrap_err()
    };
    let removes = by_join(&|body| body.value = Value::Tombstone);
    assert_eq!(removes, Fault::JoinKeyRemoves(node).into());
    // An admission whose clock has seen a removal would supersede it.
    let has_seen = by_join(&|body| {
        body.clock.insert(WriterId([1; 32]), 1);
    });
    assert_eq!(has_seen, Fault::Admission.into());
    let borrows_a_writer = by_join(&|body| {
        body.writer = writer_id(&cluster.operator.public(), &INSTALLATION);
        body.clock = Clock::from([(body.writer, body.serial)]);
    });
    assert_eq!(borrows_a_writer, Fault::Admission.into());
    let for_another = by_join(&|body| body.key = Key::Member(NodeId([8; 32])));
    assert_eq!(for_another, Fault::Admission.into());
    let with_uid = by_join(&|body| body.uid = Some(Digest::of(b"x")));
    assert_eq!(with_uid, Fault::MemberUid.into());
}

#[test]
fn operators_remove_nodes() {
    let cluster = cluster();
    let mut removal = body(&cluster);
    removal.key = Key::Member(NodeId([7; 32]));
    removal.value = Value::Tombstone;
    assert!(sign(&cluster, removal.clone()).is_ok());
    assert!(sign_change(&cluster.genesis, &cluster.root, None, removal).is_ok());
}

#[test]
fn only_the_root_certifies() {
    let cluster = cluster();
    let refused = certify(&cluster.genesis, &cluster.operator, cluster.operator.public(), "ada");
    assert_eq!(refused, Err(Fault::CertificateIssuer(cluster.operator.public())));
    for name in ["", "a\nb", &"x".repeat(MAX_OPERATOR_NAME + 1)] {
        let refused = certify(&cluster.genesis, &cluster.root, cluster.operator.public(), name);
        assert_eq!(refused, Err(Fault::OperatorName), "{name:?}");
    }
}

fn join_line() -> JoinLine {
    JoinLine {
        root: cluster().root.public(),
        join_seed: [2; 32],
        addresses: vec!["10.0.0.5:7700".into(), "node-1.lan:7701".into(), "[fd00::1]:7700".into()],
    }
}

#[test]
fn join_line_leads_to_its_cluster() {
    let line: JoinLine = join_line().to_string().parse().unwrap();
    assert_eq!(line, join_line());
    assert_eq!(line.genesis(), cluster().genesis);
    let text = join_line().to_string();
    let (head, tail) = text.split_at(40);
    let broken_by_a_mail = format!("  {head}\r\n {tail}\n");
    assert_eq!(broken_by_a_mail.parse(), Ok(line));
}

#[test]
fn persistent_forms_do_not_change() {
    // These values were computed by another program.
    let line =
        JoinLine { root: PublicKey([1; 32]), join_seed: [2; 32], addresses: vec!["a:1".into()] };
    assert_eq!(
        line.to_string(),
        concat!(
            "shoal1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQECAgICAgICAgICAgICAgICAgICAgIC",
            "AgICAgICAgICAsqxNYYHbbA0@a:1"
        )
    );
    let genesis = Genesis { root: PublicKey([1; 32]), join: PublicKey([2; 32]) };
    assert_eq!(
        genesis.cluster().to_string(),
        "1c65865822c879ed4dec070a7d2a009d4c077a2c5efb8c9306b0b409d032b595"
    );
    assert_eq!(
        Digest(transport_secret(&[2; 32])).to_string(),
        "7959fe612386d21709a3784e7ec1f40e53e9016340901f76aa104e2533fa6139"
    );
    assert_eq!(
        writer_id(&PublicKey([1; 32]), &[2; 16]).to_string(),
        "8a52b6736193b07c35fcffced0ef2df18fa78e6e1faa265281bfd7b04f7265ce"
    );
}

#[test]
fn join_line_takes_other_addresses() {
    let line = join_line().with_addresses(vec!["gw.example:7700".into()]).unwrap();
    let read: JoinLine = line.to_string().parse().unwrap();
    assert_eq!(
        (read.genesis(), read.addresses),
        (join_line().genesis(), vec!["gw.example:7700".to_owned()])
    );
    assert_eq!(
        join_line().with_addresses(vec!["gw".into()]),
        Err(BadJoinLine::Address("gw".into()))
    );
    assert_eq!(join_line().with_addresses(Vec::new()), Err(BadJoinLine::NoAddress));
}

#[test]
fn truncated_join_line_is_detected() {
    let text = join_line().to_string();
    for end in 0..text.len() {
        let error = text.split_at(end).0.parse::<JoinLine>().unwrap_err();
        let expected = match end {
            0..7 => matches!(error, BadJoinLine::Prefix),
            7..=103 => matches!(error, BadJoinLine::CutShort(given) if given == end),
            _ => matches!(error, BadJoinLine::Checksum),
        };
        assert!(expected, "{end}: {error:?}");
    }
}

#[test]
fn altered_join_line_is_detected() {
    let text = join_line().to_string();
    for i in 0..text.len() {
        let mut altered = text.clone().into_bytes();
        altered[i] = if altered[i] == b'Q' { b'R' } else { b'Q' };
        let altered = String::from_utf8(altered).unwrap();
        assert!(altered.parse::<JoinLine>().is_err(), "character {i}");
    }
}

#[test]
fn bad_join_line_says_what_is_wrong() {
    let error = |text: &str| text.parse::<JoinLine>().unwrap_err();
    assert_eq!(error("hello"), BadJoinLine::Prefix);
    assert_eq!(error("shoal2:abc@a:1"), BadJoinLine::NewerForm("shoal2".into()));
    assert_eq!(error("shoal1:ab+c@a:1"), BadJoinLine::Character('+'));
    assert_eq!(error("shoal1:é@a:1"), BadJoinLine::Character('é'));
    let with = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|a| (*a).to_owned()).collect();
        error(&JoinLine { addresses, ..join_line() }.to_string())
    };
    assert_eq!(with(&[]), BadJoinLine::NoAddress);
    assert_eq!(with(&["a:1"; 17]), BadJoinLine::TooManyAddresses(17));
    for address in
        ["a", "a:0", "a:70000", ":1", "a:+1", "a b:1", "[::zz]:1", "[]:1", "fd00::1:7700"]
    {
        let found = with(&[address]);
        assert!(
            matches!(found, BadJoinLine::Address(_) | BadJoinLine::Checksum),
            "{address}: {found:?}"
        );
    }
}

#[test]
fn debug_output_keeps_the_secret() {
    let line = join_line();
    let secret = "2, 2, 2";
    assert!(format!("{:?}", [2u8; 32]).contains(secret));
    assert!(!format!("{line:?}").contains(secret));
}

/// A workload that only an absent node knows has to be removable, and a removed name has to be
/// removable again.
#[test]
fn removal_of_an_unknown_workload_is_accepted() {
    let cluster = cluster();
    let removal = ChangeBody { value: Value::Tombstone, ..body(&cluster) };
    assert!(sign(&cluster, removal).is_ok());
}
