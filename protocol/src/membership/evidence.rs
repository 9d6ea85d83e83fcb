//! Why a member is doubted or held to be down, in words.

use std::fmt;

use crate::model::NodeId;

use super::message::Seen;

/// Why a doubt about a member began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SuspicionCause {
    /// The link closed.
    LinkClosed,
    /// It was not heard when it should have been, and did not answer a probe in time.
    Silent,
    /// It cannot be dialled.
    NoLink,
    /// Another node cannot reach it, and this one has no link either.
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

/// What a member's fall rests on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cause {
    /// Its links closed and nobody listens at its addresses: the process is gone.
    Refused,
    /// Nothing was heard over any path: its power or its network is gone.
    Silent,
    /// It said goodbye for long.
    Goodbye,
    /// Not heard of since this node started or the member was admitted.
    NeverSeen,
    /// It did not return from a planned absence.
    Overdue,
    /// A peer said so while this node knew nothing.
    PeerReport,
}

/// Why a member is held to be down.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Evidence {
    /// What it rests on.
    pub cause: Cause,
    /// Who saw it, by id.
    pub by: Vec<NodeId>,
    /// Whether it fell just now. What a peer tells where two compare whom they hold to be down may
    /// be long ago.
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
    /// As in `its links closed and nobody listens at its addresses (seen by till-1, till-2)`.
    pub fn told(&self, name: impl Fn(&NodeId) -> String) -> String {
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
