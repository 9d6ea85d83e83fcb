//! Quotas: how much of a namespace's workloads may be placed.
//!
//! **A pure function of desired state**, so every owner decides alike without a leader. Workloads
//! count in the order in which they were last written, so that a write which goes beyond the quota
//! waits itself and takes nothing from others. What runs is never stopped for a quota: parts of a
//! cluster that is cut in two may each place up to the quota, and what was placed beyond it stays
//! until it ends.

use crate::model::change::Quota;
use crate::model::{Key, Label, Resources, Spec, Value};

use super::{Change, Desired, Workload};

/// A quota that a workload goes beyond.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the quota of namespace {namespace} allows {allowed} of its {wanted} replicas ({limit})")]
pub struct OverQuota {
    /// The namespace.
    pub namespace: Label,
    /// Replicas of the workload that the quota allows.
    pub allowed: u32,
    /// Replicas that the workload wants.
    pub wanted: u32,
    /// The limit that is reached, for people.
    pub limit: String,
}

/// The rest of a quota.
#[derive(Clone, Copy)]
struct Left {
    cpu: Option<u64>,
    memory: Option<u64>,
    replicas: Option<u64>,
}

impl Left {
    /// How many of `wanted` replicas fit.
    fn fits(&self, each: Resources, wanted: u32) -> u32 {
        let by = |left: Option<u64>, each: u64| match (left, each) {
            (Some(left), 1..) => left / each,
            _ => u64::MAX,
        };
        let most = by(self.cpu, u64::from(each.cpu))
            .min(by(self.memory, each.memory))
            .min(by(self.replicas, 1));
        wanted.min(u32::try_from(most).unwrap_or(u32::MAX))
    }

    fn take(&mut self, each: Resources, count: u32) {
        let less = |left: &mut Option<u64>, each: u64| {
            if let Some(left) = left {
                *left = left.saturating_sub(each.saturating_mul(u64::from(count)));
            }
        };
        less(&mut self.cpu, u64::from(each.cpu));
        less(&mut self.memory, each.memory);
        less(&mut self.replicas, 1);
    }
}

impl Desired {
    /// The quota of a namespace.
    pub fn quota(&self, namespace: &Label) -> Option<&Quota> {
        match &self.effective(&Key::Quota(namespace.clone()))?.signed.value {
            Value::Quota(quota) => Some(quota),
            _ => None,
        }
    }

    /// All quotas, by namespace.
    pub fn quotas(&self) -> impl Iterator<Item = (&Label, &Quota)> {
        let any = self.counts.has(&Key::Quota(Label::default()));
        let registers = any.then(|| self.registers.values());
        registers.into_iter().flatten().filter_map(|register| {
            let change = register.effective()?;
            match (&change.signed.key, &change.signed.value) {
                (Key::Quota(namespace), Value::Quota(quota)) => Some((namespace, quota)),
                _ => None,
            }
        })
    }

    /// The workloads of a namespace, those that were written first before the others.
    fn in_order(&self, namespace: &Label) -> Vec<&Workload> {
        let mut all: Vec<&Workload> =
            self.workloads().filter(|it| it.name.namespace == *namespace).collect();
        all.sort_by_key(|it| {
            let change = self.effective(&Key::Workload(it.name.clone()));
            (change.map_or(0, |change: &Change| change.signed.serial), it.uid)
        });
        all
    }

    /// Why not all replicas of a workload may be placed.
    pub fn over_quota(&self, workload: &Workload) -> Option<OverQuota> {
        let namespace = &workload.name.namespace;
        let quota = self.quota(namespace)?;
        let mut left = left(quota);
        for it in self.in_order(namespace) {
            let (each, wanted) = (it.spec.need().size, it.spec.at_once());
            let allowed = left.fits(each, wanted);
            if it.uid == workload.uid {
                let over = OverQuota {
                    namespace: namespace.clone(),
                    allowed,
                    wanted,
                    limit: shown(quota),
                };
                return (allowed < wanted).then_some(over);
            }
            left.take(each, allowed);
        }
        None
    }

    /// Why this spec, written now, would not be placed in full. A spec that takes no more than the
    /// present one is never refused.
    pub fn would_exceed(&self, spec: &Spec) -> Option<OverQuota> {
        let namespace = &spec.name.namespace;
        let quota = self.quota(namespace)?;
        let mut left = left(quota);
        for it in self.in_order(namespace).into_iter().filter(|it| it.name != spec.name) {
            let each = it.spec.need().size;
            left.take(each, left.fits(each, it.spec.at_once()));
        }
        let (each, wanted) = (spec.need().size, spec.at_once());
        let is_less = self.workload(&spec.name).is_some_and(|now| {
            let before = now.spec.need().size;
            now.spec.at_once() >= wanted && before.cpu >= each.cpu && before.memory >= each.memory
        });
        let allowed = left.fits(each, wanted);
        let (namespace, limit) = (namespace.clone(), shown(quota));
        (allowed < wanted && !is_less).then_some(OverQuota { namespace, allowed, wanted, limit })
    }
}

fn left(quota: &Quota) -> Left {
    Left { cpu: quota.cpu, memory: quota.memory, replicas: quota.replicas }
}

/// The quota, for people.
fn shown(quota: &Quota) -> String {
    let parts = [
        quota.replicas.map(|it| format!("{it} replicas")),
        quota.memory.map(|it| format!("{} MiB of memory", it >> 20)),
        quota.cpu.map(|it| format!("{it} thousandths of a core")),
    ];
    format!("{} in all", parts.into_iter().flatten().collect::<Vec<_>>().join(", "))
}
