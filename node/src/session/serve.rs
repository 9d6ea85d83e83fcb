//! The end of a session on the replica's node: it judges the request, and carries it out.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use shoal_protocol::model::access::Action;
use shoal_protocol::model::{NodeId, ReplicaName};
use shoal_protocol::trust::{Genesis, accept_access};
use shoal_runtimes::session::{Duplex, Output, Process, SessionError};
use shoal_runtimes::{Endpoint, InstanceId, Service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::info;

use super::frame::{ALIVE_EVERY, Failed, Frame, Frames, Receiver, Sender};
use crate::api::{ApiError, Core};
use crate::driver;
use crate::identity;
use crate::runtimes::RuntimeSet;

/// Time for the operator to sign.
const SIGNED_WITHIN: Duration = Duration::from_secs(60);
/// Time for an operator that is still sending to see why the session has ended.
const LAST_INPUT: Duration = Duration::from_secs(5);
/// Bytes that are read from a connection at a time.
const READ: usize = 32 * 1024;
/// Pieces of an archive that wait for the engine.
const WAITING: usize = 4;
/// Bytes on their way to a guest in this process.
const PIPE: usize = 64 * 1024;

/// The node whose replicas take sessions.
#[derive(Clone)]
pub struct Host {
    /// The node.
    pub node: NodeId,
    /// The cluster whose operators may open them.
    pub genesis: Genesis,
    /// The runtimes of the node.
    pub runtimes: RuntimeSet,
    /// A folder for archives that are not whole yet.
    pub spool: PathBuf,
    /// Knows who was revoked.
    pub core: Arc<dyn Core>,
}

impl Host {
    /// A host of this cluster.
    pub fn new(
        node: NodeId,
        root: shoal_protocol::model::PublicKey,
        runtimes: RuntimeSet,
        spool: PathBuf,
        core: Arc<dyn Core>,
    ) -> Self {
        Host { node, genesis: Genesis { root }, runtimes, spool, core }
    }
}

/// Serves a session with a replica that runs here, as `instance`, until it ends.
pub async fn serve(host: Host, replica: ReplicaName, instance: InstanceId, mut frames: Frames) {
    let begun = begin(&host, &replica, &mut frames).await;
    let served = match begun {
        Ok(action) => act(&host, &replica, &instance, action, &mut frames).await,
        Err(error) => Err(error),
    };
    conclude(served, frames).await;
}

/// Tells the operator why a session has failed, if it has.
pub(super) async fn conclude(served: Result<(), Ended>, mut frames: Frames) {
    if let Err(Ended::Refused(failed)) = served {
        // The operator may have gone meanwhile.
        if frames.sender.send([Frame::Failed(failed)]).await.is_ok() {
            // A close with unread input would take the error away from the operator.
            let rest = async { while frames.receiver.next().await.is_ok() {} };
            let _ = timeout(LAST_INPUT, rest).await;
        }
    }
}

/// Why a session ended early.
pub(super) enum Ended {
    /// With an error that the operator is told.
    Refused(Failed),
    /// The operator has gone.
    Gone,
}

impl From<io::Error> for Ended {
    fn from(_: io::Error) -> Self {
        Ended::Gone
    }
}

impl From<ApiError> for Ended {
    fn from(error: ApiError) -> Self {
        Ended::Refused(error.into())
    }
}

impl From<SessionError> for Ended {
    fn from(error: SessionError) -> Self {
        let (status, code) = match error {
            SessionError::NotRunning(_) => (StatusCode::NOT_FOUND, "not-running"),
            SessionError::Unsupported(_) => (StatusCode::UNPROCESSABLE_ENTITY, "unsupported"),
            SessionError::Refused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            SessionError::Engine(_) => (StatusCode::SERVICE_UNAVAILABLE, "engine"),
            SessionError::InUse(_) => (StatusCode::CONFLICT, "in-use"),
        };
        ApiError::new(status, code, error.to_string()).into()
    }
}

/// Judges the operator's request: who it is, and what is asked.
pub(super) async fn begin(
    host: &Host,
    replica: &ReplicaName,
    frames: &mut Frames,
) -> Result<(String, Action), Ended> {
    let random = |error: identity::IdentityError| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error.to_string())
    };
    let nonce: [u8; 32] = identity::random().map_err(random)?;
    frames.sender.send([Frame::Challenge { node: host.node, nonce }]).await?;
    let opened = timeout(SIGNED_WITHIN, frames.receiver.next()).await.map_err(|_| Ended::Gone)?;
    let refused =
        |why: String| Ended::from(ApiError::new(StatusCode::FORBIDDEN, "not-allowed", why));
    let Frame::Open(raw) = opened? else {
        return Err(refused("a signed request is expected".into()));
    };
    let grant = raw.chain.peek();
    let (chain, by) = (raw.chain.clone(), raw.access.by());
    let access = accept_access(&host.genesis, raw, driver::wall())
        .map_err(|error| refused(format!("the operator's signature is not accepted: {error}")))?;
    if let Some(key) = host.core.ended(chain, by).await.map_err(ApiError::from)? {
        return Err(refused(format!("key {} was revoked", key.short())));
    }
    let is_meant = access.node == host.node
        && access.nonce == nonce
        && access.workload == replica.workload
        && access.place == replica.place;
    if !is_meant {
        return Err(refused("the request was signed for another session".into()));
    }
    let by = grant.map_or_else(|| access.by().short(), |it| it.name);
    Ok((by, access.body().action.clone()))
}

async fn act(
    host: &Host,
    replica: &ReplicaName,
    id: &InstanceId,
    (by, action): (String, Action),
    frames: &mut Frames,
) -> Result<(), Ended> {
    let Frames { receiver, sender } = frames;
    let say = |doing: &str| info!(target: "shoal", "{replica}: operator {by} {doing}");
    match action {
        Action::Exec(exec) => {
            let command = exec.command.join(" ");
            let process = host.runtimes.sessions(id)?.exec(id, exec).await?;
            say(&format!("runs `{}`", command.chars().take(200).collect::<String>()));
            sender.send([Frame::Opened]).await?;
            run(process, receiver, sender).await
        }
        Action::ExecIn { container, exec } => {
            let command = exec.command.join(" ");
            let process = host.runtimes.sessions(id)?.exec_in(id, &container, exec).await?;
            let shown = command.chars().take(200).collect::<String>();
            say(&format!("runs `{shown}` in `{container}`"));
            sender.send([Frame::Opened]).await?;
            run(process, receiver, sender).await
        }
        Action::Attach | Action::Interact { .. } => {
            let (input, doing) = match action {
                Action::Interact { terminal } => (Some(terminal), "is attached, with input"),
                _ => (None, "is attached"),
            };
            let process = host.runtimes.sessions(id)?.attach(id, input).await?;
            say(doing);
            sender.send([Frame::Opened]).await?;
            run(process, receiver, sender).await
        }
        Action::Read { path } => {
            let mut archive = host.runtimes.sessions(id)?.read(id, path.clone()).await?;
            say(&format!("reads {path}"));
            sender.send([Frame::Opened]).await?;
            while let Some(chunk) = archive.next().await {
                let chunk = chunk.map_err(|error| broke_off(&error))?;
                sender.send(Frame::data(&chunk)).await?;
            }
            Ok(sender.send([Frame::End, Frame::Exit(None)]).await?)
        }
        Action::Write { path } => {
            let runtime = host.runtimes.sessions(id)?;
            say(&format!("writes to {path}"));
            sender.send([Frame::Opened]).await?;
            let (pieces, archive) = mpsc::channel(WAITING);
            let archive = futures::stream::unfold(archive, |mut archive| async {
                archive.recv().await.map(|piece| (piece, archive))
            });
            let mut written = runtime.write(id, path, archive.boxed());
            let result = tokio::select! {
                written = &mut written => written,
                came = archive_of(receiver, pieces) => match came {
                    Ok(()) => alive_until(written, sender).await?,
                    Err(gone) => return Err(gone.into()),
                },
            };
            result?;
            Ok(sender.send([Frame::Exit(None)]).await?)
        }
        Action::Connect { port } => {
            let stream = connect(&host.runtimes, id, port).await?;
            say(&format!("is connected to port {port}"));
            sender.send([Frame::Opened]).await?;
            copy(stream, receiver, sender).await
        }
        Action::ReadVolume { .. } | Action::WriteVolume { .. } | Action::RemoveVolume { .. } => {
            let why = "a volume is asked for at the node that keeps it, not at its replica";
            Err(ApiError::invalid(why).into())
        }
    }
}

pub(super) fn broke_off(error: &io::Error) -> ApiError {
    let why = format!("the engine broke off the archive: {error}");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "engine", why)
}

/// Hands the operator's archive over, piece by piece. An archive that breaks off fails the engine's
/// work on it.
async fn archive_of(
    receiver: &mut Receiver,
    pieces: mpsc::Sender<io::Result<Bytes>>,
) -> io::Result<()> {
    loop {
        match receiver.next().await {
            Ok(Frame::Data(piece)) => {
                if pieces.send(Ok(piece.0.into())).await.is_err() {
                    // The engine takes no more: its answer says why.
                    return Ok(());
                }
            }
            Ok(Frame::End) => return Ok(()),
            Ok(_) => {}
            Err(error) => {
                let _ = pieces.send(Err(io::Error::other("the archive broke off"))).await;
                return Err(error);
            }
        }
    }
}

/// Waits for `work`, while the operator is told that it goes on.
pub(super) async fn alive_until<T>(
    work: impl Future<Output = T>,
    sender: &mut Sender,
) -> io::Result<T> {
    let mut work = std::pin::pin!(work);
    loop {
        tokio::select! {
            done = work.as_mut() => return Ok(done),
            () = sleep(ALIVE_EVERY) => sender.send([Frame::Alive]).await?,
        }
    }
}

/// Carries input, output and the size of the terminal until the process has ended, or the operator
/// has gone.
async fn run(process: Process, receiver: &mut Receiver, sender: &mut Sender) -> Result<(), Ended> {
    let Process { mut output, mut input, control } = process;
    let inward = async {
        loop {
            match receiver.next().await? {
                Frame::Data(bytes) => {
                    if let Some(to) = &mut input
                        && to.write_all(&bytes.0).await.is_err()
                    {
                        // The process reads no more.
                        input = None;
                    }
                }
                Frame::End => {
                    if let Some(mut to) = input.take() {
                        let _ = to.shutdown().await;
                    }
                }
                Frame::Resize { columns, rows } => control.resize(columns, rows).await,
                _ => {}
            }
        }
    };
    let outward = async {
        loop {
            match alive_until(output.next(), sender).await? {
                Some(Ok(Output::Out(bytes))) => sender.send(Frame::data(&bytes)).await?,
                Some(Ok(Output::Err(bytes))) => sender.send(Frame::error_data(&bytes)).await?,
                Some(Err(error)) => return Err(broke_off(&error).into()),
                None => break,
            }
        }
        let code = control.exit_code().await;
        Ok::<_, Ended>(sender.send([Frame::End, Frame::Exit(code)]).await?)
    };
    tokio::select! {
        biased;
        done = outward => done,
        gone = inward => gone,
    }
}

/// A connection to a port of an instance. A guest in this process answers HTTP on any port.
pub(crate) async fn connect(
    runtimes: &RuntimeSet,
    id: &InstanceId,
    port: u16,
) -> Result<Box<dyn Duplex>, SessionError> {
    match runtimes.endpoint(id) {
        Ok(Endpoint::InProcess(service)) => Ok(in_process(service)),
        Ok(Endpoint::Tcp(_)) | Err(_) => runtimes.sessions(id)?.connect(id, port).await,
    }
}

fn in_process(service: Arc<dyn Service>) -> Box<dyn Duplex> {
    let (near, far) = tokio::io::duplex(PIPE);
    tokio::spawn(async move {
        let answer = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let service = service.clone();
            async move {
                let request = request.map(|body| {
                    let plain = http_body_util::BodyExt::map_err(body, |error| error.into());
                    http_body_util::BodyExt::boxed_unsync(plain)
                });
                let answered = service.call(request).await;
                Ok::<_, std::convert::Infallible>(
                    answered.unwrap_or_else(|error| error.into_response()),
                )
            }
        });
        // It ends with the operator's connection.
        let _ = http1::Builder::new().serve_connection(TokioIo::new(far), answer).await;
    });
    Box::new(near)
}

/// Copies bytes both ways until both have ended.
async fn copy(
    stream: Box<dyn Duplex>,
    receiver: &mut Receiver,
    sender: &mut Sender,
) -> Result<(), Ended> {
    let (mut read, mut write) = tokio::io::split(stream);
    let inward = async {
        loop {
            match receiver.next().await? {
                Frame::Data(bytes) if write.write_all(&bytes.0).await.is_err() => return Ok(()),
                Frame::End => {
                    let _ = write.shutdown().await;
                    return Ok::<_, io::Error>(());
                }
                _ => {}
            }
        }
    };
    let outward = async {
        let mut buffer = vec![0; READ];
        loop {
            match alive_until(read.read(&mut buffer), sender).await? {
                Ok(0) | Err(_) => return sender.send([Frame::End]).await,
                Ok(length) => sender.send(Frame::data(&buffer[..length])).await?,
            }
        }
    };
    tokio::try_join!(inward, outward)?;
    Ok(sender.send([Frame::Exit(None)]).await?)
}
