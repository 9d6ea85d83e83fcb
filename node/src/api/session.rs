//! Sessions with a replica, on their way to the node that runs it.

use axum::body::Body;
use axum::extract::Request;
use http::{HeaderValue, Method, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use shoal_protocol::model::{NodeId, ReplicaName};
use shoal_runtimes::body;
use shoal_runtimes::session::Duplex;
use tokio::io::copy_bidirectional;
use tokio::sync::OwnedSemaphorePermit;
use tracing::debug;

use super::form::{ErrorBody, full_name};
use super::logs::cannot_be_asked;
use super::{ApiError, Service};
use crate::ingress::host::node_request;
use crate::ingress::peers::{SendError, Upgrade};
use crate::names;
use crate::session::{self, Frames, PROTOCOL};

/// Sessions that pass through a node at one time, as holder or on the way: each takes a connection
/// of the daemon, and two of the engine.
pub(super) const SESSIONS: usize = 64;
/// Bytes of a node's refusal.
const MAX_REFUSAL: usize = 64 * 1024;

/// The bytes of a session that passes through this node.
pub(super) type Passing = Box<dyn Duplex>;

impl Service {
    /// Opens a session with a replica: here if it runs here, else at the node that runs it.
    pub async fn session(
        &self,
        replica: ReplicaName,
        request: Request,
    ) -> Result<Response<Body>, ApiError> {
        let holders = self.core.holders(replica.clone()).await?;
        if holders.iter().any(|(node, _)| *node == self.about.node) {
            return self.session_here(replica, request).await;
        }
        let client = upgrade(request, PROTOCOL)?;
        let permit = self.session_permit()?;
        let mut last = None;
        for (node, _) in &holders {
            let path = format!("/v1/session/{}/{}", full_name(&replica.workload), replica.place);
            let unreachable = |why: &str| cannot_be_asked(*node, &replica, why);
            match self.session_there(*node, &path, unreachable).await {
                Ok(stream) => return Ok(self.pass(client, stream, permit)),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error),
            None => Err(self.not_running(&replica).await),
        }
    }

    /// Opens a session with a replica that runs on this node.
    pub async fn session_here(
        &self,
        replica: ReplicaName,
        request: Request,
    ) -> Result<Response<Body>, ApiError> {
        let holders = self.core.holders(replica.clone()).await?;
        let held = holders.iter().find(|(node, _)| *node == self.about.node);
        let instance = held.and_then(|(_, id)| self.directory.instance(id));
        let Some(instance) = instance else { return Err(self.not_running(&replica).await) };
        let client = upgrade(request, PROTOCOL)?;
        let permit = self.session_permit()?;
        let host = self.host.clone();
        self.until_stop(async move {
            let _permit = permit;
            let Ok(client) = client.await else { return };
            session::serve(host, replica, instance, Frames::over(TokioIo::new(client))).await;
        });
        Ok(switching(PROTOCOL))
    }

    /// Connects another node's container to a port of a replica here. Only ports that the workload
    /// names: a member may not reach more.
    pub async fn connect_here(
        &self,
        replica: ReplicaName,
        port: u16,
        request: Request,
    ) -> Result<Response<Body>, ApiError> {
        let named = self.core.service(replica.workload.clone()).await?;
        if !named.is_some_and(|service| service.ports.values().any(|named| *named == port)) {
            let why = format!("`{}` names no port {port}", replica.workload);
            return Err(ApiError::new(StatusCode::NOT_FOUND, "no-such-port", why));
        }
        let holders = self.core.holders(replica.clone()).await?;
        let held = holders.iter().find(|(node, _)| *node == self.about.node);
        let instance = held.and_then(|(_, id)| self.directory.instance(id));
        let Some(instance) = instance else { return Err(self.not_running(&replica).await) };
        let client = upgrade(request, names::PROTOCOL)?;
        let connected = session::connect(&self.runtimes, &instance, port).await;
        let mut stream = connected.map_err(|error| {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unreachable", error.to_string())
        })?;
        self.until_stop(async move {
            let Ok(client) = client.await else { return };
            if let Err(error) = copy_bidirectional(&mut TokioIo::new(client), &mut stream).await {
                debug!("a connection to {replica} broke: {error}");
            }
        });
        Ok(switching(names::PROTOCOL))
    }

    /// Opens a session at another node.
    pub(super) async fn session_there(
        &self,
        node: NodeId,
        path: &str,
        unreachable: impl Fn(&str) -> ApiError,
    ) -> Result<Passing, ApiError> {
        let request = node_request(Method::GET, path)
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, PROTOCOL)
            .body(body(""))
            .map_err(|error| unreachable(&error.to_string()))?;
        match self.peers.upgrade(node, request).await {
            Ok(Upgrade::Stream(stream)) => Ok(Box::new(stream)),
            Ok(Upgrade::Answer(answer)) => {
                let status = answer.status();
                let bytes = axum::body::to_bytes(Body::new(answer.into_body()), MAX_REFUSAL).await;
                let told = bytes.ok().and_then(|it| serde_json::from_slice::<ErrorBody>(&it).ok());
                Err(told.map_or_else(
                    || unreachable(&format!("it answers {status}")),
                    |told| ApiError::from_body(status, told),
                ))
            }
            Err(SendError::NotSent { why, .. } | SendError::Sent { why, .. }) => {
                Err(unreachable(&why))
            }
            // The request has no body that a client could stop sending.
            Err(SendError::Client { why }) => Err(unreachable(&why.to_string())),
        }
    }

    /// Passes the bytes of a session on, for as long as both ends have some.
    pub(super) fn pass(
        &self,
        client: OnUpgrade,
        mut stream: Passing,
        permit: OwnedSemaphorePermit,
    ) -> Response<Body> {
        self.until_stop(async move {
            let _permit = permit;
            let Ok(client) = client.await else { return };
            let mut client = TokioIo::new(client);
            if let Err(error) = copy_bidirectional(&mut client, &mut stream).await {
                debug!("a session that passed through broke: {error}");
            }
        });
        switching(PROTOCOL)
    }

    /// Runs `session` beside, at most until the node stops.
    pub(super) fn until_stop(&self, session: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = session => {}
                () = stop.cancelled() => {}
            }
        });
    }

    pub(super) fn session_permit(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        self.sessions.clone().try_acquire_owned().map_err(|_| {
            let why = format!("{SESSIONS} sessions pass through this node, the most it takes");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "busy", why)
                .hint("End some of them, or ask another node.")
        })
    }
}

pub(super) fn upgrade(mut request: Request, protocol: &str) -> Result<OnUpgrade, ApiError> {
    let wanted = request.headers().get(header::UPGRADE).cloned();
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    match upgrade.filter(|_| wanted.is_some_and(|it| it == protocol)) {
        Some(upgrade) => Ok(upgrade),
        None => {
            let why = format!("a session is asked for with `Upgrade: {protocol}`");
            Err(ApiError::new(StatusCode::UPGRADE_REQUIRED, "invalid", why))
        }
    }
}

pub(super) fn switching(protocol: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static(protocol));
    response
}
