//! Users of this cluster and of another one, who do what the command line does: look, prepare,
//! sign, submit.

use std::collections::BTreeMap;

use shoal_protocol::model::spec::{Kind, Sequence, Stateful};
use shoal_protocol::model::{
    Artifact, Chain, Change, ChangeBody, Digest, Key, KeyPair, Namespaces, Resources, Role, Spec,
    SpecForm, Value, WorkloadName,
};
use shoal_protocol::node::{Command, Draft, Refusal, Reply};
use shoal_protocol::trust::{self, Genesis};
use shoal_testnet::sim::TestCluster;

use super::state::Answer;
use super::step::{Request, Workload};

/// Attempts while others keep changing the workload; the command line makes as many.
const TRIES: usize = 5;
/// Memory of a replica, and memory that no device has. Bytes.
const MEMORY: (u64, u64) = (32 << 20, 1 << 32);
const VERSION: &str = "VERSION";

/// A user with an operator's key.
pub struct User {
    keys: KeyPair,
    /// The cluster that the user is an operator of.
    genesis: Genesis,
    chain: Chain,
}

/// The result of a request.
pub struct Response {
    pub answer: Answer,
    /// The value that was written or would have been, if it got that far.
    pub workload: Option<Option<Workload>>,
    /// The workload's uid, if the write was accepted.
    pub uid: Option<Digest>,
}

impl Response {
    fn no(answer: Answer, workload: Option<Option<Workload>>) -> Response {
        Response { answer, workload, uid: None }
    }
}

impl User {
    /// An operator of the cluster.
    pub fn operator(cluster: &TestCluster, secret: u8) -> User {
        let keys = KeyPair::from_seed(&[secret; 32]);
        let chain = cluster.make_publisher(keys.public());
        User { keys, genesis: *cluster.genesis(), chain }
    }

    /// An operator of another cluster.
    pub fn stranger(secret: u8) -> User {
        let (keys, root) = (KeyPair::from_seed(&[secret; 32]), KeyPair::from_seed(&[!secret; 32]));
        let genesis = Genesis { root: root.public() };
        let terms = trust::Terms {
            name: "stranger".into(),
            role: Role::Publisher,
            namespaces: Namespaces::All,
            serial: 1,
            expires: None,
        };
        let chain = trust::grant(&genesis, &root, &Chain::default(), keys.public(), terms)
            .expect("good terms");
        User { keys, genesis, chain }
    }

    /// Makes a request, and repeats it while the answer is stale.
    pub fn ask(
        &self,
        cluster: &mut TestCluster,
        via: usize,
        name: &str,
        request: Request,
    ) -> Result<Response, String> {
        if let Request::Publish { workload, .. } = request {
            for artifact in spec(name, workload).program.artifacts() {
                cluster.upload(via, artifact);
            }
        }
        let mut response = Response::no(Answer::Stale, None);
        for _ in 0..TRIES {
            response = self.attempt(cluster, via, name, request)?;
            if response.answer != Answer::Stale {
                break;
            }
        }
        Ok(response)
    }

    fn attempt(
        &self,
        cluster: &mut TestCluster,
        via: usize,
        name: &str,
        request: Request,
    ) -> Result<Response, String> {
        let workload = match request {
            Request::Publish { workload, .. } => Some(workload),
            Request::Remove => None,
            Request::Scale { replicas } => match prepare(cluster, via, name, None, false)? {
                Ok((_, Some(current))) => Some(Workload { replicas, ..workload_of(&current) }),
                // The node knows of a removal that other nodes may not have.
                Ok((_, None)) => return Ok(Response::no(Answer::NoSuchWorkload, None)),
                Err(answer) => return Ok(Response::no(answer, None)),
            },
        };
        let force = matches!(request, Request::Publish { force: true, .. });
        let draft = match prepare(
            cluster,
            via,
            name,
            workload.map(|workload| spec(name, workload)),
            force,
        )? {
            // Repeating a removal writes nothing.
            Ok((_, None)) if workload.is_none() => {
                return Ok(Response::no(Answer::NoSuchWorkload, None));
            }
            Ok((draft, _)) => draft,
            Err(answer) => return Ok(Response::no(answer, Some(workload))),
        };
        self.submit(cluster, via, name, workload, draft)
    }

    /// Signs a draft and submits it.
    pub fn submit(
        &self,
        cluster: &mut TestCluster,
        via: usize,
        name: &str,
        workload: Option<Workload>,
        draft: Draft,
    ) -> Result<Response, String> {
        let mut installation = [0; 16];
        installation[..8].copy_from_slice(&(via as u64).to_be_bytes());
        let writer = trust::writer_id(&self.keys.public(), &installation);
        let Draft { mut clock, serial, uid } = draft;
        clock.insert(writer, serial);
        let value =
            workload.map_or(Value::Tombstone, |workload| Value::workload(&spec(name, workload)));
        let body =
            ChangeBody { key: Key::Workload(parsed(name)), writer, serial, clock, uid, value };
        let signed = trust::sign_change(&self.genesis, &self.keys, &self.chain, body);
        let change: Change = signed.map_err(|why| format!("a change cannot be signed: {why}"))?;
        match cluster.ask(via, Command::Submit { change: change.raw() })? {
            Some(Reply::Accepted { uid, .. }) => {
                Ok(Response { answer: Answer::Accepted, workload: Some(workload), uid: Some(uid) })
            }
            Some(Reply::Refused(refusal)) => Ok(Response::no(answer(&refusal), Some(workload))),
            Some(odd @ (Reply::Prepared { .. } | Reply::Drafted { .. } | Reply::Done)) => {
                Err(format!("an odd answer to a change: {odd:?}"))
            }
            None => Ok(Response::no(Answer::Nothing, Some(workload))),
        }
    }
}

/// Prepares a write: returns the draft and the present value.
pub fn prepare(
    cluster: &mut TestCluster,
    via: usize,
    name: &str,
    spec: Option<Spec>,
    force: bool,
) -> Result<Result<(Draft, Option<Spec>), Answer>, String> {
    match cluster.ask(via, Command::Prepare { name: parsed(name), spec, force })? {
        Some(Reply::Prepared { draft, current, .. }) => Ok(Ok((draft, current))),
        Some(Reply::Refused(refusal)) => Ok(Err(answer(&refusal))),
        Some(odd @ (Reply::Accepted { .. } | Reply::Drafted { .. } | Reply::Done)) => {
            Err(format!("an odd answer to a question: {odd:?}"))
        }
        None => Ok(Err(Answer::Nothing)),
    }
}

fn answer(refusal: &Refusal) -> Answer {
    match refusal {
        Refusal::NoSuchWorkload(_) | Refusal::MayBeElsewhere { .. } => Answer::NoSuchWorkload,
        Refusal::Unplaceable(_) => Answer::Unplaceable,
        Refusal::ReadOnly(_) => Answer::ReadOnly,
        Refusal::Invalid(_) => Answer::Invalid,
        Refusal::Stale => Answer::Stale,
        Refusal::Full(_) => Answer::Full,
        Refusal::Busy(_) => Answer::Busy,
        Refusal::NotJoined(_) | Refusal::Expelled => Answer::NotJoined,
    }
}

pub fn parsed(name: &str) -> WorkloadName {
    name.parse().expect("a test's own name")
}

/// The spec of a workload.
pub fn spec(name: &str, workload: Workload) -> Spec {
    let mut form = SpecForm::wasm_service(
        parsed(name),
        Artifact {
            digest: Digest::of(format!("{name} {}", workload.version).as_bytes()),
            size: 60_000,
        },
        workload.replicas,
        Resources { memory: if workload.is_huge { MEMORY.1 } else { MEMORY.0 }, cpu: 100 },
    )
    .with_env(BTreeMap::from([(VERSION.into(), workload.version.to_string())]));
    if workload.is_stateful {
        let order = Sequence::Ordered;
        form.kind = Kind::Stateful(Stateful { replicas: workload.replicas, order });
    }
    form.try_into().expect("a test's own spec")
}

/// The workload of a spec.
pub fn workload_of(spec: &Spec) -> Workload {
    let version =
        spec.env().get(VERSION).and_then(|version| version.parse().ok()).unwrap_or_default();
    Workload {
        version,
        replicas: spec.replicas(),
        is_huge: spec.reservation().memory > MEMORY.0,
        is_stateful: spec.kind.is_stateful(),
    }
}
