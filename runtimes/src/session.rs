//! Sessions of a person with a running instance: commands in it, its output, its files, its ports.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use shoal_protocol::model::access::Exec;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::model::{InstanceId, VolumeKey};

/// Bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// A piece of a tar archive, as it comes.
pub type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// A piece of output. With a terminal all of it is standard output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Standard output.
    Out(Bytes),
    /// Standard error.
    Err(Bytes),
}

/// A command that runs in an instance, or the instance's own program.
pub struct Process {
    /// Its output; ends when the program has ended.
    pub output: BoxStream<'static, io::Result<Output>>,
    /// Its input; shutting it down is the end of input. `None`: it takes none.
    pub input: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    /// The rest of it.
    pub control: Box<dyn Control>,
}

/// Controls a process.
pub trait Control: Send + Sync {
    /// Tells it the size of the terminal, in columns and rows.
    fn resize(&self, columns: u16, rows: u16) -> BoxFuture<'_, ()>;

    /// Its exit code, asked once its output has ended; `None` when it is unknown.
    fn exit_code(&self) -> BoxFuture<'_, Option<i64>>;
}

/// Addresses of this device that may lead to a TCP port of an instance.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Doors {
    /// The instance's own address: a connection is refused until its program listens.
    pub direct: Option<SocketAddr>,
    /// A port of the device. The engine's proxy accepts connections before the program listens, and
    /// closes them.
    pub published: Option<SocketAddr>,
}

/// A session could not begin. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The instance does not run here.
    #[error("no instance `{0}` runs on this node")]
    NotRunning(InstanceId),
    /// Programs of this kind have nothing of the sort; the sentence says what there is instead.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The request is at fault: no such program, user, file or port.
    #[error("{0}")]
    Refused(String),
    /// The engine failed, or did not answer.
    #[error("{0}")]
    Engine(String),
    /// An instance uses what nothing may use for this.
    #[error("{0}")]
    InUse(String),
}

/// The sessions that a runtime offers. All are refused unless the runtime has them.
pub trait Sessions {
    /// Runs a command in a running instance.
    ///
    /// # Errors
    /// As [`SessionError`] says.
    fn exec(&self, id: &InstanceId, exec: Exec) -> BoxFuture<'_, Result<Process, SessionError>> {
        let _ = (id, exec);
        unsupported("a component has no shell and no programs besides itself to run")
    }

    /// The same in a container of a running group, by its name.
    ///
    /// # Errors
    /// As [`SessionError`] says.
    fn exec_in(
        &self,
        id: &InstanceId,
        container: &str,
        exec: Exec,
    ) -> BoxFuture<'_, Result<Process, SessionError>> {
        let _ = (id, container, exec);
        unsupported("a component is no group of containers")
    }

    /// Follows what an instance writes from now on. With `input`, the size of the operator's
    /// terminal in columns and rows, it gets an input, too, if its program has one.
    ///
    /// # Errors
    /// As [`SessionError`] says.
    fn attach(
        &self,
        id: &InstanceId,
        input: Option<(u16, u16)>,
    ) -> BoxFuture<'_, Result<Process, SessionError>> {
        let _ = (id, input);
        unsupported("a component has no terminal: `shoal logs -f` shows what it writes")
    }

    /// Reads the files at a path of an instance, as a tar archive.
    ///
    /// # Errors
    /// As [`SessionError`] says.
    fn read(&self, id: &InstanceId, path: String) -> BoxFuture<'_, Result<Chunks, SessionError>> {
        let _ = (id, path);
        unsupported("a component has no files")
    }

    /// Unpacks a tar archive in a folder of an instance; returns when all of it is there.
    ///
    /// # Errors
    /// As [`SessionError`] says. When the archive breaks off, a part of it may be there.
    fn write(
        &self,
        id: &InstanceId,
        path: String,
        archive: Chunks,
    ) -> BoxFuture<'_, Result<(), SessionError>> {
        let _ = (id, path, archive);
        unsupported("a component has no files")
    }

    /// Reads all files of a volume, as a tar archive.
    ///
    /// # Errors
    /// As [`SessionError`] says.
    fn read_volume(&self, key: &VolumeKey) -> BoxFuture<'_, Result<Chunks, SessionError>> {
        let _ = key;
        unsupported("a component has no volumes")
    }

    /// Replaces all files of a volume by those of a tar archive; the volume is made if it is not
    /// there. No instance starts on it meanwhile. With `beside` they are unpacked over the files
    /// that are in it, also while an instance uses them.
    ///
    /// # Errors
    /// As [`SessionError`] says. An archive that fails leaves a part of its files there.
    fn write_volume(
        &self,
        key: &VolumeKey,
        archive: Chunks,
        beside: bool,
    ) -> BoxFuture<'_, Result<(), SessionError>> {
        let _ = (key, archive, beside);
        unsupported("a component has no volumes")
    }

    /// The addresses that lead to a TCP port of an instance, as they are now. At least one.
    ///
    /// # Errors
    /// As [`SessionError`] says.
    fn doors(&self, id: &InstanceId, port: u16) -> BoxFuture<'_, Result<Doors, SessionError>> {
        let _ = (id, port);
        unsupported("a component listens on no port")
    }

    /// Connects to a TCP port of an instance.
    ///
    /// # Errors
    /// As [`SessionError`] says.
    fn connect(
        &self,
        id: &InstanceId,
        port: u16,
    ) -> BoxFuture<'_, Result<Box<dyn Duplex>, SessionError>> {
        let _ = (id, port);
        unsupported("a component listens on no port")
    }
}

fn unsupported<T: Send + 'static>(
    why: &'static str,
) -> BoxFuture<'static, Result<T, SessionError>> {
    Box::pin(async move { Err(SessionError::Unsupported(why)) })
}
