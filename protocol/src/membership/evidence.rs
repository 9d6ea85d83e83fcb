//! Why a member is suspected or held to be down, and the texts for it.

use std::fmt;

use crate::model::NodeId;

use super::message::Seen;

/// Why a suspicion about a member began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SuspicionCause {
    /// The link to it closed.
    LinkClosed,
    /// It was not heard in time, and did not answer a probe in time.
    Silent,
    /// It has no link and cannot be dialled.
    NoLink,
    /// Another node cannot reach it, and this node has no link to it either.
    AskedByOthers,
}

impl fmt::Display for SuspicionCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SuspicionCause::LinkClosed => "its link closed",
            SuspicionCause::Silent => "it is silent and a probe was not answered in time",
            SuspicionCause::NoLink => "it could not be dialled",
            SuspicionCause::AskedByOthers => "another node cannot reach it",
        })
    }
}

/// The kind of evidence for a member being down.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cause {
    /// Its links closed and nothing listens at its addresses: the process is gone.
    Refused,
    /// Nothing was heard over any path: its power or its network is gone.
    Silent,
    /// It said goodbye without a return time.
    Goodbye,
    /// Not heard of since this node started or the member was admitted.
    NeverSeen,
    /// It did not return from a planned absence.
    Overdue,
    /// A peer said so while its state was unknown here.
    PeerReport,
}

/// Why a member is held to be down, and who says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence {
    /// The kind of evidence.
    pub cause: Cause,
    /// The nodes that saw it, by id.
    pub by: Vec<NodeId>,
    /// Whether the member went down just now. A peer with which views are compared may report a
    /// death of long ago.
    pub is_news: bool,
}

impl Evidence {
    pub(super) fn of_votes(votes: impl Iterator<Item = (NodeId, Seen)>) -> Evidence {
        let mut cause = Cause::Silent;
        let mut by = Vec::new();
        for (node, seen) in votes {
            if seen == Seen::Refused {
                cause = Cause::Refused;
            }
            by.push(node);
        }
        by.sort_unstable();
        Evidence { cause, by, is_news: true }
    }
}

impl Evidence {
    /// The text for users, as in `its links closed and nobody listens at its addresses (seen by
    /// till-1, till-2)`.
    pub fn describe(&self, name: impl Fn(&NodeId) -> String) -> String {
        let cause = match self.cause {
            Cause::Refused => "its links closed and nobody listens at its addresses",
            Cause::Silent => "nothing was heard from it over any path",
            Cause::Goodbye => "it said goodbye",
            Cause::NeverSeen => "it was not heard of since this node started",
            Cause::Overdue => "it did not return from a planned absence",
            Cause::PeerReport => "a peer said so",
        };
        if self.by.is_empty() {
            return cause.to_owned();
        }
        let names: Vec<String> = self.by.iter().map(name).collect();
        format!("{cause} (seen by {})", names.join(", "))
    }
}
