//! Paths on which small messages pass and transfers stall, because packets of full size are lost.
//! Small messages hold the cluster together, so no node is suspected for it. Artifacts are fetched
//! from other nodes first, and people get an event.

use crate::model::{NodeId, Time};

use super::{Level, Node};

impl Node {
    pub(super) fn on_path_changed(&mut self, now: Time, peer: NodeId, is_stalling: bool) {
        let wall = self.wall(now);
        if !self.artifacts.stalls.note(peer, is_stalling, wall) {
            return;
        }
        self.shown.version += 1;
        if is_stalling {
            let message = "small messages pass, transfers stall: packets of full size are lost on \
                the way; bytes are asked of other nodes first, and small packets are tried: look \
                at the MTU of tunnels on this path";
            self.count("paths_stalling");
            self.emit_event(
                now,
                Level::Warning,
                "transfers-stall",
                None,
                Some(peer),
                message.into(),
            );
        } else {
            let message = "packets of full size arrive again: transfers pass".to_owned();
            self.emit_event(now, Level::Info, "transfers-pass", None, Some(peer), message);
        }
    }

    /// A description of the stall on the path to a peer, for people.
    pub(super) fn path_note(&self, peer: &NodeId) -> Option<String> {
        let since = self.artifacts.stalls.since(peer)?.to_string();
        // Hours and minutes of an RFC 3339 date.
        let since = since.get(11..16).unwrap_or(&since);
        let me = self.name_of(&self.me);
        Some(format!("small messages pass, transfers stall (from {me}, since {since} UTC)"))
    }
}
