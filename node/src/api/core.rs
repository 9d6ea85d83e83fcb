//! The core, as the API and the ingress use it: owned values, from the driver or from a test's
//! fake.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use shoal_protocol::model::spec::HostPort;
use shoal_protocol::model::view::{
    AdmissionView, EventView, ExplainView, NodeView, OperatorView, QuotaView, ReadersView,
    RevokedView, ServiceView, StatusView, ValueView, WorkloadView,
};
use shoal_protocol::model::{
    Chain, Digest, Key, Label, NodeId, Place, PublicKey, RawChange, ReplicaId, ReplicaName,
    SealingKey, Value, WorkloadName,
};
use shoal_protocol::node::{Command, ImageUse, NotForIt, Reply, Routes};
use tokio::sync::{broadcast, watch};

use crate::driver::{DriverHandle, Stopped};

/// An answer of the core; an error when the node stops.
pub type Soon<'a, T> = BoxFuture<'a, Result<T, Stopped>>;

/// The core, for callers that act for a user.
#[allow(missing_docs)]
pub trait Core: Send + Sync + 'static {
    /// Sends a command and waits for its reply.
    fn command(&self, command: Command) -> Soon<'_, Reply>;
    fn status(&self) -> Soon<'_, StatusView>;
    fn nodes(&self) -> Soon<'_, Vec<NodeView>>;
    /// Whether this node is a member.
    fn is_member(&self) -> Soon<'_, bool>;
    fn operators(&self) -> Soon<'_, Vec<OperatorView>>;
    fn revoked(&self) -> Soon<'_, Vec<RevokedView>>;
    fn quotas(&self) -> Soon<'_, Vec<QuotaView>>;
    /// The admission of this node; none before it is a member.
    fn admission(&self) -> Soon<'_, Option<RawChange>>;
    /// Whether the rights of a key were revoked.
    /// The key by whose revocation the holder of `by`, with this chain, has no rights now.
    fn ended(&self, chain: Chain, by: PublicKey) -> Soon<'_, Option<PublicKey>>;
    fn let_in_by(&self, node: NodeId) -> Soon<'_, Vec<AdmissionView>>;
    /// A secret or config as it is in desired state, and its version.
    fn value(&self, key: Key) -> Soon<'_, Option<(Digest, Value)>>;
    /// All secrets and configs, without their contents.
    fn values(&self) -> Soon<'_, Vec<ValueView>>;
    /// The members to which a secret can be sealed.
    fn readers(&self, name: WorkloadName) -> Soon<'_, ReadersView>;
    /// The sealing key of a node to which the key of a secret may be passed on.
    fn may_read(
        &self,
        name: WorkloadName,
        version: Digest,
        node: NodeId,
    ) -> Soon<'_, Result<SealingKey, NotForIt>>;
    /// The nodes that are up and can have the key of a secret.
    fn key_sources(&self, name: WorkloadName) -> Soon<'_, Vec<NodeId>>;
    /// The names of these nodes, in the same order; a short id where none is known.
    fn names(&self, nodes: Vec<NodeId>) -> Soon<'_, Vec<String>>;
    fn workloads(&self) -> Soon<'_, Vec<WorkloadView>>;
    fn workload(&self, name: WorkloadName) -> Soon<'_, Option<WorkloadView>>;
    fn explain(&self, replica: ReplicaName) -> Soon<'_, Option<ExplainView>>;
    /// All workloads as others reach them by name.
    fn services(&self) -> Soon<'_, Vec<ServiceView>>;
    /// A workload as others reach it by name.
    fn service(&self, name: WorkloadName) -> Soon<'_, Option<ServiceView>>;
    /// The workload that has a further name in a namespace.
    fn aliased(&self, namespace: Label, alias: String) -> Soon<'_, Option<ServiceView>>;
    /// The ports of the device that replicas of this node have.
    fn ports_held(&self) -> Soon<'_, BTreeSet<HostPort>>;
    /// A request waits for a workload that has no replica: the core wakes it if it sleeps.
    fn wish(&self, name: WorkloadName) -> Soon<'_, ()>;
    /// Artifacts that the store must keep.
    fn pinned(&self) -> Soon<'_, BTreeSet<Digest>>;
    /// The images of all workloads.
    fn images(&self) -> Soon<'_, Vec<ImageUse>>;
    /// Artifacts that some workload names.
    fn named_artifacts(&self) -> Soon<'_, BTreeSet<Digest>>;
    /// The nodes that claim a replica, this one first.
    fn holders(&self, replica: ReplicaName) -> Soon<'_, Vec<(NodeId, ReplicaId)>>;
    /// Whether this node claims a replica.
    fn claims(&self, replica: ReplicaName) -> Soon<'_, bool>;
    /// The place of a workload that people mean by this text.
    fn place_of(&self, workload: WorkloadName, text: String) -> Soon<'_, Option<Place>>;
    /// The kept events with a number above `since`, and a receiver of new ones.
    fn events(&self, since: u64) -> (Vec<Arc<EventView>>, broadcast::Receiver<Arc<EventView>>);
    /// A number that grows whenever a view may have changed.
    fn changes(&self) -> watch::Receiver<u64>;
    fn routes(&self) -> watch::Receiver<Arc<Routes>>;
    /// Counters of the daemon, to be merged with the core's.
    fn counters(&self) -> BTreeMap<String, u64>;
}

impl Core for DriverHandle {
    fn command(&self, command: Command) -> Soon<'_, Reply> {
        DriverHandle::command(self, command).boxed()
    }

    fn status(&self) -> Soon<'_, StatusView> {
        self.query(|node| node.status()).boxed()
    }

    fn nodes(&self) -> Soon<'_, Vec<NodeView>> {
        self.query(|node| node.nodes()).boxed()
    }

    fn is_member(&self) -> Soon<'_, bool> {
        self.query(|node| node.is_member(&node.id())).boxed()
    }

    fn operators(&self) -> Soon<'_, Vec<OperatorView>> {
        self.query(|node| node.operators()).boxed()
    }

    fn revoked(&self) -> Soon<'_, Vec<RevokedView>> {
        self.query(|node| node.revoked()).boxed()
    }

    fn quotas(&self) -> Soon<'_, Vec<QuotaView>> {
        self.query(|node| node.quotas()).boxed()
    }

    fn admission(&self) -> Soon<'_, Option<RawChange>> {
        self.query(|node| node.admission()).boxed()
    }

    fn ended(&self, chain: Chain, by: PublicKey) -> Soon<'_, Option<PublicKey>> {
        self.query(move |node| node.ended(&chain, &by)).boxed()
    }

    fn let_in_by(&self, node: NodeId) -> Soon<'_, Vec<AdmissionView>> {
        self.query(move |it| it.let_in_by(&node)).boxed()
    }

    fn value(&self, key: Key) -> Soon<'_, Option<(Digest, Value)>> {
        self.query(move |node| node.value(&key)).boxed()
    }

    fn values(&self) -> Soon<'_, Vec<ValueView>> {
        self.query(|node| node.values()).boxed()
    }

    fn readers(&self, name: WorkloadName) -> Soon<'_, ReadersView> {
        self.query(move |node| node.readers(&name)).boxed()
    }

    fn may_read(
        &self,
        name: WorkloadName,
        version: Digest,
        asker: NodeId,
    ) -> Soon<'_, Result<SealingKey, NotForIt>> {
        self.query(move |node| node.may_read(&name, &version, &asker)).boxed()
    }

    fn key_sources(&self, name: WorkloadName) -> Soon<'_, Vec<NodeId>> {
        self.query(move |node| node.key_sources(&name)).boxed()
    }

    fn names(&self, nodes: Vec<NodeId>) -> Soon<'_, Vec<String>> {
        self.query(move |known| nodes.iter().map(|node| known.node_name(node)).collect()).boxed()
    }

    fn workloads(&self) -> Soon<'_, Vec<WorkloadView>> {
        self.query(|node| node.workloads()).boxed()
    }

    fn workload(&self, name: WorkloadName) -> Soon<'_, Option<WorkloadView>> {
        self.query(move |node| node.workload(&name)).boxed()
    }

    fn explain(&self, replica: ReplicaName) -> Soon<'_, Option<ExplainView>> {
        self.query(move |node| node.explain(&replica)).boxed()
    }

    fn services(&self) -> Soon<'_, Vec<ServiceView>> {
        self.query(|node| node.services()).boxed()
    }

    fn service(&self, name: WorkloadName) -> Soon<'_, Option<ServiceView>> {
        self.query(move |node| node.service(&name)).boxed()
    }

    fn aliased(&self, namespace: Label, alias: String) -> Soon<'_, Option<ServiceView>> {
        self.query(move |node| node.aliased(&namespace, &alias)).boxed()
    }

    fn ports_held(&self) -> Soon<'_, BTreeSet<HostPort>> {
        self.query(|node| node.ports_held()).boxed()
    }

    fn wish(&self, name: WorkloadName) -> Soon<'_, ()> {
        self.wished(name).boxed()
    }

    fn pinned(&self) -> Soon<'_, BTreeSet<Digest>> {
        self.query(|node| node.pinned()).boxed()
    }

    fn images(&self) -> Soon<'_, Vec<ImageUse>> {
        self.query(|node| node.images()).boxed()
    }

    fn named_artifacts(&self) -> Soon<'_, BTreeSet<Digest>> {
        self.query(|node| node.named_artifacts()).boxed()
    }

    fn holders(&self, replica: ReplicaName) -> Soon<'_, Vec<(NodeId, ReplicaId)>> {
        self.query(move |node| node.holders(&replica)).boxed()
    }

    fn claims(&self, replica: ReplicaName) -> Soon<'_, bool> {
        self.query(move |node| node.claims_replica(&replica)).boxed()
    }

    fn place_of(&self, workload: WorkloadName, text: String) -> Soon<'_, Option<Place>> {
        self.query(move |node| node.place_of(&workload, &text)).boxed()
    }

    fn events(&self, since: u64) -> (Vec<Arc<EventView>>, broadcast::Receiver<Arc<EventView>>) {
        DriverHandle::events(self, since)
    }

    fn changes(&self) -> watch::Receiver<u64> {
        DriverHandle::changes(self)
    }

    fn routes(&self) -> watch::Receiver<Arc<Routes>> {
        DriverHandle::routes(self)
    }

    fn counters(&self) -> BTreeMap<String, u64> {
        DriverHandle::counters(self)
    }
}
