//! What the device tells of itself, and the labels that operators set over it.

use crate::model::{Facts, KeptVolume, ReplicaId, Time};

use super::Node;
use super::events::Level;

impl Node {
    pub(super) fn on_facts(&mut self, now: Time, mut facts: Facts) {
        self.date_volumes(&mut facts);
        self.auction.set_capacity(facts.offer());
        self.device.own_labels = std::mem::take(&mut facts.labels);
        self.device.facts = facts;
        self.apply_policy();
        self.publish_profile(now);
        self.due.holding = true;
        self.due.duplicates = true;
        self.mark_all_dirty();
    }

    pub(super) fn on_facts_noted(&mut self, now: Time, is_warning: bool, message: String) {
        let level = if is_warning { Level::Warning } else { Level::Info };
        self.emit_event(now, level, "facts", None, Some(self.me), message);
    }

    /// Sets the labels of this node by its configuration and its policy. Whether they are others
    /// than before.
    pub(super) fn apply_policy(&mut self) -> bool {
        let own = &self.device.own_labels;
        let labels = match self.desired.policies().get(&self.me) {
            Some(policy) => policy.labels_over(own),
            None => own.clone(),
        };
        let before = std::mem::replace(&mut self.device.facts.labels, labels);
        before != self.device.facts.labels
    }

    /// Notes when volumes were made: under the token of the replica that they are for. The driver
    /// does not know it.
    fn date_volumes(&self, facts: &mut Facts) {
        for volume in &mut facts.volumes {
            let known =
                |it: &&KeptVolume| it.is(&volume.workload, &volume.place, volume.name.as_str());
            let before = self.device.facts.volumes.iter().find(known).map(|it| it.counter);
            let made = || {
                let uid = self.desired.workload(&volume.workload)?.uid;
                let place = volume.place()?;
                self.claims.highest_token(&ReplicaId { uid, place }).map(|token| token.counter)
            };
            // A volume that is used again is newer than one that was made meanwhile elsewhere.
            let used = || {
                let workload = self.desired.workload(&volume.workload)?;
                let (uid, place) = (workload.uid, volume.place()?);
                if workload.spec.kind.job().is_none() {
                    let claim = self.claims.my_claim(&ReplicaId { uid, place })?;
                    return Some(claim.token.counter);
                }
                let runs = self.claims.of_workload(&uid);
                let users = runs.iter().filter(|(node, claim)| {
                    *node == self.me && claim.replica.place.of_volumes() == place
                });
                users.map(|(_, claim)| claim.token.counter).max()
            };
            let first = before.or_else(made).unwrap_or(volume.counter);
            volume.counter = used().map_or(first, |used| used.max(first));
        }
    }

    /// Notes under which tokens this node's volumes are used now.
    pub(super) fn redate_volumes(&mut self, now: Time) {
        if self.device.facts.volumes.is_empty() {
            return;
        }
        let mut facts = self.device.facts.clone();
        self.date_volumes(&mut facts);
        if facts.volumes != self.device.facts.volumes {
            self.device.facts = facts;
            self.publish_profile(now);
        }
    }
}
