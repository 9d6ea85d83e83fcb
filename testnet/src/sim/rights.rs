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
    let role = Role::Inviter { uses: 10_000, labels: Vec::new() };
    let terms = Terms { expires: Some(WallClock(1 << 47)), ..terms("devices", role) };
    let chain = trust::grant(genesis, root, &Chain::default(), keys.public(), terms);
    Admittance { keys, chain: chain.expect("good terms") }
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
        let terms = terms("tester", Role::Publisher);
        trust::grant(&self.genesis, &self.root, &Chain::default(), key, terms).expect("good terms")
    }
}
