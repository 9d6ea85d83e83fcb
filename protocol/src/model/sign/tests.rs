use super::*;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Note(String);
impl Signable for Note {
    const DOMAIN: &'static str = "note/1";
}
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Order(String);
impl Signable for Order {
    const DOMAIN: &'static str = "order/1";
}

fn note() -> (Signed<Note>, ClusterId) {
    let cluster = ClusterId([7; 32]);
    (Signed::sign(Note("hi".into()), &KeyPair::from_seed(&[1; 32]), &cluster), cluster)
}

#[test]
fn signed_item_verifies_after_encoding() {
    let (signed, cluster) = note();
    let bytes = codec::encode(&signed.wire());
    let arrived: Unverified<Note> = codec::decode(&bytes).unwrap();
    assert_eq!(arrived.verify(&cluster).unwrap(), signed);
}

/// Another program encodes a body with other bytes than ours. Its signature and its hash cover the
/// bytes that came, so these are stored and sent on.
#[test]
fn bytes_of_another_encoder_are_kept() {
    let (keys, cluster) = (KeyPair::from_seed(&[1; 32]), ClusterId([7; 32]));
    // The length takes three bytes where one would do.
    let raw: Box<[u8]> = [251, 2, 0, b'h', b'i'].into();
    let mut signature = [0; 64];
    signature.copy_from_slice(keys.pair.sign(&to_sign(Note::DOMAIN, &cluster, &raw)).as_ref());
    let odd: Unverified<Note> = Unverified(Form::Told(Arc::new(Told::new(
        raw.clone(),
        keys.public(),
        SignatureBytes(signature),
    ))));
    let signed = odd.clone().verify(&cluster).unwrap();
    assert_eq!((signed.body(), signed.wire().raw()), (&Note("hi".into()), Cow::Borrowed(&*raw)));
    assert_eq!((signed.hash(), codec::encode(&signed.wire())), (odd.hash(), codec::encode(&odd)));
    assert_ne!(signed.hash(), note().0.hash());
    let again: Unverified<Note> = codec::decode(&codec::encode(&signed.wire())).unwrap();
    assert_eq!(again.verify(&cluster).unwrap(), signed);
}

#[test]
fn signature_of_another_cluster_kind_or_byte_is_refused() {
    let (signed, cluster) = note();
    let (other, arrived) =
        (ClusterId([8; 32]), || codec::decode::<Unverified<Note>>(&codec::encode(&signed.wire())));
    assert!(signed.wire().verify(&other).is_err() && signed.wire().check(&other).is_err());
    let arrived = arrived().unwrap();
    assert!(arrived.check(&other).is_err() && arrived.clone().verify(&other).is_err());
    assert!(arrived.check(&cluster).is_ok() && arrived.verify(&cluster).is_ok());
    let bytes = codec::encode(&signed.wire());
    assert!(codec::decode::<Unverified<Order>>(&bytes).unwrap().verify(&cluster).is_err());
    for i in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[i] ^= 1;
        let refused = codec::decode::<Unverified<Note>>(&altered)
            .map_or(true, |note| note.verify(&cluster).is_err());
        assert!(refused, "byte {i}");
    }
}
