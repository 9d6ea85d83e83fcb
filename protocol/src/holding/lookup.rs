//! Held replicas, their stages, and what of them may be reported. Only `reported` and `stalled`
//! change anything.

use crate::model::{Digest, Need, NeedSum, Phase, Place, ReplicaId, Revision, Time};

use super::{Held, Holding, Stage};

/// The least replica, where the range of a slot begins.
const LEAST: ReplicaId = ReplicaId { uid: Digest([0; 32]), place: Place::Ordinal(0) };

impl Holding {
    /// The state of a replica for the auction; `None` if it is not held.
    pub fn held(&self, replica: &ReplicaId) -> Option<Held> {
        let entry = self.entry(replica)?;
        let writing = match &entry.stage {
            Stage::Writing { award, .. } => Some(award.token),
            _ => None,
        };
        Some(Held { writing })
    }

    /// The stage of a replica that is held.
    pub fn stage(&self, replica: &ReplicaId) -> Option<&Stage> {
        self.entry(replica).map(|entry| &entry.stage)
    }

    /// The revision that the stage of a replica is about.
    pub fn target(&self, replica: &ReplicaId) -> Option<Revision> {
        self.entry(replica)?.target
    }

    /// The phase for the replica's claim.
    pub fn phase(&self, replica: &ReplicaId) -> Option<Phase> {
        self.entry(replica).map(|entry| entry.stage.phase(entry.restarts))
    }

    /// The revision of a replica that runs and answers here, reported or not.
    pub fn serving(&self, replica: &ReplicaId) -> Option<Revision> {
        self.entry(replica)?.serving.map(|(revision, _)| revision)
    }

    /// Whether a replica serves, or has served in its present version and is to come back: it takes
    /// no requests for a moment, or is started again.
    pub fn has_served(&self, replica: &ReplicaId) -> bool {
        self.entry(replica).is_some_and(|entry| {
            entry.has_other() || entry.has_served && !matches!(entry.stage, Stage::GivingUp { .. })
        })
    }

    /// Whether a replica that ran before the daemon started is still to come back.
    pub fn returns(&self, now: Time, replica: &ReplicaId) -> bool {
        self.entry(replica).is_some_and(|entry| {
            entry.returns_until.is_some_and(|until| now < until)
                && !matches!(entry.stage, Stage::GivingUp { .. })
        })
    }

    /// The revision that this node has no place for, and why.
    pub fn refused(&self, replica: &ReplicaId) -> Option<(Revision, &str)> {
        let (revision, why) = self.entry(replica)?.refused.as_ref()?;
        Some((*revision, why))
    }

    /// Whether the runtime was told to run something of a replica that is held.
    pub fn is_begun(&self, replica: &ReplicaId) -> bool {
        self.entry(replica).is_some_and(|entry| match entry.stage {
            Stage::Writing { .. } | Stage::Fetching => entry.runs_other(),
            _ => true,
        })
    }

    /// Whether a workload has a replica here of which the runtime was told nothing yet.
    pub fn has_unbegun(&self, uid: &Digest) -> bool {
        self.replicas().any(|replica| replica.uid == *uid && !self.is_begun(&replica))
    }

    /// All held replicas, by slot.
    pub fn replicas(&self) -> impl Iterator<Item = ReplicaId> {
        let held = self.replicas.iter().filter(|(_, entry)| entry.stage != Stage::Stopping);
        held.map(|((_, replica), _)| *replica)
    }

    /// Replicas that the runtime is to stop, by slot.
    pub fn stopping_replicas(&self) -> impl Iterator<Item = ReplicaId> {
        let stopping = self.replicas.iter().filter(|(_, entry)| entry.stage == Stage::Stopping);
        stopping.map(|((_, replica), _)| *replica)
    }

    /// Replicas that are ready and not reported healthy yet, by slot.
    pub fn unreported(&self) -> impl Iterator<Item = ReplicaId> {
        self.replicas
            .iter()
            .filter(|(_, entry)| entry.is_unreported())
            .map(|((_, replica), _)| *replica)
    }

    /// The same in one slot, with their revisions.
    pub fn unreported_in(&self, slot: u8) -> Vec<(ReplicaId, Revision)> {
        let first = (slot, LEAST);
        let of_slot = self.replicas.range(first..).take_while(|((of, _), _)| *of == slot);
        of_slot
            .filter(|(_, entry)| entry.is_unreported())
            .filter_map(|((_, replica), entry)| Some((*replica, entry.target?)))
            .collect()
    }

    /// Whether a ready replica may be reported healthy, as far as this room knows. A returning
    /// claim is not reported before this node has compared.
    pub fn may_report(&self, replica: &ReplicaId, has_compared: bool) -> bool {
        self.entry(replica).is_some_and(|entry| {
            entry.report_held_until.is_none() && (!entry.is_returning || has_compared)
        })
    }

    /// The replica was reported healthy.
    pub fn reported(&mut self, replica: &ReplicaId) {
        if let Some(entry) = self.entry_mut(replica) {
            (entry.is_reported, entry.is_returning) = (true, false);
        }
    }

    /// The process was stalled for long: others may have taken over replicas that were not reported
    /// healthy.
    pub fn stalled(&mut self) {
        for entry in self.replicas.values_mut() {
            entry.is_returning |= !entry.is_reported;
        }
    }

    /// The sum of resources that held replicas take.
    pub fn committed(&self) -> &NeedSum {
        &self.committed
    }

    /// The sum of resources that released replicas take until the runtime has stopped them.
    pub fn stopping(&self) -> &NeedSum {
        &self.stopping
    }

    /// All that a held replica takes.
    pub fn need_of(&self, replica: &ReplicaId) -> Option<Need> {
        self.entry(replica).map(|entry| entry.committed.clone())
    }

    /// A replica that has some of what is counted under a name, also while it stops.
    pub fn user_of(&self, name: &str) -> Option<ReplicaId> {
        let mut all = self.replicas.iter();
        let found = all.find(|(_, entry)| entry.committed.counted.of(name) > 0);
        found.map(|((_, replica), _)| *replica)
    }

    /// The sum that held replicas would take if this one were replaced by a revision that requires
    /// `need`.
    pub fn committed_after(&self, replica: &ReplicaId, need: Need) -> NeedSum {
        let mut sum = self.committed.clone();
        let mut after = need.clone();
        if let Some(entry) = self.entry(replica) {
            sum.remove(&entry.committed, 1);
            if entry.runs_other() {
                after = entry.committed.or_more(&need);
            }
        }
        sum.add(&after, 1);
        sum
    }
}
