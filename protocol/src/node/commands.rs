//! The commands of users.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired;
use crate::model::spec::MAX_KINDS;
use crate::model::{Change, Facts, Key, Spec, Time, WallClock, WorkloadName};
use crate::trust::{self, Rejection};

use super::Node;
use super::asking::Unchanged;
use super::contract::{Action, Command, Refusal, Reply, RequestId};
use super::saving::Then;

impl Node {
    pub(super) fn on_command(&mut self, now: Time, request: RequestId, command: Command) {
        if key_of(&command).is_some_and(|key| self.saving.is_staged(&key.hash())) {
            return self.defer_command(request, command);
        }
        let outcome = match command {
            Command::Prepare { name, spec, force } => {
                match self.prepare(now, request, name, spec, force) {
                    Ok(Some(reply)) => Ok(reply),
                    Ok(None) => return, // the other members are asked first
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
            Command::Draft { key } => self.check_writable().and_then(|()| self.draft(now, &key)),
            Command::Uploaded { artifact, kind } => self.uploaded(now, artifact, kind),
        };
        let reply = outcome.unwrap_or_else(Reply::Refused);
        self.outbox.push(Action::Reply { request, reply });
    }

    /// The answer; `None` if the other members have to be asked first whether they hold a later
    /// version.
    fn prepare(
        &mut self,
        now: Time,
        request: RequestId,
        name: WorkloadName,
        spec: Option<Spec>,
        force: bool,
    ) -> Result<Option<Reply>, Refusal> {
        self.check_writable()?;
        if let Some(spec) = spec.as_ref().filter(|spec| spec.fixed_replicas() != Some(0) && !force)
        {
            if let Some(over) = self.desired.would_exceed(spec) {
                return Err(Refusal::Invalid(over.to_string()));
            }
            self.check_placeable(spec)?;
        }
        // The user is about to wait for holders, even if nothing is to be written, and the gossip
        // of some holders may have been lost.
        for artifact in spec.iter().flat_map(|spec| spec.program.artifacts()) {
            self.track_replication(now, artifact.digest);
        }
        let current = self.desired.workload(&name);
        let is_back = current.is_some_and(|it| it.written != it.generation);
        if let (Some(spec), Some(current)) = (&spec, current.filter(|_| is_back))
            && spec.revision_with(current.versions) == current.written
        {
            return Err(Refusal::Invalid(
                "this version was rolled back, because its update failed, and is not tried again; \
                    nothing was changed"
                    .into(),
            ));
        }
        let is_unchanged = current.map(|workload| workload.spec.without_previous())
            == spec.as_ref().map(Spec::without_previous);
        if is_unchanged {
            self.ask_members(now, Unchanged { request, name, spec, force });
            return Ok(None);
        }
        let warnings = spec.as_ref().map(|spec| self.warnings_about(spec)).unwrap_or_default();
        self.draft_reply(now, &name, Vec::new(), warnings).map(Some)
    }

    /// Refuses a spec that fits no member that is up; the refusal counts the members that each
    /// requirement excludes.
    fn check_placeable(&self, spec: &Spec) -> Result<(), Refusal> {
        let mut why: BTreeMap<String, usize> = BTreeMap::new();
        // What runs already is replaced where it runs, also where nothing new is placed.
        let is_new = self.desired.workload(&spec.name).is_none();
        for node in self.membership.up() {
            let Some(record) = self.membership.record(&node) else { continue };
            let taken = if is_new { self.desired.takes(&node, spec) } else { Ok(()) };
            match taken.and_then(|()| record.facts.fits(spec)) {
                Ok(()) => return Ok(()),
                Err(unfit) => *why.entry(unfit.to_string()).or_default() += 1,
            }
        }
        let count = |(why, nodes): (String, usize)| {
            format!("{why}: {nodes} {} left out", if nodes == 1 { "node" } else { "nodes" })
        };
        let unknown = self.unknown_names(spec);
        Err(Refusal::Unplaceable(why.into_iter().map(count).chain(unknown).collect()))
    }

    /// Warnings about a spec before it is published.
    pub(super) fn warnings_about(&self, spec: &Spec) -> Vec<String> {
        self.unknown_names(spec).into_iter().chain(self.unfilled(spec)).collect()
    }

    /// Warnings about rules of a spec that are about labels and facts which no node has, and about
    /// workloads that are not there.
    fn unknown_names(&self, spec: &Spec) -> Vec<String> {
        let records = self.membership.up().filter_map(|node| self.membership.record(&node));
        let facts: Vec<&Facts> = records.map(|record| &record.facts).collect();
        let mut unknown = spec.unknown_names(facts.iter().copied());
        let offered: BTreeSet<&str> = facts
            .iter()
            .flat_map(|facts| facts.offers.devices().map(|(name, _)| name))
            .take(MAX_KINDS)
            .collect();
        for (name, _) in spec.later.uses.devices().filter(|(name, _)| !offered.contains(name)) {
            let known: Vec<&str> = offered.iter().copied().collect();
            unknown.push(match known.is_empty() {
                true => format!("no node offers `{name}`, nor any other resource"),
                false => format!("no node offers `{name}`; offered: {}", known.join(", ")),
            });
        }
        for relation in &spec.placement.affinity {
            let other = &relation.workload;
            if *other != spec.name && self.desired.workload(other).is_none() {
                unknown.push(format!("there is no workload `{other}` to be near to or apart from"));
            }
        }
        unknown
    }

    fn submit(&mut self, now: Time, request: RequestId, change: Change) -> Result<(), Refusal> {
        self.check_writable()?;
        self.check_not_stale(&change)?;
        // A bad spec from a peer is kept unread; a user gets the reason.
        change.signed.value.check().map_err(|why| Refusal::Invalid(format!("spec: {why}")))?;
        if let Some(why) = self.desired.barred(&change) {
            return Err(Refusal::Invalid(why.to_string()));
        }
        let wall = self.wall(now);
        self.check_not_ended(&change, wall)?;
        self.desired
            .plausible(&change.signed, wall)
            .map_err(|implausible| Refusal::Invalid(implausible.to_string()))?;
        self.stage(now, change, Then::Answer(request))
    }

    /// Refuses a change whose author has no rights any more, whatever moment it names: it may date
    /// changes back. Changes from peers are not judged so, because acceptance must not depend on
    /// local time.
    fn check_not_ended(&self, change: &Change, wall: WallClock) -> Result<(), Refusal> {
        if matches!(change.signed.key, Key::Member(_)) {
            return Ok(());
        }
        let by = change.signed.by();
        if let Some(key) = self.desired.ended(&change.chain, &by) {
            return Err(Refusal::Invalid(format!("key {} was revoked", key.short())));
        }
        let right = trust::authority(&self.identity.genesis, &change.chain, by, None);
        let expires = right.ok().and_then(|right| right.expires);
        match expires.filter(|at| desired::is_set(wall) && *at < wall) {
            Some(at) => {
                let why = format!("the author's rights ended at {at}, and it is {wall} here");
                Err(Refusal::Invalid(why))
            }
            None => Ok(()),
        }
    }

    /// Refuses a change whose author has not seen all changes that it would supersede.
    fn check_not_stale(&self, change: &Change) -> Result<(), Refusal> {
        let seen = |sibling: &Change| {
            let known = change.signed.clock.get(&sibling.signed.writer);
            // An author's own entry names the change itself, so its earlier write must have a lower
            // serial.
            let itself = change.signed.writer == sibling.signed.writer
                && change.signed.serial == sibling.signed.serial;
            known.is_some_and(|serial| *serial >= sibling.signed.serial) && !itself
        };
        let mut siblings = self.desired.siblings(&change.signed.key);
        if siblings.all(seen) { Ok(()) } else { Err(Refusal::Stale) }
    }

    fn check_writable(&self) -> Result<(), Refusal> {
        if let Some(why) = &self.saving.read_only {
            return Err(Refusal::ReadOnly(why.clone()));
        }
        if self.is_expelled() {
            return Err(Refusal::Expelled);
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
        Command::Draft { key } => Some(key.clone()),
        Command::Uploaded { .. } => None,
    }
}
