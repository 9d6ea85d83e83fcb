//! When this node knows enough to plan: from its admission, over waiting for the others at boot, to
//! being ready; and back to listening after a cut or a stall.
//!
//! ```text
//!   Newcomer ──┐ in step with a        in step with all that
//!              ├─ ready member ──▶ SyncGrace ── it can hear, or ──▶ Ready
//!   Booting ───┘                       ▲        time is over          │ a peer returned
//!     │ nobody else can be reached     └──────────────────────────────┤
//!     └────────────────────────────────▶ Ready     Stalled ◀──────────┘ this process stood still
//! ```
//!
//! `Leaving` follows from each of them and has no end but the end of the process.

#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::model::Time;

/// The time for which a node waits for members that it has not heard of, or has not compared with.
/// Then it acts on what it knows: a survivor of a power cut must not wait for ever.
pub const GRACE: Duration = Duration::from_secs(3);
/// Peers to be in step with before a node owns workloads.
const WITNESSES: usize = 2;

/// What a node may decide, by what it has heard of the others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Readiness {
    /// Admitted in this life, or not admitted yet, it has not compared with a ready member: it
    /// knows nothing.
    Newcomer(Wait),
    /// It has a state of an earlier life, and waits for members that know more.
    Booting(Wait),
    /// Ready, and not in step yet with all members that it can hear: it may not report a replica
    /// healthy that others may have taken over.
    SyncGrace {
        /// The end of the wait.
        until: Time,
    },
    /// As `SyncGrace`, after this process stood still: it also plans nothing.
    Stalled {
        /// The end of the wait.
        until: Time,
    },
    /// It knows what the others know.
    Ready,
    /// It said goodbye, and takes no work.
    Leaving {
        /// It was ready before.
        was_ready: bool,
    },
}

/// A wait for the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wait {
    /// The end of the wait for members that this node has not heard of. None when it is over, or
    /// when there is nobody to wait for.
    pub until: Option<Time>,
    /// This process stood still meanwhile.
    pub has_stalled: bool,
}

/// The peers, as far as they decide whether a node becomes ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Surroundings {
    /// Linked members that are ready; if none is, all linked members.
    pub reachable: usize,
    /// Those of them that this node is in step with.
    pub in_step: usize,
    /// A ready member is among those that it is in step with.
    pub has_ready_witness: bool,
    /// Other members that are held to be up.
    pub others_up: usize,
    /// Membership has heard of all that it waited for at boot.
    pub is_settled: bool,
    /// No member can be reached, and this node knows of more than itself.
    pub is_alone: bool,
}

/// What the end of a wait led to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The wait for members: the node may be able to become ready.
    Wait,
    /// The grace: the node is in step.
    Grace,
}

impl Readiness {
    /// Waits for the others, until `until`.
    pub fn waiting(is_newcomer: bool, until: Option<Time>) -> Readiness {
        let wait = Wait { until, has_stalled: false };
        if is_newcomer { Readiness::Newcomer(wait) } else { Readiness::Booting(wait) }
    }

    /// Whether it may own workloads.
    pub fn is_ready(&self) -> bool {
        match self {
            Readiness::SyncGrace { .. } | Readiness::Stalled { .. } | Readiness::Ready => true,
            Readiness::Leaving { was_ready } => *was_ready,
            Readiness::Newcomer(_) | Readiness::Booting(_) => false,
        }
    }

    /// Whether it knows nothing yet.
    pub fn is_newcomer(&self) -> bool {
        matches!(self, Readiness::Newcomer(_))
    }

    /// Whether it said goodbye.
    pub fn is_leaving(&self) -> bool {
        matches!(self, Readiness::Leaving { .. })
    }

    /// Whether it is ready and still waits to be in step with all that it can hear.
    pub fn is_in_grace(&self) -> bool {
        matches!(self, Readiness::SyncGrace { .. } | Readiness::Stalled { .. })
    }

    /// Whether it knows what the others know. `is_in_step` says whether it is in step with all that
    /// it can hear; it is asked only where that decides.
    pub fn has_compared(&self, is_in_step: impl FnOnce() -> bool) -> bool {
        match self {
            Readiness::SyncGrace { .. } | Readiness::Stalled { .. } => is_in_step(),
            Readiness::Ready => true,
            Readiness::Leaving { was_ready } => *was_ready,
            Readiness::Newcomer(_) | Readiness::Booting(_) => false,
        }
    }

    /// Whether it may plan. After a stall it hears first what became of the workloads it owned.
    pub fn may_plan(&self, is_in_step: impl FnOnce() -> bool) -> bool {
        match self {
            Readiness::SyncGrace { .. } | Readiness::Ready => true,
            Readiness::Stalled { .. } => is_in_step(),
            Readiness::Newcomer(_) | Readiness::Booting(_) | Readiness::Leaving { .. } => false,
        }
    }

    /// Becomes ready if it knows enough. Whether it did.
    ///
    /// Of devices that boot together some meet first; the others may know better what these decide,
    /// so they are waited for a little.
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
            // With nobody there it has waited already.
            (0, _) => Readiness::Ready,
            (_, true) => Readiness::Stalled { until },
            (_, false) => Readiness::SyncGrace { until },
        };
        true
    }

    /// This process stood still for `lag`, so long that others may have declared it down. They
    /// have closed their links and need a moment. The grace is no longer than the stall: a device
    /// that stalls now and then must come to an end of waiting.
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

    /// A peer is back, until `until` others may follow: they may know of takers on their side of a
    /// cut, or bring a new version before they tell who runs it already.
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

    /// It said goodbye.
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
