//! Paths on which small messages pass and transfers stall: packets of full size are lost there.
//! Small messages hold the cluster together, so nobody is doubted for it; bytes are asked of others
//! first, and people are told.

use std::collections::BTreeMap;

use crate::model::{NodeId, Time, WallClock};

use super::{Level, Node};

/// Peers remembered: more than a node has links to. Beyond, the newest goes unremembered.
pub(super) const MAX_STALLS: usize = 256;

/// The peers on whose paths transfers stall, and since when.
#[derive(Clone, Debug, Default)]
pub(super) struct Stalls {
    since: BTreeMap<NodeId, WallClock>,
}

impl Stalls {
    pub fn len(&self) -> usize {
        self.since.len()
    }

    pub fn contains(&self, peer: &NodeId) -> bool {
        self.since.contains_key(peer)
    }

    /// Notes it; whether it is news.
    fn note(&mut self, peer: NodeId, is_stalling: bool, wall: WallClock) -> bool {
        if !is_stalling {
            return self.since.remove(&peer).is_some();
        }
        let is_news = !self.contains(&peer) && self.len() < MAX_STALLS;
        if is_news {
            self.since.insert(peer, wall);
        }
        is_news
    }
}

impl Node {
    pub(super) fn on_path_changed(&mut self, now: Time, peer: NodeId, is_stalling: bool) {
        let wall = self.wall(now);
        if !self.artifacts.stalls.note(peer, is_stalling, wall) {
            return;
        }
        self.views += 1;
        if is_stalling {
            let message = "small messages pass, transfers stall: packets of full size are lost on \
                the way; bytes are asked \
                           of other nodes first, and small packets are tried: look at the MTU of \
                           tunnels on this path";
            self.count("paths_stalling");
            self.tell(now, Level::Warning, "transfers-stall", None, Some(peer), message.into());
        } else {
            let message = "packets of full size arrive again: transfers pass".to_owned();
            self.tell(now, Level::Info, "transfers-pass", None, Some(peer), message);
        }
    }

    /// A note on the path to a peer, if something is wrong with it.
    pub(super) fn path_note(&self, peer: &NodeId) -> Option<String> {
        let since = self.artifacts.stalls.since.get(peer)?.to_string();
        // Hours and minutes of an RFC 3339 date.
        let since = since.get(11..16).unwrap_or(&since);
        let me = self.name_of(&self.me);
        Some(format!("small messages pass, transfers stall (from {me}, since {since} UTC)"))
    }
}
