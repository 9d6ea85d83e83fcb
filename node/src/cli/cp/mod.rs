//! `shoal cp`: files between this machine and a replica, as tar archives on the way.

mod pack;
mod unpack;

pub(super) use unpack::unpack;

use std::fmt::Display;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::thread::JoinHandle;

use clap::Args;
use shoal_protocol::model::NamedReplica;
use shoal_protocol::model::access::Action;
use tokio::sync::mpsc;

use super::client::Client;
use super::context::Context;
use super::error::CliError;
use super::session;
use super::target::{Target, meant};
use crate::publish::Operator;
use crate::session::{Frame, Frames, OpenError};

/// Pieces of an archive between the thread that reads or writes files and the session.
pub(super) const WAITING: usize = 8;
/// Bytes of a piece.
const PIECE: usize = 32 * 1024;

/// Copy files between a replica and this machine
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal cp web/0:/var/log/app.log .     # out of a replica\n  \
        shoal cp ./site web/0:/srv            # into it: /srv/site, or /srv if that is not there\n\
        \x20 shoal cp web/0:/data - | tar -t       # as a tar archive\n\n\
        A folder is copied with all that is in it. Files in a replica belong to root. What is \
        written into a\nreplica is lost when it moves or is replaced. It takes the operator's \
        key, and works for containers.")]
pub struct Cp {
    /// A path here, NAME[/NUMBER]:PATH in a replica, or - for an archive on standard input
    #[arg(value_name = "FROM")]
    from: String,
    /// A path here, NAME[/NUMBER]:PATH in a replica, or - for an archive on standard output
    #[arg(value_name = "TO")]
    to: String,
}

/// One end of a copy.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Place {
    Archive,
    Here(PathBuf),
    There(Target, String),
}

/// `NAME:PATH` is in a replica; a path with a slash before its first colon is here, as for docker.
fn place(text: &str) -> Result<Place, CliError> {
    if text == "-" {
        return Ok(Place::Archive);
    }
    let is_here = text.starts_with(['/', '.']);
    let Some((target, path)) = text.split_once(':').filter(|_| !is_here) else {
        return Ok(Place::Here(text.into()));
    };
    let target = target.parse().map_err(|why| {
        CliError::usage(format!("{text}: {why}"))
            .hint("Write a file of this machine whose name has a colon as ./NAME.")
    })?;
    if !path.starts_with('/') {
        return Err(CliError::usage(format!("{text}: the path in a replica begins with /")));
    }
    Ok(Place::There(target, path.to_owned()))
}

/// The session's ends that both directions need.
struct Copier {
    client: Client,
    operator: Operator,
}

impl Cp {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let (from, to) = (place(&self.from)?, place(&self.to)?);
        let copier = || {
            Ok::<_, CliError>(Copier { client: context.client(), operator: context.operator()? })
        };
        match (from, to) {
            (Place::There(target, path), Place::Here(to)) => {
                copier()?.copy_out(&target, &path, Some(to)).await
            }
            (Place::There(target, path), Place::Archive) => {
                copier()?.copy_out(&target, &path, None).await
            }
            (Place::Here(from), Place::There(target, path)) => {
                copier()?.copy_in(&target, &path, Some(from)).await
            }
            (Place::Archive, Place::There(target, path)) => {
                copier()?.copy_in(&target, &path, None).await
            }
            (Place::There(..), Place::There(..)) => {
                Err(CliError::usage("one of the two paths must be on this machine")
                    .hint("Copy out of the one replica first, and then into the other."))
            }
            (Place::Here(_) | Place::Archive, Place::Here(_) | Place::Archive) => {
                Err(CliError::usage("one of the two paths must be in a replica: NAME/NUMBER:/PATH")
                    .hint("As in `shoal cp web/0:/etc/hosts .`"))
            }
        }
    }
}

impl Copier {
    async fn copy_out(
        &self,
        target: &Target,
        path: &str,
        to: Option<PathBuf>,
    ) -> Result<(), CliError> {
        let replica = target.replica(&self.client).await?;
        let action = Action::Read { path: path.to_owned() };
        let mut frames = session::open(&self.client, &self.operator, &replica, action).await?;
        let (pieces, archive) = mpsc::channel(WAITING);
        let contents = path.ends_with("/.");
        let writing = std::thread::spawn(move || match to {
            Some(to) => unpack::unpack(Pieces::new(archive), &to, contents),
            None => io::copy(&mut Pieces::new(archive), &mut io::stdout().lock())
                .map(drop)
                .map_err(|error| CliError::failed(format!("standard output: {error}"))),
        });
        let received = receive(&mut frames, &replica, pieces).await;
        let written = joined(writing);
        // Files that cannot be written end the receiving, too.
        written.and(received)
    }

    async fn copy_in(
        &self,
        target: &Target,
        path: &str,
        from: Option<PathBuf>,
    ) -> Result<(), CliError> {
        let replica = target.replica(&self.client).await?;
        let (folder, name) = match &from {
            // An archive has its own names.
            None => (path.to_owned(), None),
            Some(from) => {
                let there = self.what_is_at(&replica, path).await?;
                if there == Some(false) && from.is_dir() {
                    return Err(CliError::usage(format!(
                        "{replica}:{path} is a file, and {} a folder: it is left as it is",
                        from.display()
                    )));
                }
                pack::Destination::of(path, there == Some(true)).resolve(from)?
            }
        };
        let action = Action::Write { path: folder };
        let mut frames = session::open(&self.client, &self.operator, &replica, action).await?;
        let (pieces, archive) = mpsc::channel::<Vec<u8>>(WAITING);
        let reading = std::thread::spawn(move || match (from, name) {
            (Some(from), name) => pack::pack(&from, name.as_deref(), Sink::new(pieces)),
            (None, _) => io::copy(&mut io::stdin().lock(), &mut Sink::new(pieces))
                .map(drop)
                .map_err(|error| CliError::failed(format!("standard input: {error}"))),
        });
        send(&mut frames, &replica, archive, reading).await
    }

    /// Whether a folder is at a path of the replica, or something else; none for nothing. The
    /// archive of a folder begins with it.
    async fn what_is_at(
        &self,
        replica: &NamedReplica,
        path: &str,
    ) -> Result<Option<bool>, CliError> {
        let action = Action::Read { path: path.to_owned() };
        let meant = meant(&self.client, replica).await?;
        let bytes = self.client.upgrade(&session::path(replica)).await?;
        let opened = crate::session::open(bytes, &self.operator, &meant, action).await;
        let mut frames = match opened {
            Ok(frames) => frames,
            // Nothing is there, or it cannot be read; then writing says more.
            Err(OpenError::Refused(error)) if error.code == "invalid" => return Ok(None),
            Err(error) => return Err(session::not_opened(replica, error)),
        };
        let mut head = Vec::new();
        while head.len() < pack::BLOCK {
            match frames.receiver.next_of_node().await {
                Ok(Frame::Data(piece)) => head.extend(piece.0),
                Ok(Frame::Failed(failed)) => return Err(session::failed(replica, failed)),
                Ok(_) => break,
                Err(error) => return Err(session::lost(replica, &error)),
            }
        }
        Ok(Some(pack::begins_with_folder(&head)))
    }
}

/// Sends an archive that a thread makes, and returns when the node has taken it.
pub(super) async fn send(
    frames: &mut Frames,
    what: &(dyn Display + Sync),
    mut archive: mpsc::Receiver<Vec<u8>>,
    reading: JoinHandle<Result<(), CliError>>,
) -> Result<(), CliError> {
    let sent = async {
        while let Some(piece) = archive.recv().await {
            frames.sender.send(Frame::data(&piece)).await?;
        }
        Ok::<_, io::Error>(())
    };
    let sent = sent.await;
    drop(archive);
    if sent.is_ok() {
        // A half archive must not look like a whole one: its end is told only when all of it was
        // read.
        joined(reading)?;
        let _ = frames.sender.send([Frame::End]).await;
    }
    loop {
        let frame = frames.receiver.next_of_node().await;
        match frame.map_err(|error| session::lost(what, &error))? {
            Frame::Exit(_) => return Ok(()),
            Frame::Failed(failed) => return Err(session::failed(what, failed)),
            _ => {}
        }
    }
}

/// Receives an archive, until it has ended or nobody takes more of it. `what` it is of, for people.
pub(super) async fn receive(
    frames: &mut Frames,
    what: &(dyn Display + Sync),
    pieces: mpsc::Sender<Vec<u8>>,
) -> Result<(), CliError> {
    loop {
        let frame = frames.receiver.next_of_node().await;
        let piece = match frame.map_err(|error| session::lost(what, &error))? {
            Frame::Data(piece) => piece.0,
            Frame::Failed(failed) => return Err(session::failed(what, failed)),
            Frame::Exit(_) => return Ok(()),
            _ => continue,
        };
        if pieces.send(piece).await.is_err() {
            // The files' thread takes no more: it says why.
            return Ok(());
        }
    }
}

/// The outcome of a thread that reads or writes files.
pub(super) fn joined(thread: JoinHandle<Result<(), CliError>>) -> Result<(), CliError> {
    thread.join().unwrap_or_else(|_| Err(CliError::failed("the files' thread failed")))
}

/// An archive that comes in pieces, for a reader that blocks.
pub(super) struct Pieces {
    archive: mpsc::Receiver<Vec<u8>>,
    piece: io::Cursor<Vec<u8>>,
}

impl Pieces {
    pub(super) fn new(archive: mpsc::Receiver<Vec<u8>>) -> Self {
        Pieces { archive, piece: io::Cursor::default() }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let length = self.piece.read(buffer)?;
            if length > 0 {
                return Ok(length);
            }
            match self.archive.blocking_recv() {
                Some(piece) => self.piece = io::Cursor::new(piece),
                None => return Ok(0),
            }
        }
    }
}

/// An archive that leaves in pieces, for a writer that blocks.
pub(super) struct Sink {
    pieces: mpsc::Sender<Vec<u8>>,
    piece: Vec<u8>,
}

impl Sink {
    pub(super) fn new(pieces: mpsc::Sender<Vec<u8>>) -> Self {
        Sink { pieces, piece: Vec::with_capacity(PIECE) }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = PIECE - self.piece.len();
        let taken = &bytes[..bytes.len().min(room)];
        self.piece.extend_from_slice(taken);
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        if piece.is_empty() {
            return Ok(());
        }
        self.pieces.blocking_send(piece).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // An error means that the session has ended.
        let _ = self.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_a_copy_are_told_apart() {
        let there = |target: &str, path: &str| Place::There(target.parse().unwrap(), path.into());
        assert_eq!(place("web/0:/a").unwrap(), there("web/0", "/a"));
        assert_eq!(place("shop/web:/a:b").unwrap(), there("shop/web", "/a:b"));
        for here in ["a.txt", "./web:0", "/tmp/a:b", "a/b"] {
            assert_eq!(place(here).unwrap(), Place::Here(here.into()), "{here}");
        }
        assert_eq!(place("-").unwrap(), Place::Archive);
        assert!(place("web/0:relative").is_err());
        assert!(place("Web:/a").is_err());
    }
}
