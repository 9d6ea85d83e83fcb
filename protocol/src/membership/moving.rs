//! Changes of addresses, a member's or this device's own: failures at the old addresses say nothing
//! of the new ones.
//!
//! Three rules keep such nodes from staying apart:
//!
//! *A dial to a new address does not wait for the pause after dials to old ones*, and a refusal at
//! an old address is no evidence: another device refuses there.
//!
//! *A device that has moved dials first.* The crossing delay of `dialing.rs` leaves the dial to the
//! lesser id; but others cannot dial a node whose new address they do not know.
//!
//! *Silence while this device moved is its own.* It lost all links at once, so that is no reason to
//! suspect others.

use std::time::Duration;

use crate::model::{NodeId, Out, Time};

use super::{Cx, Fact, Membership, Message};

/// How long after its own move a node dials without crossing delay, and takes no lost link for a
/// brief one: time for a new address lease, and for the dials under way to end.
pub(super) const MOVING: Duration = Duration::from_secs(5);

impl Membership {
    /// The device's network changed: members that were out of reach may be reachable now. With
    /// `moved`, an address of the device came or went.
    pub fn handle_network_changed(
        &mut self,
        now: Time,
        moved: bool,
        out: &mut Out<Message>,
    ) -> Vec<Fact> {
        let mut cx = Cx::new(now, out);
        if moved {
            self.local_health.moved(now);
            for suspicion in self.suspicions.values_mut() {
                suspicion.restart_waits(now);
            }
        }
        let unlinked: Vec<NodeId> =
            self.wanted.iter().filter(|node| !self.has_link(node)).copied().collect();
        for node in unlinked {
            self.dial_anew(&mut cx, node);
        }
        self.finish(cx)
    }

    /// A node's addresses or the route to it changed: dials it at once. If a dial is under way the
    /// new addresses join it, once, and if that fails the node is dialled again without a pause,
    /// since the dial may have left from an old address of this device.
    pub(super) fn dial_anew(&mut self, cx: &mut Cx<'_>, node: NodeId) {
        if let Some(path) = self.paths.get_mut(&node) {
            path.failures = 0;
            path.brief = 0;
            path.refused = false;
            if path.dialling.is_some() {
                if !std::mem::replace(&mut path.dial_again, true) {
                    cx.out.dial(node);
                }
                return;
            }
        }
        if self.wanted.contains(&node) {
            self.dial_soon(cx, node);
        }
    }
}
