//! The line that a person carries to a device.

use super::*;

fn invite() -> Invite {
    let Cluster { genesis, root, .. } = cluster();
    let seed = [2; 32];
    let terms = Terms {
        name: "invite".into(),
        role: Role::Inviter { uses: 1, labels: vec![("zone".into(), "shop".into())] },
        namespaces: Namespaces::All,
        serial: 5,
        expires: Some(WallClock(1_000)),
    };
    let key = KeyPair::from_seed(&seed).public();
    let chain = grant(&genesis, &root, &Chain::default(), key, terms).unwrap();
    Invite {
        root: root.public(),
        seed,
        chain,
        addresses: vec!["10.0.0.5:7700".into(), "node-1.lan:7701".into(), "[fd00::1]:7700".into()],
    }
}

#[test]
fn line_leads_to_its_cluster() {
    let line: Invite = invite().to_string().parse().unwrap();
    assert_eq!(line, invite());
    assert_eq!(line.genesis(), cluster().genesis);
    assert_eq!(line.check(), Ok(Some(WallClock(1_000))));
    let text = invite().to_string();
    let (head, tail) = text.split_at(40);
    let broken_by_a_mail = format!("  {head}\r\n {tail}\n");
    assert_eq!(broken_by_a_mail.parse(), Ok(line));
}

/// Members may be found on the local network.
#[test]
fn line_may_name_no_address() {
    let line = invite().with_addresses(Vec::new()).unwrap();
    assert_eq!(line.to_string().parse(), Ok(line));
}

#[test]
fn line_takes_other_addresses() {
    let line = invite().with_addresses(vec!["gw.example:7700".into()]).unwrap();
    let read: Invite = line.to_string().parse().unwrap();
    assert_eq!((read.chain, read.addresses), (invite().chain, vec!["gw.example:7700".to_owned()]));
    assert_eq!(invite().with_addresses(vec!["gw".into()]), Err(BadInvite::Address("gw".into())));
}

#[test]
fn truncated_line_is_detected() {
    let text = invite().to_string();
    let at = text.find('@').unwrap();
    for end in 0..text.len() {
        let error = text.split_at(end).0.parse::<Invite>().unwrap_err();
        let expected = match end {
            0..7 => matches!(error, BadInvite::Prefix),
            end if end <= at => matches!(error, BadInvite::CutShort(given) if given == end),
            _ => matches!(error, BadInvite::Checksum),
        };
        assert!(expected, "{end}: {error:?}");
    }
}

#[test]
fn altered_line_is_detected() {
    let text = invite().to_string();
    for i in 0..text.len() {
        let mut altered = text.clone().into_bytes();
        altered[i] = if altered[i] == b'Q' { b'R' } else { b'Q' };
        let altered = String::from_utf8(altered).unwrap();
        assert!(altered.parse::<Invite>().is_err(), "character {i}");
    }
}

#[test]
fn bad_line_says_what_is_wrong() {
    let error = |text: &str| text.parse::<Invite>().unwrap_err();
    assert_eq!(error("hello"), BadInvite::Prefix);
    assert_eq!(error("shoal1:AQEB@a:1"), BadInvite::OlderForm);
    assert_eq!(error("shoal3:abc@a:1"), BadInvite::NewerForm("shoal3".into()));
    assert_eq!(error("shoal2:ab+c@a:1"), BadInvite::Character('+'));
    assert_eq!(error("shoal2:é@a:1"), BadInvite::Character('é'));
    assert!(matches!(error(&"x".repeat(100_000)), BadInvite::Length(100_000)));
    let with = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|a| (*a).to_owned()).collect();
        error(&Invite { addresses, ..invite() }.to_string())
    };
    assert_eq!(with(&["a:1"; 17]), BadInvite::TooManyAddresses(17));
    for address in
        ["a", "a:0", "a:70000", ":1", "a:+1", "a b:1", "[::zz]:1", "[]:1", "fd00::1:7700"]
    {
        let found = with(&[address]);
        assert!(
            matches!(found, BadInvite::Address(_) | BadInvite::Checksum),
            "{address}: {found:?}"
        );
    }
    let strange = Invite { seed: [9; 32], ..invite() };
    assert!(matches!(error(&strange.to_string()), BadInvite::Chain(_)));
    let publishers = Invite { seed: [3; 32], chain: cluster().chain, ..invite() };
    assert_eq!(error(&publishers.to_string()), BadInvite::Role("publisher"));
}

#[test]
fn debug_output_keeps_the_secret() {
    let secret = "2, 2, 2";
    assert!(format!("{:?}", [2u8; 32]).contains(secret));
    assert!(!format!("{:?}", invite()).contains(secret));
}
