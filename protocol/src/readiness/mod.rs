//! Whether this node knows enough to plan: from its admission, through the wait for other members
//! at boot, to being ready; and back into a wait after a cut or a stall.
//!
//! ```text
//!   Newcomer ──┐ in step with a        in step with all that
//!              ├─ ready member ──▶ SyncGrace ── it can hear, or ──▶ Ready
//!   Booting ───┘                       ▲        after 3 s             │ a peer returned
//!     │ no member can be reached       └──────────────────────────────┤
//!     └────────────────────────────────▶ Ready     Stalled ◀──────────┘ the process stalled
//! ```
//!
//! `Leaving` follows from each of them and has no end but the end of the process.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::model::Time;

/// The time for which a node waits for members that it has not heard of or not compared with. Then
/// it acts on what it knows: the only survivor of a power cut must not wait for ever.
pub const GRACE: Duration = Duration::from_secs(3);
/// Peers that a node must be in step with before it owns workloads.
const WITNESSES: usize = 2;

/// The stages in which a node may decide more and more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// Admitted in this incarnation, or not yet. It has not compared with a ready member, so it
    /// knows nothing.
    Newcomer(Wait),
    /// It has the state of an earlier incarnation, and waits for members that know more.
    Booting(Wait),
    /// Ready, and not in step yet with all members that it can hear: it may not report a replica
    /// healthy that others may have taken over.
    SyncGrace {
        /// The end of the wait.
        until: Time,
    },
    /// As `SyncGrace`, after the process stalled: it also plans nothing.
    Stalled {
        /// The end of the wait.
        until: Time,
    },
    /// It knows what the others know.
    Ready,
    /// The daemon is about to stop: the node takes no work.
    Leaving {
        /// The node was ready before.
        was_ready: bool,
    },
}

/// A wait for other members.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wait {
    /// The end of the wait for members that this node has not heard of. `None` if it is over, or if
    /// there is no member to wait for.
    pub until: Option<Time>,
    /// The process stalled during the wait.
    pub has_stalled: bool,
}

/// The state of the peers that decides whether a node becomes ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Surroundings {
    /// The number of linked members that are ready; if none is, of all linked members.
    pub reachable: usize,
    /// The number of those that this node is in step with.
    pub in_step: usize,
    /// This node is in step with a ready member.
    pub has_ready_witness: bool,
    /// The number of other members that are up.
    pub others_up: usize,
    /// Membership has heard of every member, or given it up.
    pub is_settled: bool,
    /// No member can be reached, and this node knows of more than itself.
    pub is_alone: bool,
}

/// The kind of wait that ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The wait for members at boot: the node may become ready now.
    Wait,
    /// The grace: the node counts as in step.
    Grace,
}

impl Readiness {
    /// A node that waits for other members until `until`.
    pub fn waiting(is_newcomer: bool, until: Option<Time>) -> Readiness {
        let wait = Wait { until, has_stalled: false };
        if is_newcomer { Readiness::Newcomer(wait) } else { Readiness::Booting(wait) }
    }

    /// Whether the node may own workloads.
    pub fn is_ready(&self) -> bool {
        match self {
            Readiness::SyncGrace { .. } | Readiness::Stalled { .. } | Readiness::Ready => true,
            Readiness::Leaving { was_ready } => *was_ready,
            Readiness::Newcomer(_) | Readiness::Booting(_) => false,
        }
    }

    /// Whether the node knows nothing yet.
    pub fn is_newcomer(&self) -> bool {
        matches!(self, Readiness::Newcomer(_))
    }

    /// Whether the daemon is about to stop.
    pub fn is_leaving(&self) -> bool {
        matches!(self, Readiness::Leaving { .. })
    }

    /// Whether the node is ready and still waits to be in step with every member that it can hear.
    pub fn is_in_grace(&self) -> bool {
        matches!(self, Readiness::SyncGrace { .. } | Readiness::Stalled { .. })
    }

    /// Whether the node counts as knowing what the other members know. `is_in_step` returns whether
    /// it is in step with every member that it can hear; it is called only where that decides.
    pub fn has_compared(&self, is_in_step: impl FnOnce() -> bool) -> bool {
        match self {
            Readiness::SyncGrace { .. } | Readiness::Stalled { .. } => is_in_step(),
            Readiness::Ready => true,
            Readiness::Leaving { was_ready } => *was_ready,
            Readiness::Newcomer(_) | Readiness::Booting(_) => false,
        }
    }

    /// Whether the node may plan. After a stall it compares first: other nodes may have planned the
    /// workloads that it owned.
    pub fn may_plan(&self, is_in_step: impl FnOnce() -> bool) -> bool {
        match self {
            Readiness::SyncGrace { .. } | Readiness::Ready => true,
            Readiness::Stalled { .. } => is_in_step(),
            Readiness::Newcomer(_) | Readiness::Booting(_) | Readiness::Leaving { .. } => false,
        }
    }

    /// Makes the node ready if it knows enough. Returns whether it did.
    ///
    /// If many devices boot together, the first ones that meet wait a little for the others, which
    /// may have later state.
    pub fn advance(&mut self, now: Time, peers: &Surroundings) -> bool {
        let (Readiness::Newcomer(wait) | Readiness::Booting(wait)) = self else { return false };
        let is_enough = if wait.until.is_some() {
            // Links to members that are up are about to come. One witness may have been cut off
            // itself.
            peers.reachable > 0
                && peers.in_step >= WITNESSES.min(peers.others_up)
                && peers.is_settled
        } else if peers.reachable == 0 {
            peers.is_alone
        } else {
            peers.in_step >= WITNESSES.min(peers.reachable)
        };
        let has_stalled = wait.has_stalled;
        if !is_enough || (self.is_newcomer() && !peers.has_ready_witness) {
            return false;
        }
        let until = now + GRACE;
        *self = match (peers.in_step, has_stalled) {
            // No member can be reached, and the wait for them is over.
            (0, _) => Readiness::Ready,
            (_, true) => Readiness::Stalled { until },
            (_, false) => Readiness::SyncGrace { until },
        };
        true
    }

    /// The process stalled for `lag`, long enough for others to declare this node down. They have
    /// closed their links and need a moment to make new ones. The grace is no longer than the
    /// stall: for a device that stalls now and then the waits must end.
    pub fn stalled(&mut self, now: Time, lag: Duration) {
        let later = |until: Time| (until + lag).max(now + lag.min(GRACE));
        match self {
            Readiness::Newcomer(wait) | Readiness::Booting(wait) => {
                *wait = Wait { until: wait.until.map(later), has_stalled: true };
            }
            Readiness::SyncGrace { until } | Readiness::Stalled { until } => {
                *self = Readiness::Stalled { until: later(*until) };
            }
            Readiness::Ready => *self = Readiness::Stalled { until: now + GRACE },
            Readiness::Leaving { .. } => {}
        }
    }

    /// A lost peer returned, and others may follow until `until`. They may bring claims from their
    /// side of a cut, or a new version before the claims of the nodes that run it.
    pub fn peer_returned(&mut self, until: Option<Time>) {
        let Some(heals) = until else { return };
        match self {
            Readiness::SyncGrace { until } | Readiness::Stalled { until } => {
                *until = heals.max(*until);
            }
            Readiness::Ready => *self = Readiness::SyncGrace { until: heals },
            Readiness::Newcomer(_) | Readiness::Booting(_) | Readiness::Leaving { .. } => {}
        }
    }

    /// The daemon is about to stop.
    pub fn leave(&mut self) {
        *self = Readiness::Leaving { was_ready: self.is_ready() };
    }

    /// Ends a wait that is over.
    pub fn handle_timeout(&mut self, now: Time) -> Option<Ended> {
        self.poll_timeout().filter(|until| *until <= now)?;
        match self {
            Readiness::Newcomer(wait) | Readiness::Booting(wait) => {
                wait.until = None;
                Some(Ended::Wait)
            }
            Readiness::SyncGrace { .. } | Readiness::Stalled { .. } => {
                *self = Readiness::Ready;
                Some(Ended::Grace)
            }
            Readiness::Ready | Readiness::Leaving { .. } => None,
        }
    }

    /// The end of the present wait.
    pub fn poll_timeout(&self) -> Option<Time> {
        match self {
            Readiness::Newcomer(wait) | Readiness::Booting(wait) => wait.until,
            Readiness::SyncGrace { until } | Readiness::Stalled { until } => Some(*until),
            Readiness::Ready | Readiness::Leaving { .. } => None,
        }
    }
}
