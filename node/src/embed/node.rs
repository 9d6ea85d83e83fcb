//! The running node, for the program that embeds it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::Stream;
use shoal_protocol::model::view::{EventView, ExplainView, NodeView, WorkloadView};
use shoal_protocol::model::{Digest, NodeId, ProgramKind, RawChange, ReplicaName, WorkloadName};

use super::builder::Builder;
use super::running::Running;
use crate::api::images::form::{ImageProgress, ResolveBody, ResolvedImage};
use crate::api::{Accepted, ApiError, Prepared, Proposal, Service, StatusBody};
use crate::publish::{
    self, Door, InviteError, Operator, OperatorError, Part, PublishError, Published, Wishes,
    Workload,
};

/// A running node. Dropping it ends it at once, as a crash would; [`Node::stop`] ends it in order.
pub struct Node {
    pub(super) id: NodeId,
    pub(super) name: String,
    pub(super) mesh: SocketAddr,
    pub(super) http: SocketAddr,
    pub(super) socket: PathBuf,
    pub(super) founded: bool,
    pub(super) operator: Result<Operator, OperatorError>,
    pub(super) service: Service,
    pub(super) running: Running,
}

impl Node {
    /// The settings of a node to start.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The node's id: its public key.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The node's name for people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where other nodes connect.
    pub fn mesh(&self) -> SocketAddr {
        self.mesh
    }

    /// Where clients of workloads connect.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// The API's unix socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether this start created the cluster.
    pub fn founded(&self) -> bool {
        self.founded
    }

    /// The line with which `uses` other devices join, until `ttl` is over, made with this node's
    /// operator key. A secret until then.
    pub async fn invite(&self, uses: u32, ttl: Duration) -> Result<String, InviteError> {
        let wishes = Wishes { uses, ttl, ..Wishes::default() };
        let operator = self.operator().map_err(|error| InviteError::Operator(error.to_string()))?;
        Ok(publish::invite(operator, self.service.meeting(), wishes)?.to_string())
    }

    /// Publishes a workload, signed with this node's operator key. Returns once it is on disk here;
    /// [`Node::healthy`] waits for more.
    pub async fn publish(&self, workload: Workload) -> Result<Published, PublishError> {
        let door = NodeDoor(&self.service);
        let (workload, notes) = publish::pinned(&door, &workload, &mut |_| {}).await?;
        notes.iter().for_each(|note| tracing::info!("{}: {note}", workload.name()));
        let ready = publish::ready(&workload).await?;
        publish::publish(&door, self.operator()?, &ready, false).await
    }

    /// Changes how many replicas a workload has.
    pub async fn scale(
        &self,
        name: &WorkloadName,
        replicas: u32,
    ) -> Result<Published, PublishError> {
        publish::scale(&NodeDoor(&self.service), self.operator()?, name, replicas, false).await
    }

    /// Removes a workload.
    pub async fn remove(&self, name: &WorkloadName) -> Result<Published, PublishError> {
        publish::remove(&NodeDoor(&self.service), self.operator()?, name, false).await
    }

    /// All workloads, as this node sees them.
    pub async fn workloads(&self) -> Result<Vec<WorkloadView>, ApiError> {
        self.service.workloads().await
    }

    /// The view of one workload; an error with the nearest name when there is none.
    pub async fn workload(&self, name: &WorkloadName) -> Result<WorkloadView, ApiError> {
        self.service.workload(name).await
    }

    /// Waits until all replicas of a workload are healthy. There is no limit: put a time-out around
    /// it.
    pub async fn healthy(&self, name: &WorkloadName) -> Result<WorkloadView, ApiError> {
        self.service.healthy(name).await
    }

    /// All nodes, as this one sees them.
    pub async fn nodes(&self) -> Result<Vec<NodeView>, ApiError> {
        self.service.nodes().await
    }

    /// This node and the cluster in short.
    pub async fn status(&self) -> Result<StatusBody, ApiError> {
        self.service.status().await
    }

    /// How a replica was placed.
    pub async fn explain(&self, replica: &ReplicaName) -> Result<ExplainView, ApiError> {
        self.service.explain(replica).await
    }

    /// The events of this node: the latest thousand since its start, then new ones. It does not end
    /// when the node stops: drop it then.
    pub fn events(&self) -> impl Stream<Item = EventView> + Send + Unpin + 'static {
        self.service.events(0)
    }

    /// Returns when a user has asked this node to stop, by `shoal down`. The program should then
    /// call [`Node::stop_for`].
    pub async fn asked_to_stop(&self) {
        self.service.asked_to_stop().await;
    }

    /// Waits for a failure that the node cannot survive, and returns the reason. The program should
    /// then stop it, and may start it anew.
    pub async fn failed(&self) -> String {
        self.running.failed().await
    }

    /// Stops in order: tells the other nodes, lets requests and guests end, writes all state to
    /// disk. The node expects to be back soon, so its replicas stay in place for
    /// [`super::BACK_IN`].
    pub async fn stop(self) {
        self.stop_for(super::BACK_IN).await;
    }

    /// Stops in order and expects to be back in `back_in`; with zero its replicas move at once.
    /// Other nodes wait 30 seconds at most.
    pub async fn stop_for(self, back_in: Duration) {
        self.running.stop(back_in).await;
    }

    fn operator(&self) -> Result<&Operator, PublishError> {
        self.operator.as_ref().map_err(|error| PublishError::NoOperator(error.to_string()))
    }
}

/// Publishes through this very node, without a socket.
pub struct NodeDoor<'a>(pub(crate) &'a Service);

impl Door for NodeDoor<'_> {
    async fn holds(&self, digest: &Digest) -> Result<bool, ApiError> {
        Ok(self.0.holds(digest).is_some())
    }

    async fn upload(&self, kind: ProgramKind, part: &Part) -> Result<(), ApiError> {
        self.0.upload(kind, part.artifact.digest, part.reader()).await
    }

    async fn resolve(
        &self,
        asked: &ResolveBody,
        told: &mut (dyn FnMut(ImageProgress) + Send),
    ) -> Result<ResolvedImage, ApiError> {
        let told = std::sync::Mutex::new(told);
        let tell = |progress| {
            // The lock is held for one call, which cannot wait for another.
            (told.lock().unwrap_or_else(std::sync::PoisonError::into_inner))(progress);
        };
        self.0.resolve_image(asked, &tell).await
    }

    async fn prepare(&self, proposal: Proposal) -> Result<Prepared, ApiError> {
        self.0.prepare(proposal).await
    }

    async fn submit(&self, change: RawChange) -> Result<Accepted, ApiError> {
        self.0.submit(change).await
    }
}
