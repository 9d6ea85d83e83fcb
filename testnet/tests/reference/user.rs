//! Users, of this cluster and of another one, who do what the command line does: look, prepare,
//! sign, submit.

use std::collections::BTreeMap;

use shoal_protocol::model::{
    Artifact, Certificate, Change, ChangeBody, Digest, Key, KeyPair, Resources, RuntimeKind, Spec,
    SpecForm, Unverified, Value, WorkloadName,
};
use shoal_protocol::node::{Command, Draft, Refusal, Reply};
use shoal_protocol::trust::{self, Genesis};
use shoal_testnet::sim::Stage;

use super::state::Said;
use super::step::{Request, Wish};

/// Tries while others keep changing the same workload, as the command line has them.
const TRIES: usize = 5;
/// What a replica takes, and what no device has. Bytes.
const MEMORY: (u64, u64) = (32 << 20, 1 << 32);
const VERSION: &str = "VERSION";

/// Somebody with an operator's key.
pub struct User {
    keys: KeyPair,
    /// Of the cluster that the user is an operator of.
    genesis: Genesis,
    certificate: Unverified<Certificate>,
}

/// What became of a request.
pub struct Told {
    pub said: Said,
    /// What was written or would have been, once that was known.
    pub wish: Option<Option<Wish>>,
    /// What it was about, if it was taken.
    pub uid: Option<Digest>,
}

impl Told {
    fn no(said: Said, wish: Option<Option<Wish>>) -> Told {
        Told { said, wish, uid: None }
    }
}

impl User {
    /// One whom the cluster's root has made an operator.
    pub fn operator(stage: &Stage, secret: u8) -> User {
        let keys = KeyPair::from_seed(&[secret; 32]);
        let certificate = stage.certify(keys.public());
        User { keys, genesis: *stage.genesis(), certificate }
    }

    /// One of another cluster.
    pub fn stranger(secret: u8) -> User {
        let (keys, root) = (KeyPair::from_seed(&[secret; 32]), KeyPair::from_seed(&[!secret; 32]));
        let genesis = Genesis { root: root.public(), join: root.public() };
        let certificate =
            trust::certify(&genesis, &root, keys.public(), "stranger").expect("a good name");
        User { keys, genesis, certificate }
    }

    /// Asks for something until told.
    pub fn ask(
        &self,
        stage: &mut Stage,
        via: usize,
        name: &str,
        request: Request,
    ) -> Result<Told, String> {
        if let Request::Publish { wish, .. } = request {
            stage.upload(via, spec(name, wish).artifact);
        }
        let mut told = Told::no(Said::Stale, None);
        for _ in 0..TRIES {
            told = self.attempt(stage, via, name, request)?;
            if told.said != Said::Stale {
                break;
            }
        }
        Ok(told)
    }

    fn attempt(
        &self,
        stage: &mut Stage,
        via: usize,
        name: &str,
        request: Request,
    ) -> Result<Told, String> {
        let wish = match request {
            Request::Publish { wish, .. } => Some(wish),
            Request::Remove => None,
            Request::Scale { replicas } => match prepare(stage, via, name, None, false)? {
                Ok((_, Some(current))) => Some(Wish { replicas, ..wish_of(&current) }),
                // Its removal is known, and others may not have heard of it.
                Ok((_, None)) => return Ok(Told::no(Said::NoSuchWorkload, None)),
                Err(said) => return Ok(Told::no(said, None)),
            },
        };
        let force = matches!(request, Request::Publish { force: true, .. });
        let draft = match prepare(stage, via, name, wish.map(|wish| spec(name, wish)), force)? {
            // To repeat a removal is no new wish.
            Ok((_, None)) if wish.is_none() => return Ok(Told::no(Said::NoSuchWorkload, None)),
            Ok((draft, _)) => draft,
            Err(said) => return Ok(Told::no(said, Some(wish))),
        };
        self.submit(stage, via, name, wish, draft)
    }

    /// Signs a draft and submits it.
    pub fn submit(
        &self,
        stage: &mut Stage,
        via: usize,
        name: &str,
        wish: Option<Wish>,
        draft: Draft,
    ) -> Result<Told, String> {
        let mut installation = [0; 16];
        installation[..8].copy_from_slice(&(via as u64).to_be_bytes());
        let writer = trust::writer_id(&self.keys.public(), &installation);
        let Draft { mut clock, serial, uid } = draft;
        clock.insert(writer, serial);
        let value = wish.map_or(Value::Tombstone, |wish| Value::workload(&spec(name, wish)));
        let body =
            ChangeBody { key: Key::Workload(parsed(name)), writer, serial, clock, uid, value };
        let signed = trust::sign_change(&self.genesis, &self.keys, Some(&self.certificate), body);
        let change: Change = signed.map_err(|why| format!("a change cannot be signed: {why}"))?;
        match stage.ask(via, Command::Submit { change: change.raw() })? {
            Some(Reply::Accepted { uid, .. }) => {
                Ok(Told { said: Said::Accepted, wish: Some(wish), uid: Some(uid) })
            }
            Some(Reply::Refused(refusal)) => Ok(Told::no(said(&refusal), Some(wish))),
            Some(odd @ (Reply::Prepared { .. } | Reply::Done)) => {
                Err(format!("an odd answer to a change: {odd:?}"))
            }
            None => Ok(Told::no(Said::Nothing, Some(wish))),
        }
    }
}

/// Asks what to sign, and what is there.
pub fn prepare(
    stage: &mut Stage,
    via: usize,
    name: &str,
    spec: Option<Spec>,
    force: bool,
) -> Result<Result<(Draft, Option<Spec>), Said>, String> {
    match stage.ask(via, Command::Prepare { name: parsed(name), spec, force })? {
        Some(Reply::Prepared { draft, current, .. }) => Ok(Ok((draft, current))),
        Some(Reply::Refused(refusal)) => Ok(Err(said(&refusal))),
        Some(odd @ (Reply::Accepted { .. } | Reply::Done)) => {
            Err(format!("an odd answer to a question: {odd:?}"))
        }
        None => Ok(Err(Said::Nothing)),
    }
}

fn said(refusal: &Refusal) -> Said {
    match refusal {
        Refusal::NoSuchWorkload(_) | Refusal::MayBeElsewhere { .. } => Said::NoSuchWorkload,
        Refusal::Unplaceable(_) => Said::Unplaceable,
        Refusal::ReadOnly(_) => Said::ReadOnly,
        Refusal::Invalid(_) => Said::Invalid,
        Refusal::Stale => Said::Stale,
        Refusal::Full(_) => Said::Full,
        Refusal::Busy(_) => Said::Busy,
        Refusal::NotJoined(_) => Said::NotJoined,
    }
}

/// A name as nodes have it.
pub fn parsed(name: &str) -> WorkloadName {
    name.parse().expect("a test's own name")
}

/// A wish as nodes have it.
pub fn spec(name: &str, wish: Wish) -> Spec {
    SpecForm {
        name: parsed(name),
        runtime: RuntimeKind::Wasm,
        artifact: Artifact {
            digest: Digest::of(format!("{name} {}", wish.version).as_bytes()),
            size: 60_000,
        },
        replicas: wish.replicas,
        resources: Resources { memory: if wish.is_huge { MEMORY.1 } else { MEMORY.0 }, cpu: 100 },
        env: BTreeMap::from([(VERSION.into(), wish.version.to_string())]),
        require: BTreeMap::new(),
    }
    .try_into()
    .expect("a test's own spec")
}

/// What a node has, as a wish.
pub fn wish_of(spec: &Spec) -> Wish {
    let version =
        spec.env.get(VERSION).and_then(|version| version.parse().ok()).unwrap_or_default();
    Wish { version, replicas: spec.replicas, is_huge: spec.resources.memory > MEMORY.0 }
}
