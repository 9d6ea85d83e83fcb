//! Members without a way to one another: what this node does about its own, and what people are
//! told of all.

use crate::membership::DialFailure;
use crate::model::{NodeId, Time};

use super::contract::Reachability;
use super::{Level, Node};

/// Pairs that a status names. A router that fails parts many pairs at once, and a few show what is
/// the matter.
const MAX_PAIRS: usize = 8;

impl Node {
    /// How a node can be reached, as far as is known here.
    pub fn reachability(&self, node: &NodeId) -> Reachability {
        Reachability {
            addresses: self.membership.addresses(node),
            unreachable: self.membership.unreachable(node).map(|how| how.to_string()),
            hops: self.membership.hops(node),
        }
    }

    /// What people call a node, as far as is known here.
    pub fn node_name(&self, node: &NodeId) -> String {
        self.name_of(node)
    }

    /// A member that is up could not be dialled for a while.
    pub(super) fn on_unreachable(&mut self, now: Time, node: NodeId, how: DialFailure) {
        let over = match self.membership.hops(&node).first() {
            Some(hop) => format!("messages and requests to it go over {}", self.name_of(hop)),
            None => "no common member reaches both".to_owned(),
        };
        let message = format!("others reach the node, this one does not ({how}): {over}");
        self.emit_event(now, Level::Warning, "no-way", None, Some(node), message);
    }

    /// Each pair of members without a way, once, and what to do.
    pub(super) fn add_unreachable_warnings(&self, warnings: &mut Vec<String>) {
        let pairs = self.membership.unreachable_pairs();
        for (one, other) in pairs.iter().take(MAX_PAIRS) {
            let mut names = [self.name_of(one), self.name_of(other)];
            names.sort();
            let [one_name, other_name] = names;
            let requests = match self.common_member(one, other) {
                Some(hop) => format!("requests between them go over {}", self.name_of(&hop)),
                None => "no other member reaches both, so requests between them fail".to_owned(),
            };
            warnings.push(format!(
                "{one_name} and {other_name} have no way to one another, neither can dial the \
                    other: {requests}; let the mesh port of one of them in at its router, and \
                    start it with --advertise ADDRESS:PORT"
            ));
        }
        if pairs.len() > MAX_PAIRS {
            warnings.push(format!(
                "{} more pairs of nodes have no way to one another: `shoal nodes` marks them",
                pairs.len() - MAX_PAIRS
            ));
        }
    }

    /// A member that has a way to both, as all that is said goes; which one a pair uses it chooses
    /// itself.
    fn common_member(&self, one: &NodeId, other: &NodeId) -> Option<NodeId> {
        let denies = |of: &NodeId, to: &NodeId| self.membership.unreachable_from(of).contains(to);
        let reaches = |hop: &NodeId, node: &NodeId| !denies(hop, node) && !denies(node, hop);
        let mut common = self.membership.up().filter(|hop| hop != one && hop != other);
        common.find(|hop| reaches(hop, one) && reaches(hop, other))
    }
}
