//! `shoal volume backup`, `restore` and `rm`: at the node that keeps a volume, wherever that is.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use shoal_protocol::model::access::Action;
use shoal_protocol::model::view::NodeView;
use shoal_protocol::model::{NamedReplica, ReplicaName};
use tokio::sync::mpsc;

use crate::api::form::full_name;
use crate::cli::context::Context;
use crate::cli::cp::{Pieces, Sink, WAITING, joined, receive, send};
use crate::cli::error::{CliError, Exit};
use crate::cli::session;
use crate::cli::target::meant;
use crate::session::{Frame, Frames};

/// A volume as a person names it, `WORKLOAD/NUMBER/NAME`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeName {
    replica: NamedReplica,
    name: String,
}

impl FromStr for VolumeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .rsplit_once('/')
            .and_then(|(replica, name)| Some((replica.parse::<NamedReplica>().ok()?, name)));
        match parsed {
            Some((replica, name)) if !name.is_empty() => {
                Ok(VolumeName { replica, name: name.to_owned() })
            }
            _ => Err(format!("`{text}` is no volume: WORKLOAD/NUMBER/NAME, as in `db/0/data`")),
        }
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.replica, self.name)
    }
}

impl VolumeName {
    async fn open(
        &self,
        context: &Context,
        node: Option<&str>,
        action: Action,
    ) -> Result<Frames, CliError> {
        let operator = context.operator()?;
        let VolumeName { replica, name } = self;
        let mut path =
            format!("/v1/volumes/{}/{}/{name}", full_name(&replica.workload), replica.place);
        if let Some(node) = node {
            let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if node.is_empty() || !node.chars().all(legal) {
                return Err(CliError::usage(format!("--node {node}: that is no node's name")));
            }
            path.push_str(&format!("?node={node}"));
        }
        let client = context.client();
        let meant = match (meant(&client, replica).await, replica.place.parse()) {
            // It outlives its workload.
            (Err(error), Ok(place)) if error.exit == Exit::NoSuchThing => {
                ReplicaName { workload: replica.workload.clone(), place }
            }
            (meant, _) => meant?,
        };
        let meant = ReplicaName { place: meant.place.of_volumes(), ..meant };
        session::open_at(&client, &operator, &path, &meant, self, action).await
    }
}

/// Writes all files of a volume into a file, or to standard output.
pub async fn backup(
    context: &Context,
    volume: &VolumeName,
    to: &str,
    node: Option<&str>,
) -> Result<(), CliError> {
    let file = match to {
        "-" if io::stdout().is_terminal() => {
            return Err(CliError::usage("an archive is nothing for a terminal")
                .hint(format!("Name a file: shoal volume backup {volume} data.tar")));
        }
        "-" => None,
        file => Some(Target::of(Path::new(file))?),
    };
    let action = Action::ReadVolume { name: volume.name.clone() };
    let mut frames = volume.open(context, node, action).await?;
    let (pieces, archive) = mpsc::channel(WAITING);
    let target = file.as_ref().map(|target| target.written.clone());
    let writing = std::thread::spawn(move || {
        let mut archive = Pieces::new(archive);
        match target {
            Some(file) => written(&mut archive, &file),
            None => io::copy(&mut archive, &mut io::stdout().lock())
                .map(drop)
                .map_err(|error| CliError::failed(format!("standard output: {error}"))),
        }
    });
    let received = tokio::select! {
        received = receive(&mut frames, volume, pieces) => received,
        _ = tokio::signal::ctrl_c() => Err(CliError::failed("interrupted")),
    };
    let Some(target) = file else { return received.and(joined(writing)) };
    // An interrupted writer ends with the channel that the receiver had.
    let done = joined(writing).and(received);
    target.end(done)?;
    context.note(&format!("{volume} -> {}", target.file.display()));
    Ok(())
}

/// A file for a backup. One that is new, or an ordinary file before, gets its name only when all
/// has come. A device or a pipe is written as it is.
struct Target {
    file: PathBuf,
    written: PathBuf,
}

impl Target {
    fn of(file: &Path) -> Result<Target, CliError> {
        // Where a link leads, so that it stays one.
        let real = match std::fs::canonicalize(file) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => file.to_owned(),
            Err(error) => return Err(of_file(file)(error)),
        };
        let kind = std::fs::metadata(&real).map(|it| it.file_type());
        if kind.as_ref().is_ok_and(|kind| kind.is_dir()) {
            return Err(CliError::usage(format!("{}: it is a folder", file.display())));
        }
        let is_ordinary = kind.map_or(true, |kind| kind.is_file());
        let mut written = real.clone().into_os_string();
        if is_ordinary {
            written.push(".part");
        }
        Ok(Target { file: real, written: written.into() })
    }

    /// Gives a whole backup its name, and removes one that broke off.
    fn end(&self, done: Result<(), CliError>) -> Result<(), CliError> {
        if self.written == self.file {
            return done;
        }
        let named = done
            .and_then(|()| std::fs::rename(&self.written, &self.file).map_err(of_file(&self.file)));
        if named.is_err() {
            let _ = std::fs::remove_file(&self.written);
        }
        named
    }
}

fn of_file(file: &Path) -> impl FnOnce(io::Error) -> CliError + use<> {
    let shown = file.display().to_string();
    move |error| CliError::failed(format!("{shown}: {error}"))
}

fn written(archive: &mut Pieces, file: &Path) -> Result<(), CliError> {
    let mut to = File::create(file).map_err(of_file(file))?;
    io::copy(archive, &mut to).map_err(of_file(file))?;
    match to.sync_all() {
        // A device or a pipe has nothing to sync.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        done => done.map_err(of_file(file)),
    }
}

/// Replaces the files of a volume by those of an archive.
pub async fn restore(
    context: &Context,
    volume: &VolumeName,
    from: &str,
    force: bool,
    node: Option<&str>,
) -> Result<(), CliError> {
    let shown = if from == "-" { "standard input" } else { from };
    // A file that is not there must not open a session.
    let mut from: Box<dyn Read + Send> = match from {
        "-" => Box::new(io::stdin()),
        file => Box::new(File::open(file).map_err(of_file(Path::new(file)))?),
    };
    let action = Action::WriteVolume { name: volume.name.clone(), beside: force };
    let mut frames = volume.open(context, node, action).await?;
    let (pieces, archive) = mpsc::channel(WAITING);
    let shown = shown.to_owned();
    let reading = std::thread::spawn(move || {
        let mut sink = Sink::new(pieces);
        io::copy(&mut from, &mut sink)
            .and_then(|_| sink.flush())
            .map_err(|error| CliError::failed(format!("{shown} cannot be read: {error}")))
    });
    send(&mut frames, volume, archive, reading).await?;
    context.note(&format!("{volume} restored"));
    if let Some(node) = node {
        note_others(context, volume, node).await?;
    }
    Ok(())
}

/// Says which other nodes keep a volume of the same name: each replica uses one of them.
async fn note_others(context: &Context, volume: &VolumeName, node: &str) -> Result<(), CliError> {
    let shown = volume.to_string();
    let nodes: Vec<NodeView> = context.client().get("/v1/nodes").await?;
    let keeps = |it: &&NodeView| it.volumes.contains(&shown) && it.name != node && it.id != node;
    let others: Vec<&str> = nodes.iter().filter(keeps).map(|it| it.name.as_str()).collect();
    if let [first, ..] = others[..] {
        let all = others.join(" and ");
        context.note(&format!(
            "a volume {shown} is on {all}, too: the replica goes where it was used last; `shoal \
             volume rm --node {first} {shown}` removes that one"
        ));
    }
    Ok(())
}

/// Removes volumes with all that is in them.
pub async fn remove(
    context: &Context,
    volumes: &[VolumeName],
    node: Option<&str>,
) -> Result<(), CliError> {
    for volume in volumes {
        let action = Action::RemoveVolume { name: volume.name.clone() };
        let mut frames = volume.open(context, node, action).await?;
        loop {
            let frame = frames.receiver.next_of_node().await;
            match frame.map_err(|error| session::lost(volume, &error))? {
                Frame::Exit(_) => break,
                Frame::Failed(failed) => return Err(session::failed(volume, failed)),
                _ => {}
            }
        }
        context.note(&format!("{volume} removed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_named_as_ls_lists_them() {
        let of = |text: &str| text.parse::<VolumeName>().map(|it| it.to_string());
        assert_eq!(of("db/0/data").as_deref(), Ok("db/0/data"));
        assert_eq!(of("shop/db/12/data").as_deref(), Ok("shop/db/12/data"));
        for bad in ["db", "db/0", "db/0/", "db/data", "/0/data"] {
            assert!(of(bad).unwrap_err().contains("WORKLOAD/NUMBER/NAME"), "{bad}");
        }
    }

    /// A rename over a device would replace it for everybody.
    #[test]
    fn only_an_ordinary_file_is_replaced() {
        let device = Target::of(Path::new("/dev/null")).unwrap();
        assert_eq!(device.written, Path::new("/dev/null"));
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("data.tar"), folder.path().join("link"));
        let new = Target::of(&file).unwrap();
        assert_eq!(new.written, folder.path().join("data.tar.part"));
        std::fs::write(&new.written, "half").unwrap();
        assert!(new.end(Err(CliError::failed("it broke off"))).is_err());
        assert!(!new.written.exists() && !file.exists());
        std::fs::write(&file, "older").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let linked = Target::of(&link).unwrap();
        std::fs::write(&linked.written, "newer").unwrap();
        linked.end(Ok(())).unwrap();
        assert!(link.is_symlink(), "it leads where it led");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "newer");
        assert!(Target::of(folder.path()).is_err());
    }
}
