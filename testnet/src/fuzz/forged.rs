//! Signatures over any bytes, as a member with a stolen key or a newer program makes them: what the
//! decoders behind a right signature have to take.

use std::marker::PhantomData;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use shoal_protocol::model::codec::{self, Malformed};
use shoal_protocol::model::{ClusterId, KeyPair, Signable, Signed, Unverified};

/// Bytes that are signed as if they were a `T`.
struct Forged<T>(Vec<u8>, PhantomData<fn() -> T>);

/// Never used: signed bytes travel in an envelope.
impl<T> Serialize for Forged<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T> Deserialize<'de> for Forged<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Forged(Vec::deserialize(deserializer)?, PhantomData))
    }
}

impl<T: Signable> Signable for Forged<T> {
    const DOMAIN: &'static str = T::DOMAIN;

    fn write(&self) -> Vec<u8> {
        self.0.clone()
    }

    fn read(raw: &[u8]) -> Result<Self, Malformed> {
        Ok(Forged(raw.to_vec(), PhantomData))
    }
}

/// `raw` with a right signature.
pub fn sign<T: Signable>(raw: &[u8], keys: &KeyPair, cluster: &ClusterId) -> Unverified<T> {
    let forged = Forged::<T>(raw.to_vec(), PhantomData);
    let bytes = codec::encode(&Signed::sign(forged, keys, cluster).wire());
    codec::decode(&bytes).expect("both travel in the same envelope, within its limit")
}

#[cfg(test)]
mod tests {
    use shoal_protocol::model::{Digest, Ruling, RulingBody};

    use super::*;

    const CLUSTER: ClusterId = ClusterId([3; 32]);

    #[test]
    fn bytes_of_a_body_are_signed_as_the_body() {
        let keys = KeyPair::from_seed(&[1; 32]);
        let ruling = Ruling {
            uid: Digest([1; 32]),
            generation: Digest([2; 32]),
            tick: 1,
            sequence: 2,
            body: RulingBody::JobResult(shoal_protocol::model::ruling::JobResult::failed(3)),
        };
        let signed = Signed::sign(ruling, &keys, &CLUSTER).wire();
        let forged = sign::<Ruling>(&signed.raw(), &keys, &CLUSTER);
        assert_eq!(forged, signed);
        let odd = sign::<Ruling>(b"\xff", &keys, &CLUSTER);
        assert!(odd.check(&CLUSTER).is_ok() && odd.peek().is_err());
    }
}
