//! The judgement on a request to a running replica.

use crate::model::access::{Access, RawAccess};
use crate::model::sign::BadSigned;
use crate::model::{Chain, KeyPair, Signed, WallClock};

use super::accept::{Fault, Rejection, Unjudged};
use super::chain::authority;
use super::{Genesis, serial_at};

/// Bytes of a request's signed part: a command line of some pages.
const MAX_ACCESS: usize = 64 * 1024;

/// Judges a request by its bytes and the grants it carries, for the cluster of `genesis`: a
/// publisher of the workload's namespace must have signed it, whose grant has not ended at `now`,
/// by the clock of the node that opens its replica. The caller compares replica, node and number
/// with its own, and knows who was revoked.
pub fn accept_access(
    genesis: &Genesis,
    raw: RawAccess,
    now: WallClock,
) -> Result<Signed<Access>, Rejection> {
    let bytes = raw.access.raw().len();
    if bytes > MAX_ACCESS {
        return Err(Fault::Size(bytes).into());
    }
    let author = raw.access.by();
    let right = authority(genesis, &raw.chain, author, Some(serial_at(now)))?;
    let signed = raw.access.verify(&genesis.cluster()).map_err(|bad| match bad {
        BadSigned::Signature(by) => Rejection::Never(Fault::Signature(by)),
        BadSigned::Malformed(malformed) => Rejection::NotYet(Unjudged::Change(malformed)),
    })?;
    let namespace = &signed.workload.namespace;
    match right.publishes(namespace) {
        true => Ok(signed),
        false => Err(Fault::Role {
            role: right.role.name(),
            namespaces: right.namespaces.to_string(),
            needed: format!("a publisher of namespace {namespace}"),
        }
        .into()),
    }
}

/// Signs a request that [`accept_access`] accepts. `chain` is the author's own.
pub fn sign_access(genesis: &Genesis, keys: &KeyPair, chain: &Chain, access: Access) -> RawAccess {
    let signed = Signed::sign(access, keys, &genesis.cluster());
    RawAccess { access: signed.wire(), chain: chain.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::access::Action;
    use crate::model::{Namespaces, NodeId, Place, Role};
    use crate::trust::{Terms, grant};

    const NOW: WallClock = WallClock(1_795_219_200_000);

    fn access() -> Access {
        Access {
            workload: "web".parse().unwrap(),
            place: Place::Ordinal(0),
            node: NodeId([7; 32]),
            nonce: [9; 32],
            action: Action::Attach,
        }
    }

    fn terms(role: Role, namespaces: Namespaces) -> Terms {
        let expires = Some(WallClock(NOW.0 + 1_000));
        Terms { name: "ann".into(), role, namespaces, serial: serial_at(NOW), expires }
    }

    /// A stolen device holds its own key alone; with that it gets into a container of no other
    /// device. Neither do readers, publishers of other namespaces, and publishers of before.
    #[test]
    fn only_publishers_of_the_namespace_may_open_a_replica() {
        let [root, operator, node] = [1, 2, 3].map(|n| KeyPair::from_seed(&[n; 32]));
        let genesis = Genesis { root: root.public() };
        let give = |role, namespaces| {
            let terms = terms(role, namespaces);
            grant(&genesis, &root, &Chain::default(), operator.public(), terms).unwrap()
        };
        let chain = give(Role::Publisher, Namespaces::All);
        let good = sign_access(&genesis, &operator, &chain, access());
        assert_eq!(*accept_access(&genesis, good.clone(), NOW).unwrap().body(), access());
        let by_root = sign_access(&genesis, &root, &Chain::default(), access());
        assert!(accept_access(&genesis, by_root, NOW).is_ok());
        let shop = Namespaces::Only(["shop".parse().unwrap()].into());
        for (keys, chain) in [
            (&node, &Chain::default()),
            (&node, &chain),
            (&operator, &Chain::default()),
            (&operator, &give(Role::Reader, Namespaces::All)),
            (&operator, &give(Role::Publisher, shop)),
        ] {
            let raw = sign_access(&genesis, keys, chain, access());
            assert!(matches!(accept_access(&genesis, raw, NOW), Err(Rejection::Never(_))));
        }
        let late = accept_access(&genesis, good, WallClock(NOW.0 + 1_001)).unwrap_err();
        assert!(matches!(late, Rejection::Never(Fault::Expired { .. })), "{late}");
        let other = Genesis { root: operator.public() };
        let elsewhere = sign_access(&other, &root, &Chain::default(), access());
        let refused = accept_access(&genesis, elsewhere, NOW).unwrap_err();
        assert_eq!(refused, Rejection::Never(Fault::Signature(root.public())));
    }
}
