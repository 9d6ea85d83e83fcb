//! When addresses change, a member's or this device's own: what failed at the old ones says nothing
//! of the new ones.
//!
//! Three rules mend what kept nodes apart for good:
//!
//! *A dial to a new address waits for no pause that dials to old ones have earned*, and a refusal
//! at an old address is no evidence: whoever refuses there is somebody else.
//!
//! *A device that has moved dials first.* The courtesy of `dialing.rs` leaves the dial to the
//! lesser id; the others cannot dial a node whose new address they have not heard.
//!
//! *Silence while this device moved is its own.* Its links were lost together, so it doubts nobody
//! for that.

use std::time::Duration;

use crate::model::{NodeId, Out, Time};

use super::{Cx, Fact, Membership, Message};

/// How long after its own move a node dials without courtesy, and takes no lost link for one of
/// little use: time for a lease that follows the loss of the old one, and for the dials under way
/// to end.
pub(super) const MOVING: Duration = Duration::from_secs(5);

impl Membership {
    /// The device's network changed: what could not be reached may be reachable now. With `moved`,
    /// an address of its own came or went.
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

    /// Where a node can be dialled, or the way to it, is news: it is dialled at once. New addresses
    /// join a dial under way, once, and when that has failed it is dialled again without a pause:
    /// it may have left from an old address of ours.
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
