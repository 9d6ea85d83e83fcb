use super::*;
use crate::model::{ClusterId, KeyPair};

const CLUSTER: ClusterId = ClusterId([9; 32]);

fn body(key: Key, value: Value) -> ChangeBody {
    let writer = WriterId([3; 32]);
    ChangeBody { key, writer, serial: 5, clock: Clock::from([(writer, 5)]), uid: None, value }
}

/// The key's hash names it on disk and in sync, where older and newer programs meet.
#[test]
fn hash_of_a_key_is_the_same_in_every_program() {
    let known = Key::Workload("web".parse().unwrap());
    let (kind, bytes) = known.parts();
    assert_eq!(Key::Other(kind, Bytes(bytes)).hash(), known.hash());
}

#[test]
fn change_is_read_as_it_was_written() {
    let web = || Key::Workload("web".parse().unwrap());
    for body in [
        body(web(), Value::Workload { version: 7, bytes: vec![1, 2] }),
        body(web(), Value::Tombstone),
        body(Key::Member(NodeId([1; 32])), Value::Member { salt: 9 }),
        body(Key::Other(40, Bytes(vec![1])), Value::Other(50, Bytes(vec![2]))),
    ] {
        assert_eq!(ChangeBody::read(&codec::encode(&body)), Ok(body));
    }
}

/// A newer program writes a key and a value of kinds that this one does not know, with more fields.
#[test]
fn change_of_a_newer_program_is_kept_as_it_came() {
    let newer = body(Key::Other(40, Bytes(vec![1])), Value::Other(50, Bytes(vec![2])));
    #[derive(Serialize, Deserialize)]
    struct Newer(ChangeBody, String);
    impl Signable for Newer {
        const DOMAIN: &'static str = "shoal/change/2";
    }
    let keys = KeyPair::from_seed(&[1; 32]);
    let bytes =
        codec::encode(&Signed::sign(Newer(newer.clone(), "more".into()), &keys, &CLUSTER).wire());
    let arrived: Unverified<ChangeBody> = codec::decode(&bytes).unwrap();
    let signed = arrived.verify(&CLUSTER).unwrap();
    assert_eq!(signed.body(), &newer);
    assert_eq!(codec::encode(&signed.wire()), bytes);
}

/// Of a form that this program cannot read, the key and the clock are known: it can be kept,
/// compared and passed on.
#[test]
fn change_of_an_unknown_form_is_kept_by_its_header() {
    let key = Key::Workload("web".parse().unwrap());
    let known = body(key.clone(), Value::Tombstone);
    let (kind, bytes) = key.parts();
    let header = (FORM + 1, (kind, Bytes(bytes)), known.writer, 5u64, known.clock.clone());
    let read = ChangeBody::read(&codec::encode(&(header, None::<Digest>, "anything"))).unwrap();
    assert_eq!((read.key, read.serial, read.clock), (key, 5, known.clock));
    assert_eq!(read.value, Value::Other(FORM + 1, Bytes::default()));
}
