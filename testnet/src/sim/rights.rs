//! The grants of the root of a simulated cluster.

use shoal_protocol::model::{
    Chain, Change, KeyPair, Namespaces, NodeId, PublicKey, Role, WallClock,
};
use shoal_protocol::node::Admittance;
use shoal_protocol::trust::{self, Genesis, Terms};

use super::clock::EPOCH;
use super::world::{World, derived};

/// The invite of a world, for all its devices. They may have any clock, so it was made at the
/// beginning of time, and no clock reaches its end.
pub(super) fn invite(genesis: &Genesis, root: &KeyPair, seed: u64) -> Admittance {
    let keys = KeyPair::from_seed(&derived(seed, "invite", 0));
    let chain = inviter(genesis, root, keys.public(), 10_000);
    Admittance { keys, chain }
}

fn inviter(genesis: &Genesis, root: &KeyPair, key: PublicKey, uses: u32) -> Chain {
    let role = Role::Inviter { uses, labels: Vec::new() };
    let terms = Terms { expires: Some(WallClock(1 << 47)), ..terms("devices", role) };
    trust::grant(genesis, root, &Chain::default(), key, terms).expect("good terms")
}

fn terms(name: &str, role: Role) -> Terms {
    Terms { name: name.into(), role, namespaces: Namespaces::All, serial: 1, expires: None }
}

impl World {
    /// The admission of a node by the root.
    pub(super) fn admission(&self, node: NodeId) -> Change {
        let (genesis, root) = (&self.genesis, &self.root);
        trust::admit_as_operator(genesis, root, &Chain::default(), node, EPOCH << 16)
            .expect("a good admission")
    }

    /// The chain of a key that may publish everywhere.
    pub fn make_publisher(&self, key: PublicKey) -> Chain {
        self.grant_from_root("tester", key, Role::Publisher)
    }

    /// The chain of a key that may revoke.
    pub(super) fn make_admin(&self, key: PublicKey) -> Chain {
        self.grant_from_root("admin", key, Role::Admin)
    }

    /// An invite for one device.
    pub(super) fn make_invite(&self, keys: KeyPair) -> Admittance {
        let chain = inviter(&self.genesis, &self.root, keys.public(), 1);
        Admittance { keys, chain }
    }

    fn grant_from_root(&self, name: &str, key: PublicKey, role: Role) -> Chain {
        let terms = terms(name, role);
        trust::grant(&self.genesis, &self.root, &Chain::default(), key, terms).expect("good terms")
    }
}
