//! Answers at a member's address that did not come from the member.
//!
//! Addresses pass from one device to another. Another *node* that proves its key at an address
//! shows that the member has lost that address: it is not dialled until the member states it again
//! or is seen there. A stranger or a refusal proves less, since a member that restarts refuses as
//! well: that address is dialled on, and users are told.

use std::collections::BTreeMap;

use crate::model::NodeId;

use super::{Answerer, Cx, Membership};

/// By member and address. Only addresses of the member's record or sighting are kept, so the roster
/// and the bound on addresses bound this.
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
            return; // the member has other addresses by now, or is none
        }
        self.answerers.entry(node).or_default().insert(address.clone(), by);
        // If the answering node is a member without a link, this is where to dial it.
        if let Answerer::Node(other) = by
            && !self.has_link(&other)
            && !self.known_addresses(&other).contains(&address)
        {
            self.on_sighted(cx, other, vec![address]);
        }
    }

    /// The addresses to dial for a member: where it was last seen, then those of its record,
    /// without those that other nodes answer at. If other nodes answer at all of them, all are
    /// dialled: one may be its own again.
    pub fn addresses(&self, node: &NodeId) -> Vec<String> {
        let mut addresses = self.known_addresses(node);
        if !self.is_displaced(node) {
            addresses.retain(|address| !self.is_held_by_another(node, address));
        }
        addresses
    }

    /// Whether other nodes answer at all addresses of the member. A refusal there says nothing
    /// about it.
    pub(super) fn is_displaced(&self, node: &NodeId) -> bool {
        let known = self.known_addresses(node);
        !known.is_empty() && known.iter().all(|address| self.is_held_by_another(node, address))
    }

    /// The answerers at a member's addresses, by address; none while it is linked.
    pub fn answers_at(&self, node: &NodeId) -> impl Iterator<Item = (&String, &Answerer)> {
        let known = self.answerers.get(node).filter(|_| !self.has_link(node));
        known.into_iter().flatten()
    }

    /// A link shows that the member lives where it was reached: strangers and refusals are
    /// forgotten. Another node that was met at one of its addresses still has that one.
    pub(super) fn on_reached(&mut self, node: &NodeId) {
        if let Some(of_node) = self.answerers.get_mut(node) {
            of_node.retain(|_, by| matches!(by, Answerer::Node(_)));
            if of_node.is_empty() {
                self.answerers.remove(node);
            }
        }
    }

    /// The member was seen at these addresses, so they are its own.
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
