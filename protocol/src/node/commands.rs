//! What users ask for.

use std::collections::BTreeMap;

use crate::model::{Change, Key, Spec, Time, WorkloadName};
use crate::trust::{self, Rejection};

use super::Node;
use super::asking::Idle;
use super::contract::{Action, Command, Refusal, Reply, RequestId};
use super::saving::Then;

impl Node {
    pub(super) fn on_command(&mut self, now: Time, request: RequestId, command: Command) {
        if key_of(&command).is_some_and(|key| self.saving.is_staged(&key.hash())) {
            return self.defer(request, command);
        }
        let outcome = match command {
            Command::Prepare { name, spec, force } => {
                match self.prepare(now, request, name, spec, force) {
                    Ok(Some(reply)) => Ok(reply),
                    Ok(None) => return, // the others are asked first
                    Err(refusal) => Err(refusal),
                }
            }
            Command::Submit { change } => match trust::accept(&self.identity.genesis, change) {
                Ok(change) => match self.submit(now, request, change) {
                    Ok(()) => return, // answered when it is on disk
                    Err(refusal) => Err(refusal),
                },
                Err(Rejection::Never(why)) => Err(Refusal::Invalid(why.to_string())),
                Err(Rejection::NotYet(why)) => Err(Refusal::Invalid(why.to_string())),
            },
            Command::Uploaded { artifact } => self.uploaded(now, artifact),
        };
        let reply = outcome.unwrap_or_else(Reply::Refused);
        self.outbox.push(Action::Reply { request, reply });
    }

    /// The answer; none while others are asked whether they know better than this node what is
    /// there.
    fn prepare(
        &mut self,
        now: Time,
        request: RequestId,
        name: WorkloadName,
        spec: Option<Spec>,
        force: bool,
    ) -> Result<Option<Reply>, Refusal> {
        self.writable()?;
        if let Some(spec) = spec.as_ref().filter(|spec| spec.replicas() > 0 && !force) {
            self.placeable(spec)?;
        }
        // The user is about to wait for holders, also where nothing is to be written, and the words
        // of some may have been lost.
        for artifact in spec.iter().flat_map(|spec| spec.program.artifacts()) {
            self.follow_up(now, artifact.digest);
        }
        let is_idle = self.desired.workload(&name).map(|wish| &wish.spec) == spec.as_ref();
        if is_idle {
            self.ask_all(now, Idle { request, name, spec, force });
            return Ok(None);
        }
        self.prepared(now, &name, Vec::new()).map(Some)
    }

    /// Whether any member that is up could ever run this, and if none, which requirement left out
    /// how many.
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

    fn submit(&mut self, now: Time, request: RequestId, change: Change) -> Result<(), Refusal> {
        self.writable()?;
        self.is_next(&change)?;
        // From a peer such a spec is kept unread. A user is told what is wrong with it.
        change.signed.value.check().map_err(|why| Refusal::Invalid(format!("spec: {why}")))?;
        let wall = self.wall(now);
        self.desired
            .plausible(&change.signed, wall)
            .map_err(|implausible| Refusal::Invalid(implausible.to_string()))?;
        self.stage(now, change, Then::Answer(request))
    }

    /// An author who did not know what is here would overwrite it unseen.
    fn is_next(&self, change: &Change) -> Result<(), Refusal> {
        if let Key::Member(_) = change.signed.key {
            return Err(Refusal::Invalid("nodes are admitted by nodes, not by users".into()));
        }
        let seen = |sibling: &Change| {
            let known = change.signed.clock.get(&sibling.signed.writer);
            // An author's own entry is the change itself: what it wrote before must lie below.
            let itself = change.signed.writer == sibling.signed.writer
                && change.signed.serial == sibling.signed.serial;
            known.is_some_and(|serial| *serial >= sibling.signed.serial) && !itself
        };
        let mut siblings = self.desired.siblings(&change.signed.key);
        if siblings.all(seen) { Ok(()) } else { Err(Refusal::Stale) }
    }

    fn writable(&self) -> Result<(), Refusal> {
        if let Some(why) = &self.saving.read_only {
            return Err(Refusal::ReadOnly(why.clone()));
        }
        if !self.admitted() {
            return Err(Refusal::NotJoined("no member of it has answered".into()));
        }
        Ok(())
    }
}

/// The key of desired state that a command is about.
fn key_of(command: &Command) -> Option<Key> {
    match command {
        Command::Prepare { name, .. } => Some(Key::Workload(name.clone())),
        Command::Submit { change } => change.change.peek().ok().map(|body| body.key.clone()),
        Command::Uploaded { .. } => None,
    }
}
