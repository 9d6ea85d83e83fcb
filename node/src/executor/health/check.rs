//! One check of a replica: a request, a connection, or a command in it.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use http::header::{CONNECTION, HOST, HeaderName, USER_AGENT};
use http::{HeaderValue, Method, Request, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use shoal_protocol::model::access::Exec;
use shoal_protocol::model::spec::{Check, Container, NetworkMode};
use shoal_protocol::model::{Spec, WorkloadName};
use shoal_runtimes::session::{Doors, Output, SessionError};
use shoal_runtimes::{Body, Endpoint, InstanceId, Runtime, ServeError, body};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes of a command's last output that are shown with its failure.
const SHOWN: usize = 120;
/// Bytes of a command's output that are kept to find its last line.
const KEPT: usize = 512;
/// Time in which an engine's proxy closes a connection when nothing listens behind it.
const CLOSE: Duration = Duration::from_millis(100);
/// Time for the container's own address before a port of the device is tried.
const DIRECT: Duration = Duration::from_secs(1);

/// A check did not succeed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Trouble {
    /// The replica failed it.
    Failed {
        /// The failure, in words that are the same while it is.
        what: String,
        /// More that may differ each time, such as a line of output; empty for nothing.
        detail: String,
    },
    /// Nothing is known of the replica: it has as many requests as it takes, or the engine does not
    /// answer. Such a check counts as none.
    Unknown,
}

impl Trouble {
    pub(super) fn failed(what: impl Into<String>) -> Trouble {
        Trouble::Failed { what: what.into(), detail: String::new() }
    }
}

/// The instance that is checked.
#[derive(Clone)]
pub(super) struct Target {
    pub runtime: Arc<dyn Runtime>,
    pub id: InstanceId,
    /// The host that requests name.
    host: String,
    /// The container's HTTP port.
    http: Option<u16>,
    /// The container's network; none for a component.
    network: Option<NetworkMode>,
    /// The container of a group that is checked; none for the main one.
    pub container: Option<String>,
}

impl Target {
    pub(super) fn new(
        runtime: Arc<dyn Runtime>,
        id: InstanceId,
        name: &WorkloadName,
        spec: &Spec,
    ) -> Target {
        let container = spec.program.containers().first();
        Target {
            runtime,
            id,
            host: format!("{}.{}.shoal", name.name, name.namespace),
            http: container.and_then(|it| it.http),
            network: container.map(|it| it.network),
            container: None,
        }
    }

    /// The same for another container of the group.
    pub(super) fn of(self, container: Option<&Container>) -> Target {
        let Some(container) = container else { return self };
        Target { http: container.http, container: Some(container.name.clone()), ..self }
    }

    /// Carries out a check. It takes as long as it takes: the caller bounds it.
    pub(super) async fn check(&self, check: &Check) -> Result<(), Trouble> {
        match check {
            Check::Http { path, port, headers } => {
                let request = self.request(path, headers)?;
                self.ask(request, *port).await
            }
            Check::Tcp { port } => self.connect(*port, true).await.map(drop),
            Check::Exec { command } => self.exec(command).await,
        }
    }

    /// The question of a check, for the message that no answer came.
    pub(super) fn question(&self, check: &Check) -> String {
        let at =
            |port: Option<u16>| port.map(|port| format!(" at port {port}")).unwrap_or_default();
        match check {
            Check::Http { path, port, .. } => format!("GET {path}{}", at(port.or(self.http))),
            Check::Tcp { port } => format!("a connection to port {port}"),
            Check::Exec { command } => format!("`{}`", command.join(" ")),
        }
    }

    fn request<'a>(
        &self,
        path: &str,
        headers: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Result<Request<Body>, Trouble> {
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(path)
            .header(HOST, &self.host)
            .header(USER_AGENT, concat!("shoal-probe/", env!("CARGO_PKG_VERSION")))
            .body(body(bytes::Bytes::new()))
            // A valid spec has a path, so this is for what no check foresaw.
            .map_err(|error| Trouble::failed(format!("no request can be made: {error}")))?;
        for (name, value) in headers {
            let parsed = (name.parse::<HeaderName>(), HeaderValue::from_str(value));
            if let (Ok(name), Ok(value)) = parsed {
                request.headers_mut().insert(name, value);
            }
        }
        Ok(request)
    }

    async fn ask(&self, request: Request<Body>, port: Option<u16>) -> Result<(), Trouble> {
        let path = request.uri().path().to_owned();
        let status = match self.service(port)? {
            Some(Endpoint::InProcess(service)) => {
                service.call(request).await.map_err(of_service)?.status()
            }
            Some(Endpoint::Tcp(address)) => {
                let stream = TcpStream::connect(address).await;
                let stream = stream.map_err(|error| not_connected(address.port(), &error))?;
                over(stream, request).await?.status()
            }
            None => {
                let port = port.or(self.http).unwrap_or_default();
                over(self.connect(port, false).await?, request).await?.status()
            }
        };
        match status.as_u16() {
            200..=399 => Ok(()),
            code => Err(Trouble::failed(format!("HTTP {code} from GET {path}"))),
        }
    }

    /// The place that takes the workload's own requests, if the check goes there.
    fn service(&self, port: Option<u16>) -> Result<Option<Endpoint>, Trouble> {
        let is_own = port.is_none() || port == self.http;
        match self.runtime.endpoint(&self.id) {
            Ok(endpoint) if is_own => Ok(Some(endpoint)),
            Ok(_) => Ok(None),
            // A container that does not listen there yet.
            Err(ServeError::NotRunning { .. }) if self.network.is_some() => Ok(None),
            Err(ServeError::NoRequests(_)) if !is_own => Ok(None),
            Err(error) => Err(of_service(error)),
        }
    }

    /// A connection to a port of the container. With `proven`, one that a proxy has not closed.
    async fn connect(&self, port: u16, proven: bool) -> Result<TcpStream, Trouble> {
        let doors = self.doors(port).await?;
        let mut why = None;
        if let Some(direct) = doors.direct {
            let first = TcpStream::connect(direct);
            match timeout(DIRECT, first).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => {
                    return Err(not_connected(port, &error));
                }
                Ok(Err(error)) => why = Some(not_connected(port, &error)),
                Err(_) => {}
            }
        }
        let Some(published) = doors.published else {
            let late =
                || Trouble::failed(format!("no connection to port {port} within {DIRECT:?}"));
            return Err(why.unwrap_or_else(late));
        };
        let stream = TcpStream::connect(published).await;
        let stream = stream.map_err(|error| not_connected(port, &error))?;
        if proven {
            let mut first = [0; 1];
            // A program that speaks first, or none that closes at once, listens.
            if let Ok(Ok(0) | Err(_)) = timeout(CLOSE, stream.peek(&mut first)).await {
                return Err(refused(port));
            }
        }
        Ok(stream)
    }

    async fn doors(&self, port: u16) -> Result<Doors, Trouble> {
        let direct = |address: SocketAddr| Doors { direct: Some(address), published: None };
        if self.network == Some(NetworkMode::Host) {
            return Ok(direct((Ipv4Addr::LOCALHOST, port).into()));
        }
        // Its own address, as it is now: the engine need not be asked.
        if let Ok(Endpoint::Tcp(own)) = self.runtime.endpoint(&self.id)
            && !own.ip().is_loopback()
        {
            return Ok(direct((own.ip(), port).into()));
        }
        self.runtime.doors(&self.id, port).await.map_err(of_session)
    }

    async fn exec(&self, command: &[String]) -> Result<(), Trouble> {
        let exec = Exec {
            command: command.to_vec(),
            env: Vec::new(),
            user: None,
            workdir: None,
            input: false,
            terminal: None,
        };
        let process = match &self.container {
            None => self.runtime.exec(&self.id, exec).await,
            Some(container) => self.runtime.exec_in(&self.id, container, exec).await,
        };
        let mut process = process.map_err(of_session)?;
        let mut last = Vec::new();
        while let Some(piece) = process.output.next().await {
            let Ok(Output::Out(bytes) | Output::Err(bytes)) = piece else { break };
            last.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT)..]);
            last.drain(..last.len().saturating_sub(KEPT));
        }
        let program = &command[0];
        match process.control.exit_code().await {
            Some(0) => Ok(()),
            Some(code) => Err(Trouble::Failed {
                what: format!("`{program}` ended with {code}"),
                detail: last_line(&last),
            }),
            None => Err(Trouble::Unknown),
        }
    }
}

/// Sends a request over a connection of its own.
async fn over(
    stream: TcpStream,
    request: Request<Body>,
) -> Result<Response<hyper::body::Incoming>, Trouble> {
    let mut request = request;
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    let broken = |error: hyper::Error| {
        Trouble::failed(match error.is_incomplete_message() {
            true => "the connection was closed without an answer".to_owned(),
            false => format!("the answer is no HTTP: {error}"),
        })
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        answer = sender.send_request(request) => answer.map_err(broken),
        Err(error) = &mut connection => Err(broken(error)),
    }
}

fn refused(port: u16) -> Trouble {
    Trouble::failed(format!("connection refused at port {port}; does the program listen there?"))
}

fn not_connected(port: u16, error: &std::io::Error) -> Trouble {
    match error.kind() {
        ErrorKind::ConnectionRefused => refused(port),
        _ => Trouble::failed(format!("no connection to port {port}: {error}")),
    }
}

fn of_service(error: ServeError) -> Trouble {
    match error {
        // Whether it is well cannot be told by a request that it was not asked.
        ServeError::Unknown(_)
        | ServeError::NotRunning { .. }
        | ServeError::Busy { .. }
        | ServeError::Client { .. }
        | ServeError::Device(_) => Trouble::Unknown,
        ServeError::Guest { reason, .. } => Trouble::failed(format!("it {reason}")),
        ServeError::NoRequests(_) | ServeError::Unreachable { .. } | ServeError::Request { .. } => {
            Trouble::failed(error.to_string())
        }
    }
}

fn of_session(error: SessionError) -> Trouble {
    match error {
        SessionError::NotRunning(_) | SessionError::Engine(_) | SessionError::InUse(_) => {
            Trouble::Unknown
        }
        SessionError::Unsupported(why) => Trouble::failed(why),
        SessionError::Refused(why) => Trouble::failed(why),
    }
}

/// The last line of some output that has anything in it, as plain text.
fn last_line(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
    let plain = |c: &char| !c.is_control();
    line.unwrap_or_default().chars().filter(plain).take(SHOWN).collect()
}
