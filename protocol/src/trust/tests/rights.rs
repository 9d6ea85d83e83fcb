//! Roles, namespaces, ends and chains: what each key may write, and give.

use super::*;

fn only(namespace: &str) -> Namespaces {
    Namespaces::Only([namespace.parse().unwrap()].into())
}

/// A change of `key` by the holder of `chain`.
fn write(chain: &Chain, keys: &KeyPair, key: Key, value: Value) -> Result<Change, Rejection> {
    write_at(chain, keys, key, value, 7)
}

fn write_at(
    chain: &Chain,
    keys: &KeyPair,
    key: Key,
    value: Value,
    serial: u64,
) -> Result<Change, Rejection> {
    let writer = writer_id(&keys.public(), &INSTALLATION);
    let clock = Clock::from([(writer, serial)]);
    let body = ChangeBody { key, writer, serial, clock, uid: None, value };
    sign_change(&cluster().genesis, keys, chain, body)
}

fn keys(number: u8) -> KeyPair {
    KeyPair::from_seed(&[number; 32])
}

/// The chain by which the root gives a right to the key 3.
fn given(role: Role, namespaces: Namespaces) -> Chain {
    let Cluster { genesis, root, operator, .. } = cluster();
    let terms = terms(role, namespaces);
    grant(&genesis, &root, &Chain::default(), operator.public(), terms).unwrap()
}

fn workload(text: &str) -> (Key, Value) {
    (Key::Workload(name(text)), Value::workload(&spec(text)))
}

fn revocation(of: PublicKey) -> (Key, Value) {
    let revoked = Revoked { last: 3, withdraw: false, why: "lost".into(), stays: None };
    (Key::Revocation(of), Value::Revoked(revoked))
}

fn needs(result: Result<Change, Rejection>) -> String {
    match result.unwrap_err() {
        Rejection::Never(Fault::Role { needed, .. }) => needed,
        other => panic!("{other:?}"),
    }
}

/// The refusal names the role that it takes.
#[test]
fn each_role_writes_what_it_may_and_no_more() {
    let node = NodeId([7; 32]);
    let salt = admission_salt(&cluster().genesis, &node);
    let admission = (Key::Member(node), Value::Member { salt });
    let removal = (Key::Member(node), Value::Tombstone);
    let quota = (Key::Quota("shop".parse().unwrap()), Value::Quota(Default::default()));
    let config = (Key::Config(name("shop/motd")), Value::Config(codec::Bytes(b"hi".to_vec())));
    let own = keys(3);
    let by = |role, namespaces, (key, value): &(Key, Value)| {
        write(&given(role, namespaces), &own, key.clone(), value.clone())
    };
    for what in [&workload("web"), &admission, &removal, &quota, &config, &revocation(own.public())]
    {
        assert!(by(Role::Admin, Namespaces::All, what).is_ok(), "{:?}", what.0);
        needs(by(Role::Reader, Namespaces::All, what));
    }
    for what in [&workload("web"), &config] {
        assert!(by(Role::Publisher, Namespaces::All, what).is_ok());
    }
    for what in [&admission, &removal, &revocation(own.public())] {
        needs(by(Role::Publisher, Namespaces::All, what));
        let needed = needs(by(Role::Admin, only("shop"), what));
        assert!(needed.contains("all namespaces"), "{needed}");
    }
    assert!(by(Role::Publisher, only("shop"), &config).is_ok());
    assert!(by(Role::Admin, only("shop"), &quota).is_ok());
    assert_eq!(
        needs(by(Role::Publisher, only("shop"), &workload("web"))),
        "a publisher of namespace default"
    );
    assert_eq!(needs(by(Role::Publisher, only("shop"), &quota)), "an admin of namespace shop");
}

/// A right is never wider than its giver's: neither its role nor its namespaces nor its end.
#[test]
fn nobody_gives_more_than_it_has() {
    let genesis = cluster().genesis;
    let give = |chain: &Chain, role, namespaces| {
        grant(&genesis, &keys(3), chain, keys(4).public(), terms(role, namespaces))
    };
    let admin = given(Role::Admin, Namespaces::All);
    assert!(give(&admin, Role::Admin, Namespaces::All).is_ok());
    let shop_admin = given(Role::Admin, only("shop"));
    assert!(give(&shop_admin, Role::Publisher, only("shop")).is_ok());
    for namespaces in [Namespaces::All, only("lab")] {
        let wider = give(&shop_admin, Role::Publisher, namespaces).unwrap_err();
        assert!(matches!(wider, Rejection::Never(Fault::GrantWider { .. })), "{wider}");
    }
    for role in [Role::Publisher, Role::Reader] {
        let poor = give(&given(role, Namespaces::All), Role::Reader, Namespaces::All).unwrap_err();
        assert!(matches!(poor, Rejection::Never(Fault::GrantRole { .. })), "{poor}");
    }
    let itself = give(&admin, Role::Admits(NodeId([7; 32])), Namespaces::All).unwrap_err();
    assert!(matches!(itself, Rejection::Never(Fault::GrantRole { .. })), "{itself}");
}

/// The end of any grant in the chain counts, by the serial of the statement and no clock.
#[test]
fn statement_after_the_end_of_a_grant_is_refused() {
    let Cluster { genesis, root, .. } = cluster();
    let until = |end, name: &str| Terms {
        name: name.into(),
        expires: Some(WallClock(end)),
        ..terms(Role::Admin, Namespaces::All)
    };
    let (ada, bob) = (keys(3), keys(4));
    let chain =
        grant(&genesis, &root, &Chain::default(), ada.public(), until(1_000, "ada")).unwrap();
    let chain = grant(&genesis, &ada, &chain, bob.public(), until(5_000, "bob")).unwrap();
    let (key, value) = workload("web");
    let at =
        |time| write_at(&chain, &bob, key.clone(), value.clone(), serial_at(WallClock(time)) + 9);
    assert!(at(1_000).is_ok());
    let (expires, at_1001) = (WallClock(1_000), WallClock(1_001));
    let ended = Fault::Expired { name: "ada".into(), expires, at: at_1001 };
    assert_eq!(at(1_001).unwrap_err(), ended.into());
}

#[test]
fn chain_has_a_bound() {
    let Cluster { genesis, root, .. } = cluster();
    let (mut chain, mut giver) = (Chain::default(), root);
    for number in 10..10 + u8::try_from(MAX_CHAIN).unwrap() {
        let next = keys(number);
        let terms = terms(Role::Admin, Namespaces::All);
        chain = grant(&genesis, &giver, &chain, next.public(), terms).unwrap();
        giver = next;
    }
    let terms = terms(Role::Admin, Namespaces::All);
    let longer = grant(&genesis, &giver, &chain, keys(99).public(), terms).unwrap_err();
    assert_eq!(longer, Fault::ChainLength(MAX_CHAIN + 1).into());
}

/// No part of a chain can be left out, altered or put in another place.
#[test]
fn chain_holds_as_a_whole() {
    let Cluster { genesis, root, .. } = cluster();
    let admin = given(Role::Admin, Namespaces::All);
    let terms = || terms(Role::Publisher, Namespaces::All);
    let chain = grant(&genesis, &keys(3), &admin, keys(4).public(), terms()).unwrap();
    let (key, value) = workload("web");
    let by = |chain: &Chain| write(chain, &keys(4), key.clone(), value.clone());
    assert!(by(&chain).is_ok());
    let grants = chain.grants();
    for bad in [&grants[..1], &grants[1..], &[grants[1].clone(), grants[0].clone()]] {
        assert!(by(&bad.iter().cloned().collect()).is_err(), "{bad:?}");
    }
    let bytes = codec::encode(&chain);
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        if let Ok(altered) = codec::decode::<Chain>(&altered) {
            assert!(by(&altered).is_err(), "byte {at}");
        }
    }
    let (_, unnamed) = (root, Terms { name: String::new(), ..terms() });
    let refused = grant(&genesis, &keys(3), &admin, keys(4).public(), unnamed);
    assert_eq!(refused.unwrap_err(), Fault::GrantName.into());
}

fn ticket_chain(by: &KeyPair, node: NodeId) -> (KeyPair, Chain) {
    let (genesis, invite) = (cluster().genesis, keys(5));
    let terms = Terms {
        name: "invite".into(),
        role: Role::Inviter { uses: 1, labels: Vec::new() },
        namespaces: Namespaces::All,
        serial: 5,
        expires: Some(WallClock(1_000)),
    };
    let admin = given(Role::Admin, Namespaces::All);
    let chain = grant(&genesis, &keys(3), &admin, invite.public(), terms).unwrap();
    let ticket = ticket(&genesis, &invite, by.public(), node, 6);
    (invite, chain.with(ticket))
}

/// A stolen device has its own key alone, and with a device's ticket it admits that device.
#[test]
fn member_admits_the_device_that_asked_and_writes_nothing_else() {
    let (genesis, by, node) = (cluster().genesis, keys(6), NodeId([7; 32]));
    let (invite, chain) = ticket_chain(&by, node);
    let admission = admit(&genesis, &by, &chain, node, 900).unwrap();
    assert_eq!(accept(&genesis, admission.raw()), Ok(admission.clone()));
    let other = admit(&genesis, &by, &chain, NodeId([8; 32]), 900).unwrap_err();
    assert!(matches!(other, Rejection::Never(Fault::Admits(_))), "{other}");
    let (key, value) = workload("web");
    let workload = write(&chain, &by, key, value).unwrap_err();
    assert!(matches!(workload, Rejection::Never(Fault::Admits(_))), "{workload}");
    // The device cannot admit itself, and nobody else with its ticket.
    for keys in [&invite, &keys(9)] {
        assert!(admit(&genesis, keys, &chain, node, 900).is_err());
    }
    let late = admit(&genesis, &by, &chain, node, serial_at(WallClock(1_001))).unwrap_err();
    assert!(matches!(late, Rejection::Never(Fault::Expired { .. })), "{late}");
    let altered = |alter: &dyn Fn(&mut ChangeBody)| {
        let mut body = admission.signed.body().clone();
        alter(&mut body);
        sign_change(&genesis, &by, &chain, body).unwrap_err()
    };
    assert_eq!(altered(&|body| body.value = Value::Tombstone), Fault::Kind.into());
    let moved = altered(&|body| body.value = Value::Member { salt: 1 });
    assert_eq!(moved, Fault::AdmissionSalt(node).into());
    // An admission whose clock has seen a removal would supersede it.
    let seen = altered(&|body| {
        body.clock.insert(WriterId([1; 32]), 1);
    });
    assert_eq!(seen, Fault::Admission.into());
}

/// An invite without an end is a password.
#[test]
fn invites_have_an_end_and_a_number_of_uses() {
    let genesis = cluster().genesis;
    let admin = given(Role::Admin, Namespaces::All);
    let invite = |uses, expires, namespaces| {
        let role = Role::Inviter { uses, labels: Vec::new() };
        let terms = Terms { expires, ..terms(role, namespaces) };
        grant(&genesis, &keys(3), &admin, keys(5).public(), terms)
    };
    let end = Some(WallClock(1_000));
    assert!(invite(1, end, Namespaces::All).is_ok());
    for bad in [
        invite(0, end, Namespaces::All),
        invite(1_000_000, end, Namespaces::All),
        invite(1, None, Namespaces::All),
        invite(1, end, only("shop")),
    ] {
        assert_eq!(bad.unwrap_err(), Fault::InviteForm.into());
    }
}

#[test]
fn root_cannot_be_revoked_and_a_revocation_stays() {
    let Cluster { genesis, root, .. } = cluster();
    let (key, value) = revocation(root.public());
    let by_root = |key, value| write(&Chain::default(), &root, key, value);
    assert_eq!(by_root(key, value).unwrap_err(), Fault::RevokesRoot.into());
    let (key, value) = revocation(keys(3).public());
    assert!(by_root(key.clone(), value).is_ok());
    assert_eq!(by_root(key, Value::Tombstone).unwrap_err(), Fault::Kind.into());
    assert_eq!(genesis.root, root.public());
}

/// The list of operators shows rights that its author could give.
#[test]
fn operators_are_entered_by_those_who_could_make_them() {
    let genesis = cluster().genesis;
    let admin = given(Role::Admin, Namespaces::All);
    let bob = keys(4).public();
    let terms = terms(Role::Publisher, Namespaces::All);
    let chain = grant(&genesis, &keys(3), &admin, bob, terms).unwrap();
    let enter = |of, chain: &Chain| {
        write(&admin, &keys(3), Key::Operator(of), Value::Operator(chain.clone()))
    };
    assert!(enter(bob, &chain).is_ok());
    assert!(enter(keys(9).public(), &chain).is_err(), "another key");
    let shop = given(Role::Admin, only("shop"));
    let value = Value::Operator(chain);
    assert_eq!(
        needs(write(&shop, &keys(3), Key::Operator(bob), value)),
        "an admin of all namespaces"
    );
}

/// An administrator of some namespaces enters an operator beside what others entered about the
/// same key, and never over it.
#[test]
fn entry_of_a_narrow_administrator_stands_beside_others() {
    let genesis = cluster().genesis;
    let shop = given(Role::Admin, only("shop"));
    let (author, bob) = (keys(3).public(), keys(4).public());
    let terms = terms(Role::Reader, only("shop"));
    let chain = grant(&genesis, &keys(3), &shop, bob, terms).unwrap();
    let enter = |of| write(&shop, &keys(3), Key::Operator(of), Value::Operator(chain.clone()));
    assert!(enter(bob).is_err(), "it would hide what others entered");
    let right = authority(&genesis, &shop, author, None).unwrap();
    let entry = operator_entry(&right, &author, &bob);
    assert_ne!(entry, bob);
    assert!(enter(entry).is_ok());
}
