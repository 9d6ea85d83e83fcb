//! The API without HTTP; a program that embeds a node calls it directly.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use shoal_protocol::model::codec::{self, Bytes};
use shoal_protocol::model::view::{
    ChangeView, NodeView, OperatorView, QuotaView, RevokedView, StatusView, WorkloadView,
};
use shoal_protocol::model::{
    Artifact, ClusterId, Digest, Key, NamedReplica, NodeId, ProgramKind, RawChange, ReplicaName,
    Spec, WorkloadName,
};
use shoal_protocol::node::{Command, Draft, Refusal, Reply};
use shoal_runtimes::artifacts::{self, ArtifactStore};
use tokio::io::AsyncRead;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::form::{
    DownBody, DraftBody, DraftedBody, MeetingBody, PublishedBody, SpecBody, VersionBody,
};
use super::seen::Seen;
use super::session::SESSIONS;
use super::{Accepted, ApiError, Core, Prepared, Proposal};
use crate::driver;
use crate::executor::Directory;
use crate::hex::from_hex;
use crate::history::History;
use crate::images::{self, Images};
use crate::ingress::peers::Peers;
use crate::nearest::nearest;
use crate::runtimes::RuntimeSet;
use crate::secrets::Resolver;
use crate::session;

/// The largest artifact that is inspected at upload, since that takes its size in memory. Errors in
/// a larger one are found when it is compiled, in a process of its own.
const INSPECTED: u64 = 64 << 20;
/// Time for an engine to list what runs.
const INSTANCES_WITHIN: Duration = Duration::from_secs(2);
/// The reason for a missing address when the network gives none.
const NO_ADDRESS: &str = "this node knows no address at which others could reach it";

/// Properties of a node that do not change while it runs.
#[derive(Clone)]
pub struct About {
    /// The node's id.
    pub node: NodeId,
    /// The node's state folder.
    pub state: PathBuf,
    /// The cluster's id.
    pub cluster: ClusterId,
    /// The cluster's root key.
    pub root: shoal_protocol::model::PublicKey,
    /// The mesh's listening address, `ip:port`.
    pub mesh: String,
    /// The HTTP port's listening address, `ip:port`.
    pub http: String,
    /// The addresses at which other nodes reach this one, `host:port`, the best first, or why they
    /// cannot. Called each time, because addresses change.
    pub addresses: Arc<dyn Fn() -> Result<Vec<String>, String> + Send + Sync>,
}

/// The API of one node.
#[derive(Clone)]
pub struct Service {
    pub(super) core: Arc<dyn Core>,
    pub(super) peers: Peers,
    pub(super) runtimes: RuntimeSet,
    pub(super) artifacts: ArtifactStore,
    pub(super) directory: Directory,
    pub(super) images: Images,
    pub(super) about: About,
    /// Opens secrets for peers that are entitled; none in a program without them.
    pub(super) secrets: Option<Resolver>,
    /// Cancelled when a user asks the node to stop.
    pub(super) down: CancellationToken,
    pub(super) host: session::Host,
    /// A permit for each session that passes through.
    pub(super) sessions: Arc<Semaphore>,
    /// The notes of who changed what, if they are kept.
    pub(super) history: Option<History>,
    /// Cancelled when the node stops: sessions end.
    pub(super) stop: CancellationToken,
}

/// `GET /v1/status`: the core's view, and facts that only the daemon has.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct StatusBody {
    /// The core's view, with the daemon's counters merged into its own.
    #[serde(flatten)]
    pub view: StatusView,
    /// The mesh's listening address.
    pub mesh: String,
    /// The HTTP port's listening address.
    pub http: String,
    /// The daemon's process id.
    pub pid: u32,
    /// The number of instances that run on this device, as their runtimes say; null when one of
    /// them does not answer.
    #[serde(default)]
    pub instances: Option<usize>,
}

impl Service {
    /// The API over these parts. `down` is cancelled when a user asks the node to stop.
    pub fn new(
        core: Arc<dyn Core>,
        peers: Peers,
        runtimes: RuntimeSet,
        artifacts: ArtifactStore,
        directory: Directory,
        about: About,
        down: CancellationToken,
    ) -> Self {
        let spool = about.state.join("artifacts").join(images::SPOOL);
        let host =
            session::Host::new(about.node, about.root, runtimes.clone(), spool, core.clone());
        // Replaced by those of a node that has an engine or remembers images.
        let images = Images::open(&about.state.join("artifacts"), None);
        Service {
            core,
            peers,
            runtimes,
            artifacts,
            directory,
            images,
            about,
            secrets: None,
            down,
            host,
            sessions: Arc::new(Semaphore::new(SESSIONS)),
            history: None,
            stop: CancellationToken::new(),
        }
    }

    /// With the history of changes.
    #[must_use]
    pub fn with_history(self, history: History) -> Self {
        Service { history: Some(history), ..self }
    }

    /// The changes that this node took, the oldest first.
    pub async fn history(&self) -> Vec<ChangeView> {
        match &self.history {
            Some(history) => history.all().await,
            None => Vec::new(),
        }
    }

    /// It passes keys of secrets on to nodes that are entitled to them.
    #[must_use]
    pub fn with_secrets(self, secrets: Resolver) -> Self {
        Service { secrets: Some(secrets), ..self }
    }

    /// Its sessions end when `stop` is cancelled.
    #[must_use]
    pub fn until(self, stop: CancellationToken) -> Self {
        Service { stop, ..self }
    }

    /// The node and the cluster in short.
    pub async fn status(&self) -> Result<StatusBody, ApiError> {
        let mut view = self.core.status().await?;
        view.counters.extend(self.core.counters());
        let About { mesh, http, .. } = self.about.clone();
        view.warnings.extend(missing_http(&http));
        // An engine that hangs must not hold the answer up.
        let instances = timeout(INSTANCES_WITHIN, self.runtimes.instances()).await;
        let has_answered = instances.is_ok();
        let instances = instances.ok().and_then(Result::ok).map(|all| all.len());
        let before = view.warnings.len();
        view.warnings.extend(self.runtimes.troubles());
        if !has_answered && view.warnings.len() == before {
            let why = format!("the container engine has not answered for {INSTANCES_WITHIN:?}");
            view.warnings.push(why);
        }
        Ok(StatusBody { view, mesh, http, pid: std::process::id(), instances })
    }

    /// All nodes.
    pub async fn nodes(&self) -> Result<Vec<NodeView>, ApiError> {
        Ok(self.core.nodes().await?)
    }

    /// All workloads.
    pub async fn workloads(&self) -> Result<Vec<WorkloadView>, ApiError> {
        Ok(self.core.workloads().await?)
    }

    /// The view of one workload; `no-such-workload` with the nearest name when there is none.
    pub async fn workload(&self, name: &WorkloadName) -> Result<WorkloadView, ApiError> {
        match self.core.workload(name.clone()).await? {
            Some(view) => Ok(view),
            None => Err(self.no_such_workload(name).await),
        }
    }

    /// The operators.
    pub async fn operators(&self) -> Result<Vec<OperatorView>, ApiError> {
        Ok(self.core.operators().await?)
    }

    /// The quotas.
    pub async fn quotas(&self) -> Result<Vec<QuotaView>, ApiError> {
        Ok(self.core.quotas().await?)
    }

    /// The revoked keys.
    pub async fn revoked(&self) -> Result<Vec<RevokedView>, ApiError> {
        Ok(self.core.revoked().await?)
    }

    /// Where and when an invite finds this node.
    pub fn meeting(&self) -> MeetingBody {
        let told = (self.about.addresses)();
        let told = told
            .and_then(|told| if told.is_empty() { Err(NO_ADDRESS.to_owned()) } else { Ok(told) });
        let trouble = told.as_ref().err().cloned();
        let mut addresses = told.unwrap_or_default();
        addresses.truncate(shoal_protocol::trust::MAX_ADDRESSES);
        let now = driver::wall().0;
        MeetingBody { cluster: self.about.cluster, addresses, trouble, now }
    }

    /// The parts that the author of the next change of a key must sign.
    pub async fn draft(&self, body: DraftBody) -> Result<DraftedBody, ApiError> {
        let bytes = from_hex(&body.key)
            .ok_or_else(|| ApiError::invalid("the key is not hexadecimal digits"))?;
        let key: (u16, Bytes) = codec::decode(&bytes)
            .map_err(|error| ApiError::invalid(format!("the key cannot be read: {error}")))?;
        let key = Key::of(key.0, key.1)
            .map_err(|error| ApiError::invalid(format!("the key cannot be read: {error}")))?;
        match self.core.command(Command::Draft { key }).await? {
            Reply::Drafted { draft, current } => {
                let Draft { clock, serial, uid } = draft;
                let clock = clock.iter().map(|(writer, it)| (writer.to_string(), *it)).collect();
                let uid = uid.map(|uid| uid.to_string());
                let (exists, cluster) = (current.is_some(), self.about.cluster);
                Ok(DraftedBody { clock, serial, uid, exists, cluster })
            }
            Reply::Refused(refusal) => Err(refusal.into()),
            Reply::Prepared { .. } | Reply::Accepted { .. } | Reply::Done => {
                Err(unexpected_reply())
            }
        }
    }

    /// Asks the node to stop. Returns at once; the state folder becomes free when the node has
    /// stopped.
    pub fn down(&self) -> DownBody {
        self.down.cancel();
        DownBody { stopping: true, state: self.about.state.clone() }
    }

    /// Returns once a user has asked the node to stop.
    pub async fn asked_to_stop(&self) {
        self.down.cancelled().await;
    }

    /// The size of an artifact, if this node has it.
    pub fn holds(&self, digest: &Digest) -> Option<u64> {
        self.artifacts.has(digest)
    }

    /// Stores the bytes of an artifact, verified and inspected: bytes that could never run are
    /// refused and not kept. When the core is too busy to take note of the artifact, the upload is
    /// refused but the bytes are kept, and can be published.
    pub async fn upload(
        &self,
        kind: ProgramKind,
        digest: Digest,
        bytes: impl AsyncRead + Unpin + Send,
    ) -> Result<(), ApiError> {
        // The upload may evict other artifacts: never pinned ones, nor one that was stored a moment
        // ago.
        self.artifacts.pin(self.core.pinned().await?);
        let (_, size) = self.artifacts.put_from(bytes, Some(digest)).await.map_err(of_store)?;
        if kind == ProgramKind::Wasm && size <= INSPECTED {
            let bytes = self.artifacts.read(&digest).await.map_err(of_store)?;
            if let Err(error) = shoal_runtimes::wasm::inspect(&bytes) {
                self.artifacts.remove(&digest).await.map_err(of_store)?;
                return Err(ApiError::invalid(format!("artifact {}: {error}", digest.short())));
            }
        }
        match self
            .core
            .command(Command::Uploaded { artifact: Artifact { digest, size }, kind })
            .await?
        {
            Reply::Refused(refusal) => Err(refusal.into()),
            Reply::Done
            | Reply::Prepared { .. }
            | Reply::Drafted { .. }
            | Reply::Accepted { .. } => Ok(()),
        }
    }

    /// Checks a change and returns what its author must sign.
    pub async fn prepare(&self, proposal: Proposal) -> Result<Prepared, ApiError> {
        let Proposal { name, spec, force } = proposal;
        debug_assert!(spec.as_ref().is_none_or(|spec| spec.name == name));
        // Clients do not upload an artifact that is here already. The core must know of it as of an
        // upload, so that it stays and other nodes learn where it is. A core that is too busy for
        // that is no reason to refuse the spec.
        let of = |spec: &Spec| {
            let kind = spec.program.kind();
            spec.program.artifacts().map(|it| (it, kind)).collect::<Vec<_>>()
        };
        for (artifact, kind) in spec.as_ref().map(of).unwrap_or_default() {
            if self.artifacts.has(&artifact.digest) == Some(artifact.size) {
                let _ = self.core.command(Command::Uploaded { artifact, kind }).await?;
            }
        }
        match self.core.command(Command::Prepare { name, spec, force }).await? {
            Reply::Prepared { draft, current, unheard, is_good, warnings, versions } => {
                let cluster = self.about.cluster;
                Ok(Prepared { draft, current, unheard, is_good, warnings, versions, cluster })
            }
            Reply::Refused(Refusal::NoSuchWorkload(name)) => {
                Err(self.no_such_workload(&name).await)
            }
            Reply::Refused(refusal) => Err(refusal.into()),
            Reply::Accepted { .. } | Reply::Drafted { .. } | Reply::Done => Err(unexpected_reply()),
        }
    }

    /// The spec that was published under a name; `no-such-workload` with the nearest name when it
    /// is not there.
    pub async fn published(&self, name: &WorkloadName) -> Result<PublishedBody, ApiError> {
        // A removal is prepared to see what it would remove, which changes nothing.
        let removal = Proposal { name: name.clone(), spec: None, force: false };
        let Prepared { current, versions, .. } = self.prepare(removal).await?;
        match current {
            Some(spec) => Ok(PublishedBody {
                spec: SpecBody::from(&spec),
                versions: versions.iter().map(VersionBody::from).collect(),
            }),
            None => Err(self.no_such_workload(name).await),
        }
    }

    /// Submits a signed change; returns once it is on disk.
    pub async fn submit(&self, change: RawChange) -> Result<Accepted, ApiError> {
        match self.core.command(Command::Submit { change }).await? {
            Reply::Accepted { uid, change } => Ok(Accepted { uid, change }),
            Reply::Refused(refusal) => Err(refusal.into()),
            Reply::Prepared { .. } | Reply::Drafted { .. } | Reply::Done => Err(unexpected_reply()),
        }
    }

    pub(super) async fn no_such_workload(&self, name: &WorkloadName) -> ApiError {
        let error = ApiError::new(
            StatusCode::NOT_FOUND,
            "no-such-workload",
            format!("there is no workload `{name}`"),
        );
        let Ok(views) = self.core.workloads().await else { return error };
        let views = Seen::now().keep(views, |it| it.namespace.clone());
        let names: Vec<String> = views.iter().map(short_name).collect();
        let text = name.to_string();
        // The same name in another namespace is a likelier slip than a similar one here.
        let elsewhere = views
            .iter()
            .position(|view| view.name == name.name.as_str())
            .map(|at| names[at].as_str());
        match elsewhere.or_else(|| nearest(&text, names.iter().map(String::as_str))) {
            Some(near) => error.hint(format!("Did you mean `{near}`?")),
            None => error.hint("`shoal ps` lists what there is."),
        }
    }

    /// The replica that people mean by this name.
    pub(super) async fn replica(&self, named: NamedReplica) -> Result<ReplicaName, ApiError> {
        let NamedReplica { workload, place } = named.clone();
        if let Some(place) = self.core.place_of(workload.clone(), place).await? {
            return Ok(ReplicaName { workload, place });
        }
        let Some(view) = self.core.workload(workload.clone()).await? else {
            return Err(self.no_such_workload(&workload).await);
        };
        let error = ApiError::new(
            StatusCode::NOT_FOUND,
            "no-such-replica",
            format!("there is no replica `{named}`"),
        );
        let names = view.replicas.iter().map(|view| view.replica.as_str());
        Err(match nearest(&named.to_string(), names) {
            Some(near) => error.hint(format!("Did you mean `{near}`?")),
            None if view.kind == "daemon" => error.hint(format!(
                "A daemon's replicas have the names of nodes: `shoal ps {workload}` lists them."
            )),
            None => error.hint(format!("`shoal describe {workload}` lists them.")),
        })
    }

    /// The replica whose volume people mean by this name. Volumes outlive their workload: where
    /// that was removed, the name alone tells.
    pub(super) async fn volume_of(&self, named: NamedReplica) -> Result<ReplicaName, ApiError> {
        let known = self.core.workload(named.workload.clone()).await?;
        // Runs come and go, and an index keeps its volume.
        let is_free = known.is_none_or(|view| matches!(view.kind.as_str(), "cron" | "job"));
        match named.place.parse() {
            Ok(place) if is_free => Ok(ReplicaName { workload: named.workload, place }),
            _ => {
                let ReplicaName { workload, place } = self.replica(named).await?;
                Ok(ReplicaName { workload, place: place.of_volumes() })
            }
        }
    }

    pub(super) async fn no_such_replica(&self, replica: &ReplicaName) -> ApiError {
        match self.core.workload(replica.workload.clone()).await {
            Ok(Some(view)) => {
                let name = &replica.workload;
                let (message, hint) = match view.kind.as_str() {
                    "service" => {
                        let has = format!(": `{name}` has {}", view.desired);
                        let message = format!("there is no replica `{replica}`{has}");
                        (message, "They are counted from 0.".to_owned())
                    }
                    kind => {
                        let message = format!(
                            "there is no replica `{replica}` of the {kind} workload `{name}`"
                        );
                        (message, format!("`shoal describe {name}` lists them."))
                    }
                };
                ApiError::new(StatusCode::NOT_FOUND, "no-such-replica", message).hint(hint)
            }
            Ok(None) => self.no_such_workload(&replica.workload).await,
            Err(stopped) => stopped.into(),
        }
    }
}

/// `name`, with the namespace in front when it is not the default.
pub fn short_name(view: &WorkloadView) -> String {
    let full = format!("{}/{}", view.namespace, view.name);
    full.parse::<WorkloadName>().map_or(full, |name| name.to_string())
}

/// A warning when the device does not have the HTTP port's address now.
fn missing_http(http: &str) -> Option<String> {
    let address: std::net::SocketAddr = http.parse().ok()?;
    let tried = std::net::UdpSocket::bind((address.ip(), 0));
    tried.is_err_and(|error| error.kind() == std::io::ErrorKind::AddrNotAvailable).then(|| {
        format!(
            "{http}, where HTTP clients connect, is no address of this device: they cannot \
            until it is there"
        )
    })
}

fn unexpected_reply() -> ApiError {
    ApiError::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "internal",
        "the core answered something else than was asked",
    )
}

pub(super) fn of_store(error: artifacts::Error) -> ApiError {
    use artifacts::Error;
    let message = error.to_string();
    match error {
        Error::Mismatch { .. } | Error::Empty => ApiError::invalid(message),
        Error::TooLarge { .. } => {
            ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
        }
        Error::Full { .. } | Error::DiskFull { .. } => {
            ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "full", message).hint(
                "Remove workloads that are not needed, or give the state folder's disk more room.",
            )
        }
        Error::Source { .. } => ApiError::new(StatusCode::BAD_REQUEST, "cut-short", message),
        Error::Missing { .. } => ApiError::new(StatusCode::NOT_FOUND, "no-such-artifact", message),
        Error::Busy { .. } => ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
            .hint("Try again in a moment."),
        Error::Altered { .. }
        | Error::Offset { .. }
        | Error::Incomplete { .. }
        | Error::Io { .. } => ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "disk", message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The port is bound before its address exists; until then clients cannot connect, and the
    /// status says so.
    #[test]
    fn missing_http_address_is_warned_of() {
        // An address reserved for documentation: no device has it.
        assert!(
            missing_http("192.0.2.1:8080")
                .unwrap()
                .starts_with("192.0.2.1:8080, where HTTP clients connect")
        );
        assert_eq!((missing_http("0.0.0.0:8080"), missing_http("127.0.0.1:8080")), (None, None));
    }
}
