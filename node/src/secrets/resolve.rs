//! The plain values that a replica gets, and the keys of secrets that nodes pass on.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::to_bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::Method;
use serde::{Deserialize, Serialize};
use shoal_protocol::model::change::Secret;
use shoal_protocol::model::spec::{Target, ValueKind, ValueUse};
use shoal_protocol::model::{ClusterId, Digest, NodeId, Spec, Value, WorkloadName};
use shoal_protocol::node::NotForIt;
use shoal_runtimes::given::{Given, GivenFile, Hidden};
use tokio::time::timeout;

use super::seal::{DataKey, Of, Opener};
use crate::api::Core;
use crate::api::form::ErrorBody;
use crate::driver::Stopped;
use crate::hex::{from_hex, to_hex};
use crate::ingress::host::node_request;
use crate::ingress::peers::{Peers, SendError};

/// Time for a node to answer with a key. Others are asked then.
const ASK_WITHIN: Duration = Duration::from_secs(3);
/// Nodes that are asked for one key, so that a start hears of a failure soon.
const ASKED: usize = 5;
/// Bytes of an answer with a key, or with a refusal.
const MAX_ANSWER: usize = 16 * 1024;
/// Keys that were passed on to this node, in memory alone: more than it can have replicas that use
/// one. The first goes when there are more, and is asked for again.
const KEPT: usize = 1024;

/// Why a replica does not get its values yet, for people.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoValues(pub String);

/// Gives replicas their secrets and configs.
pub trait Values: Send + Sync + 'static {
    /// The plain values that a spec uses, as they are now.
    fn resolve<'a>(&'a self, spec: &'a Spec) -> BoxFuture<'a, Result<Given, NoValues>>;
}

/// The version of a secret whose key a node asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct KeyQuery {
    pub name: WorkloadName,
    pub version: Digest,
}

/// The answer of `GET /v1/secret-key/{namespace}/{name}/{version}` of a peer.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyBody {
    /// The secret's key, sealed to the node that asked, in hexadecimal digits.
    pub key: String,
}

/// Opens what was sealed to this node.
#[derive(Clone)]
pub struct Resolver(Arc<Parts>);

struct Parts {
    opener: Opener,
    cluster: ClusterId,
    me: NodeId,
    core: Arc<dyn Core>,
    peers: Peers,
    /// Keys that others passed on.
    kept: Mutex<BTreeMap<(WorkloadName, Digest), DataKey>>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    /// A resolver of this node.
    pub fn new(
        opener: Opener,
        cluster: ClusterId,
        me: NodeId,
        core: Arc<dyn Core>,
        peers: Peers,
    ) -> Resolver {
        let kept = Mutex::default();
        Resolver(Arc::new(Parts { opener, cluster, me, core, peers, kept }))
    }

    /// The key of a secret, sealed to the node that asks for it.
    ///
    /// # Errors
    /// The node is not entitled, or this one cannot read the secret itself.
    pub(crate) async fn pass_on(
        &self,
        query: &KeyQuery,
        to: NodeId,
    ) -> Result<Result<KeyBody, String>, Stopped> {
        let KeyQuery { name, version } = query;
        let allowed: Result<_, NotForIt> = self.0.core.may_read(name.clone(), *version, to).await?;
        let sealing = match allowed {
            Ok(sealing) => sealing,
            Err(why) => return Ok(Err(why.to_string())),
        };
        let key = ValueKind::Secret.key(name.clone());
        let Some((known, Value::Secret(secret))) = self.0.core.value(key).await? else {
            return Ok(Err(NotForIt::Unknown.to_string()));
        };
        if known != *version {
            return Ok(Err(NotForIt::Unknown.to_string()));
        }
        let of = Of { cluster: &self.0.cluster, name };
        let sealed = self.own_key(name, version, &secret).and_then(|key| key.seal(of, &sealing));
        Ok(match sealed {
            Some(sealed) => Ok(KeyBody { key: to_hex(&sealed) }),
            None => Err("this node cannot read it itself".into()),
        })
    }

    /// The key of a secret, if it was sealed to this node or was passed on to it.
    fn own_key(&self, name: &WorkloadName, version: &Digest, secret: &Secret) -> Option<DataKey> {
        let of = Of { cluster: &self.0.cluster, name };
        let sealed = secret.keys.get(&self.0.me);
        let own = sealed.and_then(|sealed| self.0.opener.open(of, &sealed.0).ok());
        own.or_else(|| self.kept().get(&(name.clone(), *version)).cloned())
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeMap<(WorkloadName, Digest), DataKey>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn given(&self, spec: &Spec, uses: &[ValueUse]) -> Result<Given, NoValues> {
        let mut given = Given::default();
        for of in uses {
            let name = of.of(&spec.name.namespace);
            let bytes = self.value(&name, of.kind).await?;
            put(&mut given, of, &name, bytes)?;
        }
        Ok(given)
    }

    async fn value(&self, name: &WorkloadName, kind: ValueKind) -> Result<Vec<u8>, NoValues> {
        let stopped = |stopped: Stopped| NoValues(stopped.to_string());
        let word = kind.word();
        match self.0.core.value(kind.key(name.clone())).await.map_err(stopped)? {
            Some((_, Value::Config(bytes))) => Ok(bytes.0),
            Some((version, Value::Secret(secret))) => self.open(name, &version, &secret).await,
            _ => Err(NoValues(format!("{word} {name} does not exist: `shoal {word} set {name}`"))),
        }
    }

    async fn open(
        &self,
        name: &WorkloadName,
        version: &Digest,
        secret: &Secret,
    ) -> Result<Vec<u8>, NoValues> {
        let of = Of { cluster: &self.0.cluster, name };
        let opened = |key: &DataKey| key.decrypt(of, &secret.sealed.0).ok();
        if let Some(value) = self.own_key(name, version, secret).as_ref().and_then(opened) {
            return Ok(value);
        }
        let again = format!("`shoal secret set {name}` seals it anew");
        if secret.holders_only {
            return Err(NoValues(format!(
                "this node cannot read secret {name}: it was sealed to the holders of that moment \
                 only; {again}"
            )));
        }
        let cannot = |why: &str| {
            NoValues(format!(
                "this node cannot read secret {name} yet: it was not sealed to it, and {why}; \
                 {again}"
            ))
        };
        let sources = self.0.core.key_sources(name.clone()).await;
        let sources = sources.map_err(|stopped| NoValues(stopped.to_string()))?;
        let mut last = String::from("no node that can read it is up");
        for source in sources.into_iter().take(ASKED) {
            match self.ask(source, name, version).await {
                Ok(key) => {
                    // Otherwise the node that was asked made it up.
                    let Some(value) = opened(&key) else {
                        last = format!("node {} gave a wrong key", source.short());
                        continue;
                    };
                    let mut kept = self.kept();
                    if kept.len() >= KEPT {
                        kept.pop_first();
                    }
                    kept.insert((name.clone(), *version), key);
                    return Ok(value);
                }
                Err(why) => last = format!("node {} says: {why}", source.short()),
            }
        }
        Err(cannot(&last))
    }

    /// Asks a node for the key of a secret.
    async fn ask(
        &self,
        node: NodeId,
        name: &WorkloadName,
        version: &Digest,
    ) -> Result<DataKey, String> {
        let path = format!("/v1/secret-key/{}/{}/{version}", name.namespace, name.name);
        let request = node_request(Method::GET, &path)
            .body(shoal_runtimes::body(""))
            .map_err(|error| error.to_string())?;
        let asked = timeout(ASK_WITHIN, self.0.peers.send(node, request)).await;
        let answer = asked.map_err(|_| "no answer".to_owned())?.map_err(|error| match error {
            SendError::NotSent { .. } => "it cannot be reached".to_owned(),
            SendError::Sent { .. } | SendError::Client { .. } => "no answer".to_owned(),
        })?;
        let is_good = answer.status().is_success();
        let body = axum::body::Body::new(answer.into_body());
        let bytes = timeout(ASK_WITHIN, to_bytes(body, MAX_ANSWER)).await;
        let bytes = bytes.map_err(|_| "no answer")?.map_err(|error| error.to_string())?;
        if !is_good {
            let told = serde_json::from_slice::<ErrorBody>(&bytes);
            return Err(told.map_or_else(|_| "it refuses".into(), |told| told.error.message));
        }
        let body: KeyBody = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        let sealed = from_hex(&body.key).ok_or("its answer makes no sense")?;
        let of = Of { cluster: &self.0.cluster, name };
        self.0.opener.open(of, &sealed).map_err(|error| error.to_string())
    }
}

impl Values for Resolver {
    fn resolve<'a>(&'a self, spec: &'a Spec) -> BoxFuture<'a, Result<Given, NoValues>> {
        async move {
            let mut given = self.given(spec, &spec.later.values).await?;
            for container in spec.program.containers() {
                let uses = &container.member.values;
                if !uses.is_empty() {
                    let own = self.given(spec, uses).await?;
                    given.others.insert(container.name.clone(), own);
                }
            }
            Ok(given)
        }
        .boxed()
    }
}

fn put(
    given: &mut Given,
    of: &ValueUse,
    name: &WorkloadName,
    bytes: Vec<u8>,
) -> Result<(), NoValues> {
    match &of.to {
        Target::Env(variable) => {
            let is_text = std::str::from_utf8(&bytes).is_ok_and(|text| !text.contains('\0'));
            if !is_text {
                let word = of.kind.word();
                return Err(NoValues(format!(
                    "{word} {name} is no text, and cannot be the variable {variable}: mount it as \
                     a file, or set it to text"
                )));
            }
            given.env.insert(variable.clone(), Hidden::new(bytes));
        }
        Target::File { path, mode, uid, gid } => given.files.push(GivenFile {
            path: path.clone(),
            mode: *mode,
            uid: *uid,
            gid: *gid,
            bytes: Hidden::new(bytes),
        }),
    }
    Ok(())
}
