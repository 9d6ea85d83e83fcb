//! The judgement on a request to a running replica.

use crate::model::access::{Access, RawAccess};
use crate::model::sign::BadSigned;
use crate::model::{Certificate, KeyPair, Signed, Unverified};

use super::Genesis;
use super::accept::{Fault, Rejection, Right, Unjudged, right};

/// Bytes of a request's signed part: a command line of some pages.
const MAX_ACCESS: usize = 64 * 1024;

/// Judges a request by its bytes and the certificate it carries, for the cluster of `genesis`: an
/// operator must have signed it. The caller compares replica, node and number with its own.
pub fn accept_access(genesis: &Genesis, raw: RawAccess) -> Result<Signed<Access>, Rejection> {
    let bytes = raw.access.raw().len();
    if bytes > MAX_ACCESS {
        return Err(Fault::Size(bytes).into());
    }
    let author = raw.access.by();
    if right(genesis, author, raw.certificate.as_ref())? != Right::Operator {
        return Err(Fault::Stranger(author).into());
    }
    raw.access.verify(&genesis.cluster()).map_err(|bad| match bad {
        BadSigned::Signature(by) => Rejection::Never(Fault::Signature(by)),
        BadSigned::Malformed(malformed) => Rejection::NotYet(Unjudged::Change(malformed)),
    })
}

/// Signs a request that [`accept_access`] accepts. `certificate` is the author's own; none for the
/// root.
pub fn sign_access(
    genesis: &Genesis,
    keys: &KeyPair,
    certificate: Option<&Unverified<Certificate>>,
    access: Access,
) -> RawAccess {
    let signed = Signed::sign(access, keys, &genesis.cluster());
    RawAccess { access: signed.wire(), certificate: certificate.cloned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::access::Action;
    use crate::model::{NodeId, Place};
    use crate::trust::certify;

    fn access() -> Access {
        Access {
            workload: "web".parse().unwrap(),
            place: Place::Ordinal(0),
            node: NodeId([7; 32]),
            nonce: [9; 32],
            action: Action::Attach,
        }
    }

    /// A stolen device holds the join key and its own; with neither it gets into a container of
    /// another device.
    #[test]
    fn only_operators_may_open_a_replica() {
        let [root, join, operator, node] = [1, 2, 3, 4].map(|n| KeyPair::from_seed(&[n; 32]));
        let genesis = Genesis { root: root.public(), join: join.public() };
        let certificate = certify(&genesis, &root, operator.public(), "ann").unwrap();
        let signed = |keys, certificate| sign_access(&genesis, keys, certificate, access());
        let good = accept_access(&genesis, signed(&operator, Some(&certificate))).unwrap();
        assert_eq!(*good.body(), access());
        assert!(accept_access(&genesis, signed(&root, None)).is_ok());
        for raw in [
            signed(&join, None),
            signed(&node, None),
            signed(&node, Some(&certificate)),
            RawAccess { certificate: Some(certificate.clone()), ..signed(&join, None) },
        ] {
            assert!(matches!(accept_access(&genesis, raw), Err(Rejection::Never(_))));
        }
        let other = Genesis { root: root.public(), join: operator.public() };
        let elsewhere = sign_access(&other, &root, None, access());
        let refused = accept_access(&genesis, elsewhere).unwrap_err();
        assert_eq!(refused, Rejection::Never(Fault::Signature(root.public())));
    }
}
