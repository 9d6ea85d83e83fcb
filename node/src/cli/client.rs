//! HTTP/1.1 to a daemon: over its unix socket, or over the mesh's port.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shoal_protocol::model::{Digest, ProgramKind, RawChange, WorkloadName};
use shoal_runtimes::session::Duplex;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::io::ReaderStream;

use super::context::Context;
use super::error::NO_DAEMON;
use super::no_daemon::no_daemon;
use super::progress::Progress;
use super::via::Via;
use crate::api::form::{AcceptedBody, BadAnswer, ErrorBody, PrepareBody, PreparedBody, SubmitBody};
use crate::api::images::form::{ImageProgress, ResolveBody, ResolveLine, ResolvedImage};
use crate::api::{Accepted, ApiError, Prepared, Proposal};
use crate::publish::{Door, Part};
use crate::session::PROTOCOL;

/// Time for the daemon to begin an answer: longer than a slow flash takes, shorter than a person
/// waits.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Time for the answer to an upload, which is hashed and synced first.
const UPLOADED_WITHIN: Duration = Duration::from_secs(300);
/// Bytes of a part from which on its progress is shown: a smaller one is sent in no time.
const SHOWN: u64 = 1 << 20;
/// Bytes that are sent at a time.
const CHUNK: usize = 64 * 1024;
/// Bytes of one line of a stream; a view of a workload with thousands of replicas takes some
/// megabytes.
const LINE: usize = 64 << 20;

/// A client of one daemon. Each request has a connection or a stream of its own.
#[derive(Clone)]
pub struct Client {
    way: Way,
    /// Shows how much of a large part was sent.
    progress: Option<Arc<Mutex<Progress>>>,
}

/// The way to the daemon.
#[derive(Clone)]
enum Way {
    Socket(PathBuf),
    Mesh(Arc<Via>),
}

/// Lines of JSON as they come.
pub struct Lines {
    body: Incoming,
    buffer: BytesMut,
    client: Client,
}

impl Client {
    /// A client of the daemon behind this socket.
    pub fn new(socket: PathBuf) -> Self {
        Client { way: Way::Socket(socket), progress: None }
    }

    /// A client of the node to which this way leads.
    pub fn via(via: Arc<Via>) -> Self {
        Client { way: Way::Mesh(via), progress: None }
    }

    /// The same client, which shows the progress of large uploads.
    pub fn showing(self, context: &Context) -> Self {
        Client { progress: Some(Arc::new(Mutex::new(Progress::new(context)))), ..self }
    }

    /// The value at `path`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        parse(&self.get_bytes(path).await?)
    }

    /// The bytes at `path`, as they come.
    pub async fn get_bytes(&self, path: &str) -> Result<Bytes, ApiError> {
        let response = self.send(Method::GET, path, Bytes::new(), ANSWER_WITHIN).await?;
        self.collect(response).await
    }

    /// The lines at `path`.
    pub async fn lines(&self, path: &str) -> Result<Lines, ApiError> {
        let response = self.send(Method::GET, path, Bytes::new(), ANSWER_WITHIN).await?;
        Ok(self.lines_of(response))
    }

    fn lines_of(&self, response: Response<Incoming>) -> Lines {
        Lines { body: response.into_body(), buffer: BytesMut::new(), client: self.clone() }
    }

    /// Sends `body` as JSON and returns the answer.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ApiError> {
        let response = self.post_json(path, body, ANSWER_WITHIN).await?;
        parse(&self.collect(response).await?)
    }

    /// Sends `body` as JSON and returns the lines of the answer.
    pub async fn post_lines(&self, path: &str, body: &impl Serialize) -> Result<Lines, ApiError> {
        let response = self.post_json(path, body, ANSWER_WITHIN).await?;
        Ok(self.lines_of(response))
    }

    /// Sends `body` as JSON to a path whose work may take minutes, and returns the answer.
    pub async fn post_slow(&self, path: &str, body: &impl Serialize) -> Result<Bytes, ApiError> {
        let response = self.post_json(path, body, UPLOADED_WITHIN).await?;
        self.collect(response).await
    }

    async fn post_json(
        &self,
        path: &str,
        body: &impl Serialize,
        within: Duration,
    ) -> Result<Response<Incoming>, ApiError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| internal(format!("the request cannot be written: {error}")))?;
        self.send(Method::POST, path, body.into(), within).await
    }

    /// Asks for the stream of a session.
    pub async fn upgrade(&self, path: &str) -> Result<TokioIo<Upgraded>, ApiError> {
        let nothing = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
        let request = Self::request(Method::GET, path, nothing)?;
        let (mut parts, body) = request.into_parts();
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(header::UPGRADE, HeaderValue::from_static(PROTOCOL));
        let answer = self.exchange(Request::from_parts(parts, body), ANSWER_WITHIN).await?;
        let upgraded = hyper::upgrade::on(answer).await.map_err(|error| self.left(&error))?;
        Ok(TokioIo::new(upgraded))
    }

    async fn collect(&self, response: Response<Incoming>) -> Result<Bytes, ApiError> {
        let body = response.into_body().collect().await.map_err(|error| self.left(&error))?;
        Ok(body.to_bytes())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        within: Duration,
    ) -> Result<Response<Incoming>, ApiError> {
        let body = Full::new(body).map_err(|never| match never {}).boxed_unsync();
        self.send_body(method, path, body, within).await
    }

    /// Sends one request. An answer without success becomes the error in it.
    async fn send_body(
        &self,
        method: Method,
        path: &str,
        body: UnsyncBoxBody<Bytes, io::Error>,
        within: Duration,
    ) -> Result<Response<Incoming>, ApiError> {
        self.exchange(Self::request(method, path, body)?, within).await
    }

    fn request(
        method: Method,
        path: &str,
        body: UnsyncBoxBody<Bytes, io::Error>,
    ) -> Result<Request<UnsyncBoxBody<Bytes, io::Error>>, ApiError> {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "shoal")
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| internal(format!("the request cannot be made: {error}")))
    }

    async fn exchange(
        &self,
        request: Request<UnsyncBoxBody<Bytes, io::Error>>,
        within: Duration,
    ) -> Result<Response<Incoming>, ApiError> {
        let stream: Box<dyn Duplex> = match &self.way {
            Way::Socket(socket) => {
                let connected = UnixStream::connect(socket).await;
                Box::new(connected.map_err(|error| no_daemon(socket, &error))?)
            }
            Way::Mesh(via) => Box::new(via.open().await?),
        };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.left(&error))?;
        tokio::spawn(async move {
            // A broken connection fails the request on it, which reports the error.
            let _ = connection.with_upgrades().await;
        });
        let response = match timeout(within, sender.send_request(request)).await {
            Ok(answered) => answered.map_err(|error| self.left(&error))?,
            Err(_) => {
                let message =
                    format!("{} did not answer within {} s", self.place(), within.as_secs());
                return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, NO_DAEMON, message));
            }
        };
        if response.status().is_success() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let status = response.status();
        let bytes = self.collect(response).await?;
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(body) => Err(ApiError::from_body(status, body)),
            Err(_) => {
                Err(ApiError::new(status, "unknown", format!("the daemon answered {status}")))
            }
        }
    }

    fn left(&self, error: &hyper::Error) -> ApiError {
        let message = format!("{} went away: {error}", self.place());
        let hint = match &self.way {
            Way::Socket(_) => "Was it stopped? Look at its standard error.",
            Way::Mesh(_) => {
                "Was it stopped, the way to it cut, or the key revoked? Try again to see."
            }
        };
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, NO_DAEMON, message).hint(hint)
    }

    /// The daemon, for people.
    fn place(&self) -> String {
        match &self.way {
            Way::Socket(socket) => format!("the daemon at {}", socket.display()),
            Way::Mesh(via) => format!("the node at {}", via.place()),
        }
    }
}

impl Lines {
    /// The next value; `None` at the end.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ApiError> {
        match self.next_line().await? {
            Some(line) => parse(&line).map(Some),
            None => Ok(None),
        }
    }

    /// The next line with its line feed; `None` at the end.
    pub async fn next_line(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.buffer.split_to(end + 1).freeze()));
            }
            if self.buffer.len() > LINE {
                return Err(internal(format!("the daemon sent a line of more than {LINE} bytes")));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    self.buffer.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new()))
                }
                Some(Err(error)) => return Err(self.client.left(&error)),
                None => return Ok(None),
            }
        }
    }
}

impl Door for Client {
    async fn holds(&self, digest: &Digest) -> Result<bool, ApiError> {
        match self
            .send(Method::HEAD, &format!("/v1/artifacts/{digest}"), Bytes::new(), ANSWER_WITHIN)
            .await
        {
            Ok(_) => Ok(true),
            Err(error) if error.status == StatusCode::NOT_FOUND => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn upload(&self, kind: ProgramKind, part: &Part) -> Result<(), ApiError> {
        let path = format!("/v1/artifacts/{}?runtime={kind}", part.artifact.digest);
        let (progress, size) = (self.progress.clone(), part.artifact.size);
        let progress = progress.filter(|_| size >= SHOWN);
        let what = format!("sending part {}", part.artifact.digest.short());
        let mut sent = 0;
        let chunks = ReaderStream::with_capacity(part.reader(), CHUNK).inspect_ok(move |chunk| {
            sent += chunk.len() as u64;
            if let Some(progress) = &progress {
                let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
                progress.show(&what, sent, size);
            }
        });
        let frames = chunks.map_ok(Frame::data);
        let body = BodyExt::boxed_unsync(StreamBody::new(frames));
        self.send_body(Method::PUT, &path, body, UPLOADED_WITHIN).await.map(drop)
    }

    async fn resolve(
        &self,
        asked: &ResolveBody,
        told: &mut (dyn FnMut(ImageProgress) + Send),
    ) -> Result<ResolvedImage, ApiError> {
        let mut lines = self.post_lines("/v1/images/resolve", asked).await?;
        while let Some(line) = lines.next::<ResolveLine>().await? {
            match line {
                ResolveLine::Progress(progress) => told(progress),
                ResolveLine::Done(resolved) => return Ok(*resolved),
                ResolveLine::Failed { status, body } => {
                    let status = StatusCode::from_u16(status);
                    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                    return Err(ApiError::from_body(status, body));
                }
            }
        }
        let message = "the daemon went away before it had found the image";
        Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, NO_DAEMON, message))
    }

    async fn prepare(&self, proposal: Proposal) -> Result<Prepared, ApiError> {
        let answer: PreparedBody = self.post("/v1/prepare", &PrepareBody::from(proposal)).await?;
        answer.try_into().map_err(|error| nonsense(&error))
    }

    async fn submit(&self, change: RawChange) -> Result<Accepted, ApiError> {
        let answer: AcceptedBody = self.post("/v1/submit", &SubmitBody::from(&change)).await?;
        answer.try_into().map_err(|error| nonsense(&error))
    }
}

/// The path of a workload below `/v1/{what}`.
pub fn path_of(what: &str, name: &WorkloadName) -> String {
    format!("/v1/{what}/{}/{}", name.namespace, name.name)
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(bytes).map_err(|error| {
        internal(format!("the daemon's answer makes no sense ({error}): is it another version?"))
    })
}

/// The error of an answer whose form is right, and whose values are not.
fn nonsense(error: &BadAnswer) -> ApiError {
    internal(format!("the node's answer makes no sense: {error}"))
}

fn internal(message: String) -> ApiError {
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", message)
}
