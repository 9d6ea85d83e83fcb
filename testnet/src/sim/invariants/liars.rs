//! What a member that lies must not bring about. `docs/simulator.md` says which rules are loosened
//! for it, and `docs/trust.md` what it can do.

use shoal_protocol::model::spec::MAX_REPLICAS;
use shoal_protocol::model::view::EventView;
use shoal_protocol::model::{
    Claim, Digest, InstanceState, Key, NodeId, Phase, RawChange, ReplicaId, Ruling, RulingBody,
    Unverified,
};
use shoal_protocol::node::{Input, Message, Record};
use shoal_protocol::rulings::MAX_SEQUENCE;

use crate::sim::world::World;

/// How long a replica must have been healthy until nobody can be unaware of it, microseconds; a
/// tenth more than by the clock of a device that is a little slow.
const RACE: u64 = 66_000_000;
/// How long two nodes that met (again) may not know of one another's replicas, microseconds.
const LEARNS_WITHIN: u64 = 330_000_000;
/// How long a link may be open at one end only, microseconds.
const GREETING: u64 = 6_000_000;
/// How long a question to a keeper and its answer may be under way, microseconds.
const ASKED: u64 = 15_000_000;
/// A node that was heard over a link within this time is up, microseconds.
const HEARS_WITHIN: u64 = 1_000_000;
/// Rulings of one member that a node takes at once; then one a second.
const RULINGS: u64 = 256;
/// Bytes of a ruling of an unknown kind.
const MAX_BODY: usize = 64;
/// Rulings of one workload: five known kinds, and the unknown ones together.
const MAX_RULINGS: usize = 5 * 32 + 8 * 32;

impl World {
    /// Whether a device is honest beside a liar: only then there is something to check.
    fn is_beside_liar(&self, device: usize) -> bool {
        !self.watch.liars.is_empty() && !self.watch.liars.contains(&self.devices[device].id)
    }

    /// Notes that a daemon hears a message of another one over a link.
    pub(in crate::sim) fn watch_heard(
        &mut self,
        to: usize,
        from: usize,
        link: u64,
        message: &Message,
    ) {
        if matches!(message, Message::Membership(_)) && !self.watch.is_off {
            let at = self.local_time(to).as_micros();
            let heard = self.watch.heard.entry((to, from)).or_insert((link, at, at));
            if heard.0 != link {
                *heard = (link, at, at);
            }
            heard.2 = at;
        }
    }

    /// Notes what an input tells a daemon of its replicas and of itself.
    pub(in crate::sim) fn watch_input(&mut self, device: usize, input: &Input) {
        match input {
            Input::Report(report) if report.state == InstanceState::Running => {
                let known = self.watch.healthy.get(&(device, report.replica));
                if known.is_none_or(|(generation, _)| *generation != report.generation) {
                    let healthy = (report.generation, self.now);
                    self.watch.healthy.insert((device, report.replica), healthy);
                }
            }
            Input::Report(report) => {
                self.watch.healthy.remove(&(device, report.replica));
            }
            Input::Facts(_) => {
                self.watch.unsure.insert(device, self.now);
            }
            Input::Lag(_) => self.note_apart(device),
            Input::LinkDown { .. } if self.devices[device].links.is_empty() => {
                self.note_apart(device);
            }
            _ => {}
        }
    }

    /// Notes that a device may not know what the others do, nor they what it does.
    pub(in crate::sim) fn note_apart(&mut self, device: usize) {
        self.watch.apart.insert(device, self.now);
    }

    /// Checks what a daemon writes: signed by somebody who may, and within the bounds of a member.
    pub(in crate::sim) fn watch_written(&mut self, device: usize, record: &Record) {
        if !self.is_beside_liar(device) {
            return;
        }
        let wrong = match record {
            Record::Desired { changes, .. } => {
                changes.iter().find_map(|change| self.unsigned(change))
            }
            Record::Ruling { ruling, .. } => self.excessive(device, ruling),
            Record::Node { record, .. } => record.peek().ok().and_then(|record| {
                let texts = [&record.name, &record.version];
                let is_bad = texts.into_iter().any(|text| text.chars().any(char::is_control));
                is_bad.then(|| "it takes a record with control characters".to_owned())
            }),
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.broken(device, wrong);
        }
    }

    /// Why a change that a node writes is none of an operator, nor an admission.
    fn unsigned(&self, raw: &RawChange) -> Option<String> {
        if raw.change.check(&self.genesis.cluster()).is_err() {
            return Some("it writes a change whose signature is wrong".into());
        }
        let key = raw.change.peek().ok()?.key;
        let by = NodeId(raw.change.by().0);
        let is_node = self.ids.contains_key(&by) || self.watch.ghosts.contains(&by);
        let is_admission = matches!(key, Key::Member(_));
        (is_node && !is_admission).then(|| format!("it writes {key:?} as a node signed it"))
    }

    /// Why a node must not take one more ruling of a liar, or none like it.
    fn excessive(&mut self, device: usize, ruling: &Unverified<Ruling>) -> Option<String> {
        let by = NodeId(ruling.by().0);
        let body = ruling.peek().ok().filter(|_| self.watch.liars.contains(&by))?;
        let is_allowed = body.sequence <= MAX_SEQUENCE
            && match &body.body {
                RulingBody::Autoscale { replicas: places }
                | RulingBody::Frontier { below: places } => *places <= MAX_REPLICAS,
                RulingBody::Other(_, bytes) => bytes.0.len() <= MAX_BODY,
                _ => true,
            };
        if !is_allowed {
            return Some(format!("it takes a ruling that no spec allows: {body:?}"));
        }
        let boot = self.devices[device].boot;
        let taken = self.watch.rulings.entry((device, boot)).or_default();
        taken.insert(ruling.hash());
        let (taken, lived) = (taken.len() as u64, self.local_time(device).as_micros() / 1_000_000);
        (taken > RULINGS + lived + 1)
            .then(|| format!("it takes {taken} rulings of one member in {lived} s"))
    }

    /// Checks that nothing is started that no operator wished for.
    pub(in crate::sim) fn watch_run(
        &mut self,
        device: usize,
        replica: &ReplicaId,
        generation: &Digest,
    ) {
        if self.is_beside_liar(device)
            && !self.watch.generations.contains_key(&(replica.uid, *generation))
        {
            self.broken(device, format!("it starts {replica}, which no operator signed"));
        }
    }

    /// Checks an event: its text, falls of nodes that are heard, and what is left to a liar.
    pub(in crate::sim) fn watch_event(&mut self, device: usize, event: &EventView) {
        let about = event.node.as_deref().and_then(|name| self.device_named(name));
        match (event.kind.as_str(), about) {
            ("node-up", Some(about)) => {
                self.watch.met.insert((device, about), self.now);
            }
            ("node-down", Some(about)) => {
                // The one that is called down by others was apart from them.
                if self.devices[device].liar.is_none() {
                    self.note_apart(about);
                }
                // A goodbye is its own word.
                if !event.message.contains("goodbye") {
                    self.watch_fall(device, about);
                }
            }
            _ => {}
        }
        if !self.is_beside_liar(device) {
            return;
        }
        let texts = [Some(&event.message), event.subject.as_ref(), event.node.as_ref()];
        if texts.into_iter().flatten().any(|text| text.chars().any(char::is_control)) {
            self.broken(device, format!("an event has control characters: {event:?}"));
        }
    }

    /// A node that another one hears over a link is up there, whatever others say.
    fn watch_fall(&mut self, device: usize, about: usize) {
        let link = self.devices[device].links.get(&about).copied();
        let heard = self.watch.heard.get(&(device, about)).copied();
        let Some((heard_over, first, last)) = heard else { return };
        let silence = self.local_time(device).as_micros().saturating_sub(last);
        let is_open = last.saturating_sub(first) > GREETING;
        let is_heard = link == Some(heard_over) && is_open && silence < HEARS_WITHIN;
        if is_heard && !self.is_cloned(about) && !self.is_cloned(device) {
            self.broken(device, format!("it holds n{about} down, and hears it over a link"));
        }
    }

    /// Why a device must not stop a replica that it runs well, though no honest node has said that
    /// it keeps it. `docs/trust.md` says when a liar may take it.
    pub(super) fn must_keep(&mut self, device: usize, replica: &ReplicaId) -> Option<String> {
        let claims = |it: &usize| {
            let liar = self.devices[*it].liar.as_ref();
            liar.is_some_and(|liar| liar.claim(replica).is_some())
        };
        let Some(liar) = self.liar().filter(claims) else { return Some("nobody keeps it".into()) };
        let why = self.is_safe_from(device, replica, liar);
        if why.is_none() {
            self.watch.lost_to_liars.insert(*replica);
        }
        why.map(|why| format!("only the liar n{liar} says that it keeps it: {why}"))
    }

    /// The device to which a replica is left: `let go: n3 keeps it: ..`.
    fn keeper_in(&self, message: &str) -> Option<usize> {
        self.device_named(message.strip_prefix("let go: ")?.split(' ').next()?)
    }

    /// Whether a replica is left to a liar.
    pub(super) fn is_left_to_liar(&self, message: &str) -> bool {
        let keeper = self.keeper_in(message);
        keeper.is_some_and(|device| self.watch.liars.contains(&self.devices[device].id))
    }

    /// Why a device must not yield a replica that it runs well to a liar.
    fn is_safe_from(&self, device: usize, replica: &ReplicaId, liar: usize) -> Option<String> {
        let (_, since) = *self.watch.healthy.get(&(device, *replica))?;
        let it = &self.devices[device];
        let is_contained = it.runtime.replicas.get(replica).is_some_and(|it| it.image.is_some());
        if is_contained && !it.adapter.offers {
            return None; // it cannot see how the replica does
        }
        let since = self.watch.unsure.get(&device).map_or(since, |at| since.max(*at));
        if self.now < since + ASKED {
            return None; // the question was asked while it was not healthy
        }
        let is_fresh = self.now < since + RACE;
        let met = [self.watch.met.get(&(device, liar)), self.watch.apart.get(&device)];
        let has_met =
            met.into_iter().flatten().any(|at| self.now < at + LEARNS_WITHIN && at + RACE > since);
        if !is_fresh && !has_met {
            return Some(format!(
                "healthy for {} s, and in touch for long",
                (self.now - since) / 1_000_000
            ));
        }
        self.is_implausible(device, replica, liar)
            .then(|| "the liar may not own it, and the award of this node is good".into())
    }

    /// Whether the device sees that the liar's award is of a node that may not own the workload,
    /// and that its own award is of one that may.
    fn is_implausible(&self, device: usize, replica: &ReplicaId, liar: usize) -> bool {
        let Some(node) = self.node(device) else { return false };
        let views = node.workloads();
        let Some(view) = views.into_iter().find(|it| it.uid == replica.uid.to_string()) else {
            return false;
        };
        let claim = self.claims_on_disk(device).into_iter().find(|it| it.replica == *replica);
        let Some(claim) = claim.filter(|claim| claim.phase == Phase::Healthy) else { return false };
        let of_liar = self.devices[liar].liar.as_ref().and_then(|it| it.claim(replica));
        // An award of one's own takes the owner, and that of another node a guardian.
        let is_good = |holder: usize, claim: &Claim| {
            let by = self.ids.get(&NodeId(claim.award.by().0)).into_iter().flatten().next();
            by.is_some_and(|by| {
                let name = &self.devices[*by].name;
                if self.devices[*by].id == self.devices[holder].id {
                    view.owner.as_ref() == Some(name)
                } else {
                    view.guardians.contains(name)
                }
            })
        };
        is_good(device, &claim) && !of_liar.is_some_and(|claim| is_good(liar, claim))
    }

    /// A ghost that a device holds to be a member.
    pub(in crate::sim) fn ghost_inside(&self, device: usize) -> Option<String> {
        if self.watch.ghosts.is_empty() || !self.is_beside_liar(device) {
            return None;
        }
        let node = self.node(device)?;
        // The ghosts of an invite that is used up count until its use is known.
        let knows = |(key, hash): &(Key, Digest)| node.holds_change(key, hash);
        if !self.watch.spent.as_ref().is_none_or(knows) {
            return None;
        }
        let ghost = self.watch.ghosts.iter().find(|ghost| node.is_member(ghost))?;
        Some(format!("ghost {} is a member, and nobody let it in", ghost.short()))
    }

    /// A workload with more rulings on a disk than any node keeps.
    pub(in crate::sim) fn too_many_rulings(&self) -> Option<String> {
        let mut counts = std::collections::BTreeMap::<(usize, Digest), usize>::new();
        for device in self.honest() {
            for ruling in self.devices[device].disk.rulings.values() {
                let uid = ruling.peek().ok()?.uid;
                *counts.entry((device, uid)).or_default() += 1;
            }
        }
        let ((device, uid), count) = counts.into_iter().find(|(_, count)| *count > MAX_RULINGS)?;
        Some(format!("n{device} keeps {count} rulings about {}", uid.short()))
    }
}
