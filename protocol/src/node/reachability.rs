//! Members that cannot dial one another: the ways that this node has to each, and the warnings that
//! people get about all.

use crate::membership::DialFailure;
use crate::model::{NodeId, Time};

use super::contract::Reachability;
use super::{Level, Node};

/// Pairs that a status names. A broken router separates many pairs at once, and a few of them show
/// the problem.
const MAX_PAIRS: usize = 8;

impl Node {
    /// The ways to reach a node that this node knows.
    pub fn reachability(&self, node: &NodeId) -> Reachability {
        Reachability {
            addresses: self.membership.addresses(node),
            unreachable: self.membership.unreachable(node).map(|how| how.to_string()),
            hops: self.membership.hops(node),
        }
    }

    /// The name of a node for people; a short id if its record is unknown.
    pub fn node_name(&self, node: &NodeId) -> String {
        self.name_of(node)
    }

    /// This node could not dial a member for a while, although other members reach it.
    pub(super) fn on_unreachable(&mut self, now: Time, node: NodeId, how: DialFailure) {
        let over = match self.membership.hops(&node).first() {
            Some(hop) => format!("messages and requests to it go over {}", self.name_of(hop)),
            None => "no common member reaches both".to_owned(),
        };
        let message = format!("others reach the node, this one does not ({how}): {over}");
        self.emit_event(now, Level::Warning, "no-way", None, Some(node), message);
    }

    /// Adds a warning with the remedy for each pair of members that cannot dial one another.
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

    /// A member that reaches both, by the statements of all three. The pair itself may choose
    /// another one.
    fn common_member(&self, one: &NodeId, other: &NodeId) -> Option<NodeId> {
        let denies = |of: &NodeId, to: &NodeId| self.membership.unreachable_from(of).contains(to);
        let reaches = |hop: &NodeId, node: &NodeId| !denies(hop, node) && !denies(node, hop);
        let mut common = self.membership.up().filter(|hop| hop != one && hop != other);
        common.find(|hop| reaches(hop, one) && reaches(hop, other))
    }
}
