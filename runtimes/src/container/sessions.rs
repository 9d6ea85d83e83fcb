//! Commands, output, files and ports of a running container.
//!
//! Requests of our own: the engine's streams are read by whether there is a terminal, which is
//! known here, and a client that guesses it from the bytes may guess wrong.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use shoal_protocol::model::access::Exec;
use shoal_protocol::model::spec::NetworkMode;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::Containers;
use super::engine::{Engine, within};
use super::instance::Instance;
use super::raw::{self, encode};
use super::refusal::CallError;
use super::volumes::{Hold, NotDone};
use super::{volume_files, volumes};
use crate::model::{InstanceId, Payload, VolumeKey};
use crate::session::{Chunks, Control, Doors, Duplex, Output, Process, SessionError, Sessions};

/// Time for the engine to begin a session.
const BEGIN: Duration = Duration::from_secs(20);
/// Time for a container's port to take a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for the engine to note that a command has ended, after its output has.
const ENDED: Duration = Duration::from_secs(5);
/// The pause between two looks whether it has.
const LOOK: Duration = Duration::from_millis(20);
/// Bytes that are read at a time.
const READ: usize = 32 * 1024;
/// The most bytes of one frame of output.
const MAX_FRAME: usize = 1 << 20;

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Made {
    id: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Ran {
    running: Option<bool>,
    exit_code: Option<i64>,
    /// Of a container, where the two stand in it.
    state: Option<Box<Ran>>,
}

/// A command that was started, or a container's own program.
struct Running {
    engine: Arc<Engine>,
    /// The engine's path of it: `/exec/ID` or `/containers/ID`.
    path: String,
}

impl Control for Running {
    fn resize(&self, columns: u16, rows: u16) -> BoxFuture<'_, ()> {
        let path = format!("{}/resize?w={columns}&h={rows}", self.path);
        async move {
            let nothing = json!({});
            let resized = raw::post_json(&self.engine.socket, &path, &nothing);
            // A command that has just ended has no terminal any more.
            if let Err(error) = within(BEGIN, resized).await {
                tracing::debug!("a terminal keeps its size: {error}");
            }
        }
        .boxed()
    }

    fn exit_code(&self) -> BoxFuture<'_, Option<i64>> {
        exit_code(&self.engine.socket, &self.path).boxed()
    }
}

/// Runs a command in a container to its end: its exit code, where the engine knows it, and what
/// `line` was told of its output.
pub(super) async fn run_to_end(
    engine: &Engine,
    container: &str,
    body: &Value,
    mut piece: impl FnMut(&[u8]),
) -> Result<Option<i64>, CallError> {
    let path = format!("/containers/{container}/exec");
    let made = raw::post_json(&engine.socket, &path, body);
    let made: Made = parse(&within(BEGIN, made).await?);
    let path = format!("/exec/{}", made.id);
    let start = json!({ "Detach": false, "Tty": false });
    let begin = format!("{path}/start");
    let started = raw::hijack(&engine.socket, &begin, &start);
    let mut output = framed(within(BEGIN, started).await?, false);
    while let Some(Ok(one)) = output.next().await {
        if !is_noise(&one) {
            let (Output::Out(bytes) | Output::Err(bytes)) = &one;
            piece(bytes);
        }
    }
    Ok(exit_code(&engine.socket, &path).await)
}

/// The exit code of a command that has ended, or is about to.
async fn exit_code(socket: &Path, path: &str) -> Option<i64> {
    let look = async {
        loop {
            let path = format!("{path}/json");
            let ran: Ran = raw::get(socket, &path).await.ok()?;
            let ran =
                ran.state.map_or((ran.running, ran.exit_code), |it| (it.running, it.exit_code));
            // Podman has the code 0 before the end: only what does not run has ended.
            if let (Some(false), code) = ran {
                return code;
            }
            sleep(LOOK).await;
        }
    };
    timeout(ENDED, look).await.ok().flatten()
}

impl Containers {
    /// The engine's id for the container of a running instance: of a group the main one.
    fn running(&self, id: &InstanceId) -> Result<String, SessionError> {
        self.held(id)?.container().ok_or_else(|| SessionError::NotRunning(id.clone()))
    }

    /// The engine's id for the container that has the network of a running instance.
    fn reached(&self, id: &InstanceId) -> Result<String, SessionError> {
        self.held(id)?.network().ok_or_else(|| SessionError::NotRunning(id.clone()))
    }

    /// The engine's id for a container of a running group, by its name.
    fn running_one(&self, id: &InstanceId, name: &str) -> Result<String, SessionError> {
        let instance = self.held(id)?;
        if let Some(container) = instance.container_of(name) {
            return Ok(container);
        }
        let Payload::Container(payload) = &instance.launch.payload else {
            return Err(SessionError::NotRunning(id.clone()));
        };
        let names: Vec<&str> = payload.containers().map(|it| it.name.as_str()).collect();
        Err(SessionError::Refused(match names.contains(&name) {
            true => format!("its container `{name}` does not run now"),
            false => format!("it has no container `{name}`, but {}", names.join(", ")),
        }))
    }

    fn held(&self, id: &InstanceId) -> Result<Arc<Instance>, SessionError> {
        let instance = self.shared.lock().get(id).cloned();
        let alive = instance.filter(|it| it.is_alive());
        alive.ok_or_else(|| SessionError::NotRunning(id.clone()))
    }

    /// Runs a command in a container.
    fn run(
        &self,
        container: Result<String, SessionError>,
        exec: Exec,
    ) -> BoxFuture<'_, Result<Process, SessionError>> {
        async move {
            let engine = self.shared.engine.clone();
            let has_terminal = exec.terminal.is_some();
            let body = json!({
                "AttachStdin": exec.input, "AttachStdout": true, "AttachStderr": true,
                "Tty": has_terminal, "Cmd": exec.command, "Env": exec.env,
                "User": exec.user.unwrap_or_default(),
                "WorkingDir": exec.workdir.unwrap_or_default(),
            });
            let failed = |error| self.error("run the command", error);
            let path = format!("/containers/{}/exec", container?);
            let made = raw::post_json(&engine.socket, &path, &body);
            let made: Made = parse(&within(BEGIN, made).await.map_err(failed)?);
            let path = format!("/exec/{}", made.id);
            let begin = format!("{path}/start");
            // Docker frames output by what the start says, Podman by what the creation said.
            let start = json!({ "Detach": false, "Tty": has_terminal });
            let started = raw::hijack(&engine.socket, &begin, &start);
            let stream = within(BEGIN, started).await.map_err(failed)?;
            let (output, input) = tokio::io::split(stream);
            let control = Running { engine, path };
            if let Some((columns, rows)) = exec.terminal {
                control.resize(columns, rows).await;
            }
            Ok(Process {
                output: framed(output, has_terminal)
                    .try_filter(|piece| std::future::ready(!is_noise(piece)))
                    .boxed(),
                input: exec.input.then(|| Box::pin(input) as _),
                control: Box::new(control),
            })
        }
        .boxed()
    }

    /// Whether the program of an instance has an open standard input, and whether a terminal.
    fn streams(&self, id: &InstanceId) -> (bool, bool) {
        let instance = self.shared.lock().get(id).cloned();
        match instance.as_ref().map(|it| &it.launch.payload) {
            Some(Payload::Container(payload)) => (payload.stdin, payload.tty),
            Some(Payload::Component(_) | Payload::Command(_)) | None => (false, false),
        }
    }

    fn network(&self, id: &InstanceId) -> NetworkMode {
        let instance = self.shared.lock().get(id).cloned();
        match instance.as_ref().map(|it| &it.launch.payload) {
            Some(Payload::Container(payload)) => payload.container.network,
            Some(Payload::Component(_) | Payload::Command(_)) | None => NetworkMode::None,
        }
    }

    fn error(&self, doing: &str, error: CallError) -> SessionError {
        let engine = self.shared.engine.name();
        match error {
            CallError::Refused { message, .. } => {
                SessionError::Refused(format!("{engine} does not {doing}: {message}"))
            }
            error => SessionError::Engine(format!("{engine} did not {doing}: {error}")),
        }
    }
}

impl Sessions for Containers {
    fn exec(&self, id: &InstanceId, exec: Exec) -> BoxFuture<'_, Result<Process, SessionError>> {
        let container = self.running(id);
        self.run(container, exec)
    }

    fn exec_in(
        &self,
        id: &InstanceId,
        container: &str,
        exec: Exec,
    ) -> BoxFuture<'_, Result<Process, SessionError>> {
        let container = self.running_one(id, container);
        self.run(container, exec)
    }

    fn attach(
        &self,
        id: &InstanceId,
        input: Option<(u16, u16)>,
    ) -> BoxFuture<'_, Result<Process, SessionError>> {
        let container = self.running(id);
        let (stdin, tty) = self.streams(id);
        async move {
            let engine = self.shared.engine.clone();
            let path = format!("/containers/{}", container?);
            let takes_input = input.is_some() && stdin;
            let more = if takes_input { "&stdin=1" } else { "" };
            let attach = format!("{path}/attach?stream=1&stdout=1&stderr=1{more}");
            let attached = raw::hijack(&engine.socket, &attach, &Value::Null);
            let failed = |error| self.error("attach to the container", error);
            let stream = within(BEGIN, attached).await.map_err(failed)?;
            let (output, writer) = tokio::io::split(stream);
            let control = Running { engine, path };
            if let Some((columns, rows)) = input.filter(|_| tty) {
                control.resize(columns, rows).await;
            }
            Ok(Process {
                output: framed(output, tty),
                input: takes_input.then(|| Box::pin(writer) as _),
                control: Box::new(control),
            })
        }
        .boxed()
    }

    fn read(&self, id: &InstanceId, path: String) -> BoxFuture<'_, Result<Chunks, SessionError>> {
        let container = self.running(id);
        async move {
            let path = format!("/containers/{}/archive?path={}", container?, encode(&path));
            let chunks = raw::chunks(&self.shared.engine.socket, &path);
            let failed = |error| self.error("give the files", error);
            let chunks = within(BEGIN, chunks).await.map_err(failed)?;
            Ok(chunks.map_err(io::Error::other).boxed())
        }
        .boxed()
    }

    fn write(
        &self,
        id: &InstanceId,
        path: String,
        archive: Chunks,
    ) -> BoxFuture<'_, Result<(), SessionError>> {
        let container = self.running(id);
        async move {
            let (folder, container) = (path, container?);
            let path = format!("/containers/{container}/archive?path={}", encode(&folder));
            // Podman would make the folder; Docker refuses, as `cp` does.
            if self.shared.engine.is_podman
                && let Err(CallError::Refused { status: 404, .. }) =
                    within(BEGIN, raw::head(&self.shared.engine.socket, &path)).await
            {
                return Err(SessionError::Refused(format!("there is no folder `{folder}` in it")));
            }
            let written = raw::put(&self.shared.engine.socket, &path, archive).await;
            written.map(drop).map_err(|error| self.error("take the files", error))
        }
        .boxed()
    }

    fn read_volume(&self, key: &VolumeKey) -> BoxFuture<'_, Result<Chunks, SessionError>> {
        let key = key.clone();
        async move {
            let failed = |error| self.error("give the volume's files", error);
            volume_files::read(&self.shared, &key).await.map_err(failed)
        }
        .boxed()
    }

    fn write_volume(
        &self,
        key: &VolumeKey,
        archive: Chunks,
        beside: bool,
    ) -> BoxFuture<'_, Result<(), SessionError>> {
        let key = key.clone();
        async move {
            let failed = |error| self.error("take the volume's files", error);
            let used = |error: NotDone| match error {
                NotDone::Call(error) => failed(error),
                NotDone::InUse | NotDone::Held => {
                    SessionError::InUse(format!("the volume {key} is left as it is: {error}"))
                }
            };
            let hold = match beside {
                true => None,
                false => Some(Hold::of(&self.shared, &key).map_err(used)?),
            };
            let written = volume_files::write(&self.shared, &key, archive, !beside).await;
            drop(hold);
            // The next look finds it, if this one does not.
            let _ = volumes::look(&self.shared).await;
            written.map_err(failed)
        }
        .boxed()
    }

    fn doors(&self, id: &InstanceId, port: u16) -> BoxFuture<'_, Result<Doors, SessionError>> {
        let container = self.reached(id);
        let network = self.network(id);
        async move {
            let engine = &self.shared.engine;
            let failed = |error| self.error("tell the container's address", error);
            let inspected = engine.inspect(&container?).await.map_err(failed)?;
            let doors = Doors::of(network, port, &inspected, engine.rootless);
            match doors.is_empty() {
                true => Err(no_way(port)),
                false => Ok(doors),
            }
        }
        .boxed()
    }

    fn connect(
        &self,
        id: &InstanceId,
        port: u16,
    ) -> BoxFuture<'_, Result<Box<dyn Duplex>, SessionError>> {
        let container = self.reached(id);
        async move {
            let engine = &self.shared.engine;
            let failed = |error| self.error("tell the container's address", error);
            let inspected = engine.inspect(&container?).await.map_err(failed)?;
            let own = inspected.address().filter(|_| !engine.rootless).map(|ip| (ip, port).into());
            let address = own.or_else(|| inspected.published(port)).ok_or_else(|| no_way(port))?;
            let refused = |why: String| {
                SessionError::Refused(format!("nothing answers on port {port} in it: {why}"))
            };
            match timeout(CONNECT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Small pieces of a conversation are not held back.
                    let _ = stream.set_nodelay(true);
                    Ok(Box::new(stream) as Box<dyn Duplex>)
                }
                Ok(Err(error)) => Err(refused(error.to_string())),
                Err(_) => Err(refused(format!("no connection within {CONNECT:?}"))),
            }
        }
        .boxed()
    }
}

fn no_way(port: u16) -> SessionError {
    SessionError::Refused(format!(
        "port {port} cannot be reached: the engine runs without root, and only the ports that the \
         workload names lead into its containers"
    ))
}

/// Podman's own trouble with a command that did not start, behind the reason why it did not.
pub(super) fn is_noise(piece: &Output) -> bool {
    let (Output::Out(bytes) | Output::Err(bytes)) = piece;
    bytes.starts_with(b"Error: read unixpacket @->/proc/self/fd/")
        && bytes.trim_ascii_end().ends_with(b": connection reset by peer")
}

fn parse<T: for<'de> Deserialize<'de> + Default>(bytes: &Bytes) -> T {
    serde_json::from_slice(bytes).unwrap_or_default()
}

/// The pieces of an engine's output: raw with a terminal, else each behind a head of eight bytes
/// with its source and length.
fn framed(
    stream: impl AsyncRead + Send + Unpin + 'static,
    raw: bool,
) -> BoxStream<'static, io::Result<Output>> {
    let buffer = BytesMut::with_capacity(READ);
    futures::stream::try_unfold((stream, buffer), move |(mut stream, mut buffer)| async move {
        loop {
            if let Some(piece) = if raw { whole(&mut buffer) } else { frame(&mut buffer)? } {
                return Ok(Some((piece, (stream, buffer))));
            }
            buffer.reserve(READ);
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(None);
            }
        }
    })
    .boxed()
}

pub(super) fn whole(buffer: &mut BytesMut) -> Option<Output> {
    (!buffer.is_empty()).then(|| Output::Out(buffer.split().freeze()))
}

pub(super) fn frame(buffer: &mut BytesMut) -> io::Result<Option<Output>> {
    let Some((head, rest)) = buffer.split_first_chunk::<8>() else { return Ok(None) };
    let [source, _, _, _, length @ ..] = *head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(io::Error::other(format!("the engine sent a frame of {length} bytes")));
    }
    if rest.len() < length {
        return Ok(None);
    }
    let _ = buffer.split_to(8);
    let piece = buffer.split_to(length).freeze();
    Ok(Some(if source == 2 { Output::Err(piece) } else { Output::Out(piece) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(bytes: &'static [u8], raw: bool) -> Vec<Output> {
        // A pipe of five bytes: pieces come in parts.
        let (mut near, far) = tokio::io::duplex(5);
        tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut near, bytes).await.unwrap();
        });
        framed(far, raw).try_collect().await.unwrap()
    }

    /// Output of a terminal may look like the head of a frame.
    #[tokio::test]
    async fn output_is_taken_apart_by_whether_there_is_a_terminal() {
        let frames = b"\x01\0\0\0\0\0\0\x02hi\x02\0\0\0\0\0\0\x03bad";
        let apart = vec![Output::Out("hi".into()), Output::Err("bad".into())];
        assert_eq!(all(frames, false).await, apart);
        let raw: Vec<u8> = all(frames, true)
            .await
            .iter()
            .flat_map(|piece| match piece {
                Output::Out(bytes) | Output::Err(bytes) => bytes.to_vec(),
            })
            .collect();
        assert_eq!(raw, frames);
    }
}
