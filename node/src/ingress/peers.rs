//! HTTP/1.1 to other nodes, over streams of the mesh that are reused. A stream over a common member
//! is reused until the node is linked.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use shoal_protocol::model::NodeId;
use shoal_runtimes::{Body, BodyError};

use super::flow::Flow;
use super::idle_timeouts::{Party, Stalled};
use crate::network::{Mesh, OpenError, Purpose};

/// Streams kept for one peer. Further requests at the same time open streams that are closed after
/// one use.
const KEPT: usize = 8;
/// Peers to which streams are kept: more than the standing links of a large cluster.
const KEPT_PEERS: usize = 64;
/// Bytes of an answer's head, and of one read.
const BUFFER: usize = 16 * 1024;

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
            match self.on(node, &mut sender.requests, request).await {
                Err(SendError::NotSent { request: unsent, .. }) => request = *unsent,
                answered => {
                    self.keep(node, sender);
                    return answered;
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
        let answered = self.on(node, &mut sender.requests, request).await;
        self.keep(node, sender);
        answered
    }

    /// Sends over one stream; the answer has its [`Flow`] among its extensions.
    async fn on(
        &self,
        node: NodeId,
        sender: &mut SendRequest<Body>,
        request: Request<Body>,
    ) -> Result<Response<Body>, SendError> {
        let (flow, request) = Flow::over(node, request);
        match flow.answer(sender.try_send_request(request)).await {
            Ok(Ok(mut response)) => {
                response.extensions_mut().insert(flow);
                Ok(response.map(|body| {
                    body.map_err(|error| -> BodyError { Box::new(error) }).boxed_unsync()
                }))
            }
            Ok(Err(mut error)) => {
                let why = with_causes(error.error());
                let stalled = Stalled::find(error.error());
                let is_lost = stalled.is_none();
                match (
                    error.take_message(),
                    stalled.filter(|stalled| stalled.party == Party::Client),
                ) {
                    (Some(request), _) => {
                        Err(SendError::NotSent { request: Box::new(request), why, open: None })
                    }
                    (None, Some(why)) => Err(SendError::Client { why }),
                    (None, None) => Err(SendError::Sent { why, is_lost }),
                }
            }
            Err(stalled) => Err(SendError::Sent { why: stalled.to_string(), is_lost: false }),
        }
    }

    async fn open(&self, node: NodeId) -> Result<Sender, (String, Option<OpenError>)> {
        let opened = self.mesh.open(node, Purpose::Http).await;
        let stream = opened.map_err(|error| (error.to_string(), Some(error)))?;
        let over_hop = stream.hop().is_some();
        let (requests, connection) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| (error.to_string(), None))?;
        tokio::spawn(async move {
            // A broken connection fails the request on it, which reports the error.
            let _ = connection.await;
        });
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

/// An error with its causes: hyper's own text leaves out the stream's error, such as that its path
/// loses packets.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
