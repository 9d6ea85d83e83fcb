//! Whom a dial met at a member's address instead of the member.
//!
//! Addresses pass from one device to another. Another *node* that proves its key at an address
//! shows that the address is not the member's any more: it is forgotten until the member says it
//! again or is seen there. A stranger or a device that refuses proves less, since a member that
//! restarts refuses as well, so that address is dialled on; people are told.

use std::collections::BTreeMap;

use crate::model::NodeId;

use super::{Answerer, Cx, Membership};

/// By member and address. Only addresses that the member's record or sighting names are kept, so
/// the roster and the bound on addresses bound this.
pub(super) type Answerers = BTreeMap<NodeId, BTreeMap<String, Answerer>>;

impl Membership {
    pub(super) fn on_answered(
        &mut self,
        cx: &mut Cx<'_>,
        node: NodeId,
        address: String,
        by: Answerer,
    ) {
        if !self.known_addresses(&node).contains(&address) {
            return; // a member that has moved on, or none
        }
        self.answerers.entry(node).or_default().insert(address.clone(), by);
        // The address is somebody's: if that is a member that this node looks for, it is found.
        if let Answerer::Node(other) = by
            && !self.has_link(&other)
            && !self.known_addresses(&other).contains(&address)
        {
            self.on_sighted(cx, other, vec![address]);
        }
    }

    /// Where to dial a member: where it was seen last, then where it says it is, without the
    /// addresses that are another node's by now. With none left all are tried: one may be its own
    /// again.
    pub fn addresses(&self, node: &NodeId) -> Vec<String> {
        let mut addresses = self.known_addresses(node);
        if !self.is_displaced(node) {
            addresses.retain(|address| !self.is_held_by_another(node, address));
        }
        addresses
    }

    /// Whether other nodes answer at all its addresses. A refusal there says nothing about it.
    pub(super) fn is_displaced(&self, node: &NodeId) -> bool {
        let told = self.known_addresses(node);
        !told.is_empty() && told.iter().all(|address| self.is_held_by_another(node, address))
    }

    /// Who answered at its addresses in its place, by address; nothing while it is linked.
    pub fn answers_at(&self, node: &NodeId) -> impl Iterator<Item = (&String, &Answerer)> {
        let known = self.answerers.get(node).filter(|_| !self.has_link(node));
        known.into_iter().flatten()
    }

    /// A link shows that the member lives where it was reached. Who met another node elsewhere
    /// still knows it.
    pub(super) fn on_reached(&mut self, node: &NodeId) {
        if let Some(of_node) = self.answerers.get_mut(node) {
            of_node.retain(|_, by| matches!(by, Answerer::Node(_)));
            if of_node.is_empty() {
                self.answerers.remove(node);
            }
        }
    }

    /// The member was seen at these addresses.
    pub(super) fn on_seen_at(&mut self, node: &NodeId, addresses: &[String]) {
        if let Some(of_node) = self.answerers.get_mut(node) {
            of_node.retain(|address, _| !addresses.contains(address));
        }
    }

    pub(super) fn is_held_by_another(&self, node: &NodeId, address: &str) -> bool {
        let by = self.answerers.get(node).and_then(|of_node| of_node.get(address));
        matches!(by, Some(Answerer::Node(_)))
    }

    fn known_addresses(&self, node: &NodeId) -> Vec<String> {
        let Some(member) = self.members.get(node) else { return Vec::new() };
        let mut addresses = member.sighted.to_vec();
        for address in member.record.iter().flat_map(|record| &record.addresses) {
            if !addresses.contains(address) {
                addresses.push(address.clone());
            }
        }
        addresses
    }
}
