//! A user with an operator's key, who can talk to any device.

use std::time::Duration;

use shoal_protocol::model::change::Revoked;
use shoal_protocol::model::spec::{
    Container, Cron, Image, Job, Kind, Missed, OnFailure, Overlap, PlatformImage, Rollout,
    Sequence, Stateful,
};
use shoal_protocol::model::{
    Artifact, Chain, Change, ChangeBody, Digest, Key, KeyPair, NodeId, Resources, Spec, SpecForm,
    Value, WorkloadName,
};
use shoal_protocol::node::{Command, Draft, Refusal, Reply};
use shoal_protocol::trust;

use super::action::KindWord;
use super::world::{World, derived, facts};

pub struct Operator {
    keys: KeyPair,
    chain: Chain,
    /// The key and chain with which it revokes.
    admin: (KeyPair, Chain),
}

/// The result of a write.
#[derive(Debug, PartialEq)]
pub enum Outcome {
    /// On disk at the node that was asked.
    Accepted,
    /// The node says that every node has it already; nothing was written.
    Unchanged,
    /// The node refused it, for this reason.
    Refused(String),
    /// No answer: the write may have been taken or not.
    Unknown,
}

impl Operator {
    /// The operator of this seed, made a publisher by the world's root key.
    pub fn new(world: &World, seed: u64) -> Self {
        let keys = KeyPair::from_seed(&derived(seed, "operator", 0));
        let chain = world.make_publisher(keys.public());
        let admin = KeyPair::from_seed(&derived(seed, "admin", 0));
        let admin = (admin.clone(), world.make_admin(admin.public()));
        Operator { keys, chain, admin }
    }

    /// Revokes a node through `device`: what it signed up to the serial `last` stays. Returns
    /// whether that was accepted.
    pub fn revoke(
        &self,
        world: &mut World,
        device: usize,
        node: NodeId,
        last: u64,
    ) -> Result<bool, String> {
        let value =
            Value::Revoked(Revoked { last, withdraw: false, why: "it lies".into(), stays: None });
        self.rule(world, device, Key::Revocation(node.into()), value)
    }

    /// Writes what only an administrator may, through `device`. Returns whether that was accepted.
    pub fn rule(
        &self,
        world: &mut World,
        device: usize,
        key: Key,
        value: Value,
    ) -> Result<bool, String> {
        let draft = match self.ask(world, device, Command::Draft { key: key.clone() })? {
            Some(Reply::Drafted { draft, .. }) => draft,
            _ => return Ok(false),
        };
        let change = sign(world, &self.admin, device, key, value, draft);
        let reply = self.ask(world, device, Command::Submit { change: change.raw() })?;
        Ok(matches!(reply, Some(Reply::Accepted { .. })))
    }

    /// Publishes a workload through `device`. Returns the result, and the change if one was signed.
    pub fn publish(
        &self,
        world: &mut World,
        device: usize,
        spec: &Spec,
    ) -> Result<(Outcome, Option<Change>), String> {
        world.devices[device].artifacts.extend(spec.program.artifacts().map(|it| it.digest));
        for artifact in spec.program.artifacts() {
            let kind = spec.program.kind();
            world.command(device, Command::Uploaded { artifact, kind });
        }
        self.write(world, device, &spec.name, Some(spec))
    }

    /// Removes a workload through `device`.
    pub fn remove(
        &self,
        world: &mut World,
        device: usize,
        name: &WorkloadName,
    ) -> Result<(Outcome, Option<Change>), String> {
        self.write(world, device, name, None)
    }

    fn write(
        &self,
        world: &mut World,
        device: usize,
        name: &WorkloadName,
        spec: Option<&Spec>,
    ) -> Result<(Outcome, Option<Change>), String> {
        let prepare = Command::Prepare { name: name.clone(), spec: spec.cloned(), force: true };
        let (draft, current) = match self.ask(world, device, prepare)? {
            Some(Reply::Prepared { current: Some(current), unheard, .. })
                if Some(&current.without_previous()) == spec && unheard.is_empty() =>
            {
                return Ok((Outcome::Unchanged, None));
            }
            Some(Reply::Prepared { draft, current, is_good, .. }) => (draft, (current, is_good)),
            Some(Reply::Refused(Refusal::NoSuchWorkload(_))) if spec.is_none() => {
                return Ok((Outcome::Unchanged, None));
            }
            Some(Reply::Refused(refusal)) => {
                return Ok((Outcome::Refused(refusal.to_string()), None));
            }
            Some(other) => return Err(format!("an odd answer to prepare: {other:?}")),
            None => return Ok((Outcome::Unknown, None)),
        };
        let before = draft.clock.clone();
        let value = spec.map_or(Value::Tombstone, |spec| {
            Value::workload(&spec.replacing(current.0.as_ref(), current.1))
        });
        let change = self.sign(world, device, Key::Workload(name.clone()), value, draft);
        let outcome = match self.ask(world, device, Command::Submit { change: change.raw() })? {
            Some(Reply::Accepted { .. }) => Outcome::Accepted,
            Some(Reply::Refused(Refusal::Stale)) => {
                // Another write may have come between. If none did, the node refuses its own draft.
                let prepare =
                    Command::Prepare { name: name.clone(), spec: spec.cloned(), force: true };
                match self.ask(world, device, prepare)? {
                    Some(Reply::Prepared { draft, .. }) if draft.clock == before => {
                        return Err(format!(
                            "n{device} refuses what it drafted as stale\n{}",
                            world.report_on(device)
                        ));
                    }
                    _ => Outcome::Refused(Refusal::Stale.to_string()),
                }
            }
            Some(Reply::Refused(refusal)) => Outcome::Refused(refusal.to_string()),
            Some(other) => return Err(format!("an odd answer to submit: {other:?}")),
            None => Outcome::Unknown,
        };
        if let Outcome::Refused(_) = outcome {
            world.note_refused(device, &change);
        }
        Ok((outcome, Some(change)))
    }

    /// Writes a key and a value that only a newer program knows.
    #[cfg(test)]
    pub fn write_newer(
        &self,
        world: &mut World,
        device: usize,
        key: Key,
        value: Value,
    ) -> Result<Change, String> {
        let draft = Draft { clock: Default::default(), serial: 1, uid: None };
        let change = self.sign(world, device, key, value, draft);
        match self.ask(world, device, Command::Submit { change: change.raw() })? {
            Some(Reply::Accepted { .. }) => Ok(change),
            other => Err(format!("a change of a newer program was answered by {other:?}")),
        }
    }

    pub(super) fn sign(
        &self,
        world: &World,
        device: usize,
        key: Key,
        value: Value,
        draft: Draft,
    ) -> Change {
        sign(world, &(self.keys.clone(), self.chain.clone()), device, key, value, draft)
    }

    /// Sends a command and waits for the reply; none if the daemon is stopped, slow, or dies.
    pub(super) fn ask(
        &self,
        world: &mut World,
        device: usize,
        command: Command,
    ) -> Result<Option<Reply>, String> {
        if world.devices[device].inbox.busy_until > world.now + 1_000_000 {
            return Ok(None); // a stopped daemon takes no request
        }
        let Some(request) = world.command(device, command) else { return Ok(None) };
        let boot = world.devices[device].boot;
        for _ in 0..20_000 {
            if let Some(found) = world.answers.iter().position(|answer| answer.request == request) {
                return Ok(world.answers.remove(found).map(|answer| answer.reply));
            }
            if world.devices[device].node.is_none() || world.devices[device].boot != boot {
                return Ok(None);
            }
            world.run_for(Duration::from_millis(1))?;
        }
        let it = &world.devices[device];
        if it.disk.stalled_until + 20_000_000 > world.now || it.inbox.slowness > 0 {
            Ok(None)
        } else {
            Err(format!(
                "n{device} did not answer a command within 20 seconds\n{}",
                world.report_on(device)
            ))
        }
    }
}

/// A change, signed on the computer of this number.
fn sign(
    world: &World,
    (keys, chain): &(KeyPair, Chain),
    computer: usize,
    key: Key,
    value: Value,
    draft: Draft,
) -> Change {
    let mut installation = [0; 16];
    installation[..8].copy_from_slice(&(computer as u64).to_be_bytes());
    let writer = trust::writer_id(&keys.public(), &installation);
    let Draft { mut clock, serial, uid } = draft;
    clock.insert(writer, serial);
    let body = ChangeBody { key, writer, serial, clock, uid, value };
    trust::sign_change(&world.genesis, keys, chain, body).expect("a change that all accept")
}

/// A small workload of containers; `version` selects its image. The parts of every other image are
/// in the artifact store; the engine pulls the rest.
pub fn container_workload(name: &str, version: u32, replicas: u32) -> Spec {
    let mut image = Image::named(format!("example.org/{name}:{version}"));
    if version.is_multiple_of(2) {
        let part = |what: &str| Artifact {
            digest: Digest::of(format!("{name} {version} {what}").as_bytes()),
            size: 60_000,
        };
        let arch = facts().arch;
        image.platforms = vec![PlatformImage {
            arch,
            config: part("config"),
            layers: vec![part("layer")],
            pieces: None,
        }];
    }
    SpecForm::container_service(
        name.parse().expect("a test's own name"),
        Container::of("main", image),
        replicas,
        Resources { memory: 32 << 20, cpu: 100 },
    )
    .try_into()
    .expect("a test's own spec")
}

/// A small workload of components whose replicas are not counted, or end.
pub fn workload_of(name: &str, version: u32, kind: KindWord) -> Spec {
    let job = Job { completions: 3, parallel: 2, retries: 2, ..Job::default() };
    let kind = match kind {
        KindWord::Daemon => Kind::Daemon,
        KindWord::Rolling => Kind::Service { replicas: 4 },
        KindWord::Stateful => Kind::Stateful(Stateful { replicas: 3, order: Sequence::Ordered }),
        KindWord::Job => Kind::Job(job),
        KindWord::Cron => Kind::Cron(Cron {
            schedule: "* * * * *".into(),
            zone: "UTC".into(),
            missed: Missed::Once,
            overlap: Overlap::Allow,
            suspended: false,
            job: Job::default(),
        }),
    };
    let is_rolling = matches!(kind, Kind::Service { .. });
    let mut form = SpecForm { kind, ..workload(name, version, 0).into() };
    form.later.rollout = is_rolling.then(|| Rollout {
        deadline: Duration::from_secs(20),
        on_failure: OnFailure::RollBack,
        ..Rollout::default()
    });
    form.try_into().expect("a test's own spec")
}

/// A small workload; `version` selects its artifact.
pub fn workload(name: &str, version: u32, replicas: u32) -> Spec {
    SpecForm::wasm_service(
        name.parse().expect("a test's own name"),
        Artifact { digest: Digest::of(format!("{name} {version}").as_bytes()), size: 60_000 },
        replicas,
        Resources { memory: 32 << 20, cpu: 100 },
    )
    .try_into()
    .expect("a test's own spec")
}
