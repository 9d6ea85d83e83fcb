//! The members of the cluster, as the network asks for them.

use imbl::OrdMap;

use super::id::NodeId;

/// The members. Copies share what they have in common.
#[derive(Clone, Debug, Default)]
pub struct Roster(OrdMap<NodeId, u64>);

impl Roster {
    /// Whether a node is a member.
    pub fn has(&self, node: &NodeId) -> bool {
        self.0.contains_key(node)
    }

    /// Whether nothing has changed between the two.
    pub fn is_same(&self, other: &Roster) -> bool {
        self.0.ptr_eq(&other.0)
    }

    /// The members.
    pub fn iter(&self) -> impl Iterator<Item = &NodeId> {
        self.0.keys()
    }
}

impl From<OrdMap<NodeId, u64>> for Roster {
    fn from(members: OrdMap<NodeId, u64>) -> Self {
        Roster(members)
    }
}

impl FromIterator<NodeId> for Roster {
    fn from_iter<I: IntoIterator<Item = NodeId>>(nodes: I) -> Self {
        Roster(nodes.into_iter().map(|node| (node, 0_u64)).collect())
    }
}
