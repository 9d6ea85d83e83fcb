//! Rights, for people: the operators, their ends, and the revoked keys.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::change::Quota;
use crate::model::view::{AdmissionView, OperatorView, QuotaView, RevokedView};
use crate::model::{
    Chain, Change, Key, Label, Namespaces, NodeId, PublicKey, RawChange, Time, Value, WallClock,
};
use crate::trust;

use super::{Level, Node};

/// How long before its end a grant is warned of, milliseconds: three weeks.
const WARNED_BEFORE: u64 = 21 * 24 * 60 * 60 * 1000;
/// How often ends of grants are looked at: it takes a look at every key of desired state.
const ENDINGS_EVERY: Duration = Duration::from_secs(60 * 60);

impl Node {
    /// The operators that were entered, by name.
    pub fn operators(&self) -> Vec<OperatorView> {
        let mut views: Vec<OperatorView> =
            self.desired.operators().filter_map(|change| self.operator_view(change)).collect();
        views.sort_by(|one, other| (&one.name, &one.key).cmp(&(&other.name, &other.key)));
        views
    }

    fn operator_view(&self, change: &Change) -> Option<OperatorView> {
        let Value::Operator(chain) = &change.signed.value else { return None };
        let own = chain.peek()?;
        let of = &own.subject;
        let right = trust::authority(&self.identity.genesis, chain, *of, None).ok()?;
        let givers = chain.grants().iter().rev().nth(1).and_then(|it| it.peek().ok());
        let namespaces = match right.namespaces {
            Namespaces::All => Vec::new(),
            Namespaces::Only(only) => only.iter().map(ToString::to_string).collect(),
        };
        Some(OperatorView {
            name: own.name,
            key: of.to_string(),
            role: right.role.name().into(),
            namespaces,
            expires: right.expires.map(|it| it.to_string()),
            by: givers.map_or_else(|| "root".into(), |it| it.name),
            revoked: self.desired.revoked().get(of).map(|it| it.why.clone()),
        })
    }

    /// The revoked keys: those of nodes with their names.
    pub fn revoked(&self) -> Vec<RevokedView> {
        let view = |(key, it): (&PublicKey, &crate::model::change::Revoked)| {
            let node = NodeId(key.0);
            let is_node = self.desired.effective(&Self::member_key(node)).is_some();
            RevokedView {
                key: key.to_string(),
                node: is_node.then(|| self.name_of(&node)),
                why: it.why.clone(),
                withdrawn: it.withdraw,
            }
        };
        self.desired.revoked().iter().map(view).collect()
    }

    /// The admission of this node, which proves to strangers that it is a member.
    pub fn admission(&self) -> Option<RawChange> {
        self.desired.effective(&Self::member_key(self.me)).map(Change::raw)
    }

    /// The quotas, by namespace.
    pub fn quotas(&self) -> Vec<QuotaView> {
        let view = |(namespace, quota): (&Label, &Quota)| {
            let mut view = QuotaView {
                namespace: namespace.to_string(),
                cpu: quota.cpu,
                memory: quota.memory,
                replicas: quota.replicas,
                wanted_cpu: 0,
                wanted_memory: 0,
                wanted_replicas: 0,
            };
            for it in self.desired.workloads().filter(|it| it.name.namespace == *namespace) {
                let (each, count) = (it.spec.need().size, u64::from(it.spec.replicas()));
                view.wanted_cpu += u64::from(each.cpu) * count;
                view.wanted_memory = view.wanted_memory.saturating_add(each.memory * count);
                view.wanted_replicas += count;
            }
            view
        };
        let mut views: Vec<QuotaView> = self.desired.quotas().map(view).collect();
        views.sort_by(|one, other| one.namespace.cmp(&other.namespace));
        views
    }

    /// Whether this node itself was revoked: it has no business with the cluster any more.
    pub(super) fn is_expelled(&self) -> bool {
        self.is_revoked(&self.me.into())
    }

    /// The key by whose revocation the holder of `by`, with this chain, has no rights now.
    pub fn ended(&self, chain: &Chain, by: &PublicKey) -> Option<PublicKey> {
        self.desired.ended(chain, by)
    }

    /// The devices that a node let in.
    pub fn let_in_by(&self, node: &NodeId) -> Vec<AdmissionView> {
        let view = |change: &Change| {
            let Key::Member(node) = change.signed.key else { return None };
            let (name, change) = (self.name_of(&node), change.hash().to_string());
            Some(AdmissionView { node: node.to_string(), name, change })
        };
        self.desired.admissions_by(node).filter_map(view).collect()
    }

    /// Whether the rights of a key were revoked.
    pub fn is_revoked(&self, key: &PublicKey) -> bool {
        self.desired.revoked().contains_key(key)
    }

    /// Warnings of grants that end soon, or have ended.
    pub(super) fn expiry_warnings(&self) -> Vec<String> {
        let here = self.device.clock.0;
        self.ends()
            .filter_map(|(_, grant, at)| Some(Ending::of(at, here)?.warning(&grant, at, here)))
            .collect()
    }

    /// Tells people once of each grant that ends soon, and once when it has ended.
    pub(super) fn report_endings(&mut self, now: Time) {
        if self.shown.endings_at.is_some_and(|at| now < at) {
            return;
        }
        self.shown.endings_at = Some(now + ENDINGS_EVERY);
        let here = self.device.clock.0;
        let found: BTreeMap<PublicKey, (Ending, String)> = self
            .ends()
            .filter_map(|(key, grant, at)| {
                let ending = Ending::of(at, here)?;
                Some((key, (ending, ending.warning(&grant, at, here))))
            })
            .collect();
        let told = &self.shown.endings;
        let is_new = |key: &PublicKey, ending| told.get(key) != Some(ending);
        let news: Vec<String> = found
            .iter()
            .filter(|(key, (ending, _))| is_new(key, ending))
            .map(|(_, (_, message))| message.clone())
            .collect();
        self.shown.endings = found.into_iter().map(|(key, (ending, _))| (key, ending)).collect();
        for message in news {
            self.emit_event(now, Level::Warning, "grant-ending", None, None, message);
        }
    }

    /// The operators whose rights end, with their names and the moment. Not the revoked ones.
    fn ends(&self) -> impl Iterator<Item = (PublicKey, String, WallClock)> {
        self.desired.operators().filter_map(|change| {
            let Value::Operator(chain) = &change.signed.value else { return None };
            let own = chain.peek()?;
            let right = trust::authority(&self.identity.genesis, chain, own.subject, None).ok()?;
            let expires = right.expires.filter(|_| !self.is_revoked(&own.subject))?;
            Some((own.subject, own.name, expires))
        })
    }
}

/// How near the end of a grant is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// Within three weeks.
    Soon,
    /// It has ended.
    Ended,
}

impl Ending {
    fn of(at: WallClock, here: WallClock) -> Option<Ending> {
        match () {
            () if at < here => Some(Ending::Ended),
            () if at.0 - here.0 <= WARNED_BEFORE => Some(Ending::Soon),
            () => None,
        }
    }

    fn warning(self, name: &str, at: WallClock, here: WallClock) -> String {
        let renew = format!("`shoal operator add {name} --renew KEY` renews them");
        match self {
            Ending::Ended => format!("the rights of operator {name} ended at {at}: {renew}"),
            Ending::Soon => {
                let days = at.0.saturating_sub(here.0) / (24 * 60 * 60 * 1000);
                format!("the rights of operator {name} end in {days} days, at {at}: {renew}")
            }
        }
    }
}
