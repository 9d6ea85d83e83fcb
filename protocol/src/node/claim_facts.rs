//! The node's reaction to claims, and to facts of the rooms `claims` and `auction`.

use crate::claims::KeptBecause;
use crate::model::{NodeId, ReplicaId, Time};
use crate::{auction, claims};

use super::planning::{FULL_RETRY, HELD_RETRY};
use super::{Level, Node};

impl Node {
    pub(super) fn on_claims(&mut self, now: Time, fact: claims::Fact) {
        match fact {
            claims::Fact::Yield { replica, to, because } => {
                let keeper = self.name_of(&to);
                let (kind, why) = match because {
                    KeptBecause::Leaves => ("moved", self.why_leaves(&replica)),
                    because => ("duplicate-yielded", because.to_string()),
                };
                self.end(now, &replica, kind, format!("{keeper} keeps it: {why}"));
            }
            // Without the disk the adoption would not survive a restart.
            claims::Fact::Adopt { .. } if self.saving.read_only.is_some() => {}
            claims::Fact::Adopt { replica, token } => {
                if let Some(slot) = self.claims.adopt(&replica, token) {
                    self.issue(now, &[slot]);
                }
            }
            claims::Fact::Duplicate { replica, keeper, because: KeptBecause::Leaves } => {
                let (name, to) = (self.replica_name(&replica), self.name_of(&keeper));
                let message = format!("it is to leave another node: {to} starts it");
                self.emit_event(now, Level::Info, "moves", Some(name), Some(keeper), message);
            }
            claims::Fact::Duplicate { replica, keeper, because } => {
                self.count("duplicates");
                let name = self.replica_name(&replica);
                let message = format!(
                    "several nodes hold it; {} is to keep it: {because}",
                    self.name_of(&keeper)
                );
                self.emit_event(
                    now,
                    Level::Warning,
                    "duplicate",
                    Some(name),
                    Some(keeper),
                    message,
                );
            }
            claims::Fact::Doubted { replica, holder, by } => {
                self.count("claims_doubted");
                let name = self.replica_name(&replica);
                let rival = self.name_of(&holder);
                let (award, guilty) = match self.name_of(&by) {
                    _ if by == holder => ("its own".to_owned(), rival.clone()),
                    by => (by.clone(), format!("{rival} or {by}")),
                };
                let message = format!(
                    "{rival} claims it too, by an award of {award}, while it runs well here; \
                        this node keeps it: {guilty} is hostile or broken"
                );
                let kind = "claim-doubted";
                self.emit_event(now, Level::Warning, kind, Some(name), Some(holder), message);
            }
            claims::Fact::Misbehaved { peer, why } => self.on_garbage(now, peer, why),
        }
    }

    pub(super) fn on_auction(&mut self, now: Time, fact: auction::Fact) {
        match fact {
            // `with_auction` has taken it out, to make the claims of one message together.
            auction::Fact::Won { award, .. } => self.on_won(now, vec![award]),
            auction::Fact::Awarded { replica, node, summary, .. } => {
                let name = self.replica_name(&replica);
                let message = format!(
                    "awarded to {} in {:.1} ms, {} bid and {} declined",
                    self.name_of(&node),
                    summary.took_us as f64 / 1e3,
                    summary.bids.len(),
                    summary.declines.len()
                );
                self.count("awards");
                self.emit_event(now, Level::Info, "awarded", Some(name), Some(node), message);
            }
            auction::Fact::Settled { replica, .. } => {
                self.due.dirty.insert(replica.uid);
            }
            auction::Fact::Reopen { replica, node, why } => {
                let name = self.replica_name(&replica);
                self.emit_event(
                    now,
                    Level::Warning,
                    "award-failed",
                    Some(name),
                    Some(node),
                    format!("{why}; auctioned again"),
                );
                self.due.dirty.insert(replica.uid);
            }
            auction::Fact::Held { replica, .. } => self.plan_again(now + HELD_RETRY, replica.uid),
            auction::Fact::Unplaceable { uid, places, why, retry_after } => {
                self.on_unplaceable(now, uid, places.len(), &why, retry_after);
            }
            auction::Fact::Full { uid, .. } => self.plan_again(now + FULL_RETRY, uid),
            auction::Fact::AwardLapsed { replica } => {
                self.due.dirty.insert(replica.uid);
            }
            auction::Fact::Evict { victims, replica } => self.on_evict(now, &victims, &replica),
            auction::Fact::Misbehaved { peer, why } => self.on_garbage(now, peer, why),
        }
    }

    pub(super) fn on_replicas_changed(&mut self, now: Time, node: NodeId, replicas: &[ReplicaId]) {
        let is_up = self.is_up(&node);
        let is_freed =
            |replica: &ReplicaId| self.claims.of(replica).iter().all(|(holder, _)| *holder != node);
        if is_up && replicas.iter().any(is_freed) {
            self.on_room(now, node);
        }
        for replica in replicas {
            self.due.dirty.insert(replica.uid);
            let award =
                self.claims.of(replica).into_iter().find(|(holder, _)| is_up && *holder == node);
            if let Some(token) =
                award.and_then(|(_, claim)| claim.award.peek().ok()).map(|award| award.token)
            {
                self.with_auction(now, |room, now, context, out| {
                    room.saw_claim(now, replica, &node, token, context, out)
                });
            }
        }
        let mut uids: Vec<_> = replicas.iter().map(|replica| replica.uid).collect();
        uids.dedup();
        uids.iter().for_each(|uid| self.await_turn(uid));
        self.due.duplicates = true;
        self.reroute(replicas.iter().map(|replica| replica.uid));
        self.shown.version += 1;
    }
}
