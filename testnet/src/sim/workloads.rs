//! The writes of users, and what they were promised. Writes through nodes that do not know of each
//! other are concurrent, and the one with the greatest serial wins; so the last write is not always
//! the promised one.

use std::collections::BTreeMap;

use shoal_protocol::model::{Change, Spec};

use super::disk::Disk;

/// A write, and whether a node acknowledged it.
#[derive(Clone)]
pub struct Write {
    /// The published spec; none for a removal.
    pub value: Option<Spec>,
    pub change: Change,
    /// If false, the write may have been taken or not: the node died during the request, or the
    /// only disk that had it is lost.
    pub is_promised: bool,
}

/// All writes, by workload name.
#[derive(Default)]
pub struct Workloads(BTreeMap<String, Vec<Write>>);

impl Workloads {
    pub fn record(&mut self, name: String, written: Write) {
        self.0.entry(name).or_default().push(written);
    }

    /// Each workload that was ever written, with the values that it may have once all nodes agree.
    pub fn allowed(&self) -> impl Iterator<Item = (&str, Vec<Option<&Spec>>)> {
        self.0.iter().map(|(name, writes)| {
            let mut values: Vec<Option<&Spec>> = writes
                .iter()
                .filter(|write| stands(writes, write))
                .map(|write| write.value.as_ref())
                .collect();
            if !writes.iter().any(|write| write.is_promised) {
                values.push(None);
            }
            (name.as_str(), values)
        })
    }

    /// The values of a workload that may still be the promised one.
    pub fn promised(&self, name: &str) -> impl Iterator<Item = Option<&Spec>> {
        let writes = self.0.get(name).map(Vec::as_slice).unwrap_or_default();
        writes
            .iter()
            .filter(|write| write.is_promised && stands(writes, write))
            .map(|write| write.value.as_ref())
    }

    /// A disk is lost: writes that none of the `others` has are no longer promised.
    pub fn lose(&mut self, others: &[&Disk]) {
        for write in self.0.values_mut().flatten() {
            let hash = write.change.hash();
            let key = write.change.signed.key.hash();
            let has = |disk: &&Disk| {
                let changes = disk.desired.get(&key).map(Vec::as_slice).unwrap_or_default();
                changes.iter().any(|raw| {
                    raw.change.hash() == hash
                        || raw.change.peek().is_ok_and(|body| {
                            body.clock
                                .get(&write.change.signed.writer)
                                .is_some_and(|seen| *seen >= write.change.signed.serial)
                        })
                })
            };
            write.is_promised &= others.iter().any(has);
        }
    }
}

/// Whether no promised write supersedes this one.
fn stands(writes: &[Write], write: &Write) -> bool {
    let promised = |other: &&Write| other.is_promised && other.change.hash() != write.change.hash();
    writes.iter().filter(promised).all(|other| {
        let beaten = other.change.precedence() > write.change.precedence();
        let is_replaced = writes.iter().any(|third| has_seen(third, other));
        !has_seen(other, write) && (!beaten || is_replaced)
    })
}

fn has_seen(later: &Write, earlier: &Write) -> bool {
    let seen = later.change.signed.clock.get(&earlier.change.signed.writer);
    later.change.hash() != earlier.change.hash()
        && seen.is_some_and(|seen| *seen >= earlier.change.signed.serial)
}
