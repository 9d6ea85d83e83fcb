//! HTTP/1.1 to other nodes, over the mesh, on streams that are used again; a stream over a common
//! member is used until there is a link.

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

/// Streams kept for one peer. More requests than this at one time open streams that are closed
/// after one use.
const KEPT: usize = 8;
/// Peers to which streams are kept: the standing links of a large cluster are fewer.
const KEPT_PEERS: usize = 64;
/// Bytes of an answer's head, and what is read at a time.
const BUFFER: usize = 16 * 1024;

/// Why a peer did not answer.
#[derive(Debug)]
pub enum SendError {
    /// Nothing of it was sent: it can go elsewhere, whatever it is.
    NotSent {
        /// The request, untouched.
        request: Box<Request<Body>>,
        /// What was in the way.
        why: String,
        /// Why no stream could be opened, if that was it.
        open: Option<OpenError>,
    },
    /// It was sent, and may have been acted on.
    Sent {
        /// What happened then.
        why: String,
        /// The way to the node broke; else it was only silent.
        is_lost: bool,
    },
    /// It was sent in part, and the client did not go on.
    Client {
        /// What the client did not do.
        why: Stalled,
    },
}

/// The way to other nodes. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    mesh: Arc<dyn Mesh>,
    kept: Arc<Mutex<BTreeMap<NodeId, Vec<Sender>>>>,
}

/// One stream's end.
struct Sender {
    requests: SendRequest<Body>,
    /// A common member carries it.
    over_hop: bool,
}

impl Peers {
    /// Over this mesh.
    pub fn new(mesh: Arc<dyn Mesh>) -> Self {
        Peers { mesh, kept: Arc::default() }
    }

    /// Sends a request to `node` and gives the head of its answer; the body streams.
    pub async fn send(
        &self,
        node: NodeId,
        request: Request<Body>,
    ) -> Result<Response<Body>, SendError> {
        self.send_until(node, request, std::future::pending()).await
    }

    /// The same, but once `cancelled` is over nobody waits for a way to the node any longer: a dial
    /// may take seconds to fail.
    pub async fn send_until(
        &self,
        node: NodeId,
        mut request: Request<Body>,
        cancelled: impl Future<Output = ()>,
    ) -> Result<Response<Body>, SendError> {
        // A kept stream may have been closed a moment ago: then the request comes back unsent, and
        // the next one or a new one serves.
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

    /// The answer, with its [`Flow`] among its extensions.
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
            // What breaks it breaks the request that is on it, which tells.
            let _ = connection.await;
        });
        Ok(Sender { requests, over_hop })
    }

    /// A kept stream that is free. Closed ones are dropped on the way, and those over a common
    /// member once there is a link.
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

/// An error and what is behind it: hyper's own words leave out what the stream said, such as that
/// its path loses packets.
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
