//! The consequences of an admission and of a revocation for other keys.

use crate::model::{Change, Digest, Key, NodeId, Value};

use super::register::Register;
use super::{Desired, Moved};

impl Desired {
    /// The effective admission of `node` is another one now.
    pub(super) fn on_admission(
        &mut self,
        node: NodeId,
        before: Option<&Change>,
        now: Option<&Change>,
        also: &mut Vec<Moved>,
    ) {
        self.standing.set_use(before, now);
        self.place(node, None, also);
        // Of a single-use invite that two devices used, only the first is a member.
        let mut companions: Vec<NodeId> = [before, now]
            .into_iter()
            .flatten()
            .flat_map(|it| self.standing.companions(it))
            .collect();
        companions.sort();
        companions.dedup();
        for other in companions.into_iter().filter(|other| *other != node) {
            self.place(other, Some(node), also);
        }
    }

    /// Puts a node on the roster, or takes it off. `cause` is the node whose key was written.
    fn place(&mut self, node: NodeId, cause: Option<NodeId>, also: &mut Vec<Moved>) {
        let key = Key::Member(node);
        let salt = self.effective(&key).and_then(|it| match it.signed.value {
            Value::Member { salt } if self.standing.counts(it) => Some(salt),
            _ => None,
        });
        let had = match salt {
            Some(salt) => self.roster.insert(node, salt),
            None => self.roster.remove(&node),
        };
        if had != salt && cause.is_some() {
            also.push(Moved { key, before: None });
        }
    }

    /// The revocations held have changed: takes away what does not count any more.
    pub(super) fn on_revocations(&mut self, also: &mut Vec<Moved>) {
        let revocations: Vec<Change> = self.revocations().cloned().collect();
        if !self.standing.set_revoked(revocations.iter()) {
            return;
        }
        // Until nothing follows: members that a withdrawn member admitted go with it.
        while self.sweep(also) {}
        let members: Vec<NodeId> = self.member_keys().collect();
        let anyone = NodeId([0; 32]);
        members.into_iter().for_each(|node| self.place(node, Some(anyone), also));
    }

    fn sweep(&mut self, also: &mut Vec<Moved>) -> bool {
        let mut swept = Vec::new();
        for (at, register) in &self.registers {
            let mut kept = register.clone();
            if kept.retain(|change| self.counts(change)) {
                swept.push((*at, kept));
            }
        }
        let any = !swept.is_empty();
        swept.into_iter().for_each(|(at, kept)| self.replace(at, kept, also));
        any
    }

    fn counts(&self, change: &Change) -> bool {
        match &change.signed.key {
            // A revocation that does not count now may count when another one falls. Those that the
            // root withdrew never do.
            Key::Revocation(_) => !self.is_withdrawn_by_root(change),
            _ => self.barred(change).is_none(),
        }
    }

    fn is_withdrawn_by_root(&self, change: &Change) -> bool {
        let by_root = |it: &Change| it.chain.grants().is_empty();
        let withdraws = |it: &Change| matches!(&it.signed.value, Value::Revoked(it) if it.withdraw);
        let key = Key::Revocation(change.signed.by());
        self.siblings(&key).any(|it| by_root(it) && withdraws(it))
    }

    /// Replaces the changes of a key by those that still count.
    fn replace(&mut self, at: Digest, kept: Register, also: &mut Vec<Moved>) {
        let Some(known) = self.registers.get(&at) else { return };
        let Some(before) = known.effective().cloned() else { return };
        let key = before.signed.key.clone();
        also.push(Moved { key: key.clone(), before: Some(before.uid()) });
        self.counts.weigh(&key, Some(known), Some(&kept));
        if kept.siblings().is_empty() {
            self.registers.remove(&at);
            self.counts.remove(&key);
        } else {
            self.registers.insert(at, kept);
        }
        if self.effective(&key).map(Change::hash) != Some(before.hash()) {
            self.on_effective(&key, at, Some(&before), also);
        }
    }

    fn member_keys(&self) -> impl Iterator<Item = NodeId> {
        self.registers.values().filter_map(|register| match register.effective()?.signed.key {
            Key::Member(node) => Some(node),
            _ => None,
        })
    }
}
