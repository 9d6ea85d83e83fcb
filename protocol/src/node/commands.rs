//! What users ask for.

use std::collections::BTreeMap;

use crate::model::{Change, Key, Spec, Time, WorkloadName};
use crate::trust::{self, Rejection};

use super::Node;
use super::contract::{Action, Command, Draft, Refusal, Reply, RequestId};
use super::message::Message;

impl Node {
    pub(super) fn on_command(&mut self, now: Time, request: RequestId, command: Command) {
        let outcome = match command {
            Command::Prepare { name, spec, force } => self.prepare(now, name, spec, force),
            Command::Submit { change } => match trust::accept(&self.identity.genesis, change) {
                Ok(change) => return self.submit(now, request, change),
                Err(Rejection::Never(why)) => Err(Refusal::Invalid(why.to_string())),
                Err(Rejection::NotYet(why)) => Err(Refusal::Invalid(why.to_string())),
            },
            Command::Uploaded { artifact } => self.uploaded(now, artifact),
        };
        let reply = outcome.unwrap_or_else(Reply::Refused);
        self.outbox.push(Action::Reply { request, reply });
    }

    fn prepare(&mut self, now: Time, name: WorkloadName, spec: Option<Spec>, force: bool) -> Result<Reply, Refusal> {
        self.writable()?;
        let current = self.desired.workload(&name).map(|wish| wish.spec.clone());
        if current.is_none() && spec.is_none() {
            return Err(Refusal::NoSuchWorkload(name));
        }
        if let Some(spec) = spec.as_ref().filter(|spec| spec.replicas > 0 && !force) {
            self.placeable(spec)?;
        }
        let wall = self.wall(now);
        // The user is about to wait for holders, also where nothing is to be written, and the words
        // of some may have been lost.
        if let Some(digest) = spec.as_ref().map(|spec| spec.artifact.digest) {
            self.follow_up(now, digest);
        }
        let context =
            self.desired.context(&Key::Workload(name), wall).map_err(|error| Refusal::Full(error.to_string()))?;
        let draft = Draft { clock: context.clock, serial: context.serial, uid: context.uid };
        Ok(Reply::Prepared { draft, current })
    }

    /// Whether any member that is up could ever run this, and if none, which requirement left out how many.
    fn placeable(&self, spec: &Spec) -> Result<(), Refusal> {
        let mut why: BTreeMap<String, usize> = BTreeMap::new();
        for node in self.membership.up() {
            let Some(record) = self.membership.record(&node) else { continue };
            match record.facts.fits(spec) {
                Ok(()) => return Ok(()),
                Err(unfit) => *why.entry(unfit.to_string()).or_default() += 1,
            }
        }
        let count = |(why, nodes): (String, usize)| {
            format!("{why}: {nodes} {} left out", if nodes == 1 { "node" } else { "nodes" })
        };
        Err(Refusal::Unplaceable(why.into_iter().map(count).collect()))
    }

    fn submit(&mut self, now: Time, request: RequestId, change: Change) {
        let wall = self.wall(now);
        let plausible = || {
            self.desired
                .plausible(&change.signed, wall)
                .map_err(|implausible| Refusal::Invalid(implausible.to_string()))
        };
        if let Err(refusal) = self.writable().and_then(|()| self.is_next(&change)).and_then(|()| plausible()) {
            return self.outbox.push(Action::Reply { request, reply: Reply::Refused(refusal) });
        }
        let (uid, hash, raw) = (change.uid(), change.hash(), change.raw());
        let artifact = change.signed.value.spec().map(|spec| spec.artifact.digest);
        let holder = artifact.filter(|digest| self.artifacts.is_ready(digest)).map(|_| self.me);
        let after = match self.apply_change(now, change) {
            Ok(after) => after,
            Err(why) => {
                let reply = Reply::Refused(Refusal::Full(why));
                return self.outbox.push(Action::Reply { request, reply });
            }
        };
        self.outbox.push_after(after, Action::Reply { request, reply: Reply::Accepted { uid, change: hash } });
        self.outbox.push_after(after, Action::Broadcast(Message::Changed { change: raw, holder }));
        if let Some(digest) = artifact {
            self.follow_up(now, digest);
        }
    }

    /// An author who did not know what is here would overwrite it unseen.
    fn is_next(&self, change: &Change) -> Result<(), Refusal> {
        if let Key::Member(_) = change.signed.key {
            return Err(Refusal::Invalid("nodes are admitted by nodes, not by users".into()));
        }
        let seen = |sibling: &Change| {
            let known = change.signed.clock.get(&sibling.signed.writer);
            // An author's own entry is the change itself: what it wrote before must lie below.
            let itself = change.signed.writer == sibling.signed.writer && change.signed.serial == sibling.signed.serial;
            known.is_some_and(|serial| *serial >= sibling.signed.serial) && !itself
        };
        let mut siblings = self.desired.siblings(&change.signed.key);
        if siblings.all(seen) { Ok(()) } else { Err(Refusal::Stale) }
    }

    fn writable(&self) -> Result<(), Refusal> {
        if let Some(why) = &self.read_only {
            return Err(Refusal::ReadOnly(why.clone()));
        }
        if !self.admitted() {
            return Err(Refusal::NotJoined("no member of it has answered".into()));
        }
        Ok(())
    }
}
