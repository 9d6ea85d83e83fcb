//! HTTP/1.1 to other nodes, over streams of the mesh that are reused. A stream over a common member
//! is reused until the node is linked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Request, Response, StatusCode};
use hyper::client::conn::http1::SendRequest;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use shoal_protocol::model::NodeId;
use shoal_runtimes::Body;

use super::connection::{self, Failed};
use super::flow::Server;
use super::idle_timeouts::Stalled;
use crate::network::{Mesh, OpenError, Purpose};

/// Streams kept for one peer. Further requests at the same time open streams that are closed after
/// one use.
const KEPT: usize = 8;
/// Peers to which streams are kept: more than the standing links of a large cluster.
const KEPT_PEERS: usize = 64;

/// Why a peer did not answer.
#[derive(Debug)]
pub enum SendError {
    /// Nothing was sent: the request can go to another replica, whatever its method.
    NotSent {
        /// The request, untouched.
        request: Box<Request<Body>>,
        /// Why nothing could be sent.
        why: String,
        /// The failure to open a stream, if that was the reason.
        open: Option<OpenError>,
    },
    /// The request was sent, and a guest may have acted on it.
    Sent {
        /// Why there is no answer.
        why: String,
        /// The stream broke; otherwise the node was only silent.
        is_lost: bool,
    },
    /// The request was sent in part, and the client did not go on.
    Client {
        /// The client's stall.
        why: Stalled,
    },
}

impl From<Failed> for SendError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Unsent { request, why } => SendError::NotSent { request, why, open: None },
            Failed::Sent { why, is_lost } => SendError::Sent { why, is_lost },
            Failed::Client { why } => SendError::Client { why },
        }
    }
}

/// The answer to a request for a stream of bytes.
pub enum Upgrade {
    /// The stream.
    Stream(TokioIo<Upgraded>),
    /// The node's refusal.
    Answer(Response<Body>),
}

/// Sends requests to other nodes. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    mesh: Arc<dyn Mesh>,
    kept: Arc<Mutex<BTreeMap<NodeId, Vec<Sender>>>>,
}

/// The sending end of a stream.
struct Sender {
    requests: SendRequest<Body>,
    /// A common member carries the stream.
    over_hop: bool,
}

impl Peers {
    /// Sends requests over this mesh.
    pub fn new(mesh: Arc<dyn Mesh>) -> Self {
        Peers { mesh, kept: Arc::default() }
    }

    /// Sends a request to `node` and returns the head of its answer; the body streams.
    pub async fn send(
        &self,
        node: NodeId,
        request: Request<Body>,
    ) -> Result<Response<Body>, SendError> {
        self.send_until(node, request, std::future::pending()).await
    }

    /// As [`Peers::send`], but gives up opening a stream once `cancelled` ends: a dial may take
    /// seconds to fail.
    pub async fn send_until(
        &self,
        node: NodeId,
        mut request: Request<Body>,
        cancelled: impl Future<Output = ()>,
    ) -> Result<Response<Body>, SendError> {
        // A kept stream may have been closed a moment ago: then the request comes back unsent, and
        // goes over the next stream or a new one.
        for _ in 0..=KEPT {
            let Some(mut sender) = self.take(node) else { break };
            match connection::send(&mut sender.requests, Server::node(node), request).await {
                Err(Failed::Unsent { request: unsent, .. }) => request = *unsent,
                answered => {
                    self.keep(node, sender);
                    return answered.map_err(SendError::from);
                }
            }
        }
        let opened = tokio::select! {
            opened = self.open(node) => opened,
            () = cancelled => Err(("the replica has left that node".to_owned(), None)),
        };
        let mut sender = match opened {
            Ok(sender) => sender,
            Err((why, open)) => {
                return Err(SendError::NotSent { request: Box::new(request), why, open });
            }
        };
        let answered = connection::send(&mut sender.requests, Server::node(node), request).await;
        self.keep(node, sender);
        answered.map_err(SendError::from)
    }

    /// Sends a request that asks `node` for a stream of bytes, over a stream of its own.
    pub async fn upgrade(
        &self,
        node: NodeId,
        request: Request<Body>,
    ) -> Result<Upgrade, SendError> {
        let mut sender = match self.open(node).await {
            Ok(sender) => sender,
            Err((why, open)) => {
                return Err(SendError::NotSent { request: Box::new(request), why, open });
            }
        };
        let answer = connection::send(&mut sender.requests, Server::node(node), request).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Upgrade::Answer(answer));
        }
        match hyper::upgrade::on(answer).await {
            Ok(stream) => Ok(Upgrade::Stream(TokioIo::new(stream))),
            Err(error) => {
                Err(SendError::Sent { why: connection::with_causes(&error), is_lost: true })
            }
        }
    }

    async fn open(&self, node: NodeId) -> Result<Sender, (String, Option<OpenError>)> {
        let opened = self.mesh.open(node, Purpose::Http).await;
        let stream = opened.map_err(|error| (error.to_string(), Some(error)))?;
        let over_hop = stream.hop().is_some();
        let requests = connection::open(stream).await.map_err(|error| (error.to_string(), None))?;
        Ok(Sender { requests, over_hop })
    }

    /// Takes a free stream. Closed ones are dropped, and those over a common member once the node
    /// is linked.
    fn take(&self, node: NodeId) -> Option<Sender> {
        let mut kept = self.lock();
        let senders = kept.get_mut(&node)?;
        let is_linked = senders.iter().any(|sender| sender.over_hop) && self.mesh.is_linked(&node);
        senders.retain(|sender| !(sender.requests.is_closed() || is_linked && sender.over_hop));
        let free = senders
            .iter()
            .position(|sender| sender.requests.is_ready())
            .map(|at| senders.swap_remove(at));
        if senders.is_empty() {
            kept.remove(&node);
        }
        free
    }

    /// Keeps a stream, also while its answer's body still streams: it is free again after that.
    fn keep(&self, node: NodeId, sender: Sender) {
        if sender.requests.is_closed() {
            return;
        }
        let mut kept = self.lock();
        kept.retain(|_, senders| {
            senders.retain(|sender| !sender.requests.is_closed());
            !senders.is_empty()
        });
        if kept.contains_key(&node) || kept.len() < KEPT_PEERS {
            let senders = kept.entry(node).or_default();
            if senders.len() < KEPT {
                senders.push(sender);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Vec<Sender>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
