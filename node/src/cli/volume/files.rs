//! `shoal volume backup`, `restore` and `rm`: at the node that keeps a volume, wherever that is.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use shoal_protocol::model::ReplicaName;
use shoal_protocol::model::access::Action;
use tokio::sync::mpsc;

use crate::api::form::full_name;
use crate::cli::context::Context;
use crate::cli::cp::{Pieces, Sink, WAITING, joined, receive, send};
use crate::cli::error::CliError;
use crate::cli::session;
use crate::session::{Frame, Frames};

/// A volume as a person names it, `WORKLOAD/NUMBER/NAME`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VolumeName {
    replica: ReplicaName,
    name: String,
}

impl FromStr for VolumeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .rsplit_once('/')
            .and_then(|(replica, name)| Some((replica.parse::<ReplicaName>().ok()?, name)));
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
        session::open_at(&context.client(), &operator, &path, replica, self, action).await
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
        file => Some(PathBuf::from(file)),
    };
    let action = Action::ReadVolume { name: volume.name.clone() };
    let mut frames = volume.open(context, node, action).await?;
    let (pieces, archive) = mpsc::channel(WAITING);
    let target = file.clone();
    let writing = std::thread::spawn(move || {
        let mut archive = Pieces::new(archive);
        match target {
            Some(file) => written(&mut archive, &partial(&file)),
            None => io::copy(&mut archive, &mut io::stdout().lock())
                .map(drop)
                .map_err(|error| CliError::failed(format!("standard output: {error}"))),
        }
    });
    let received = receive(&mut frames, volume, pieces).await;
    let done = joined(writing).and(received);
    if let Some(file) = file {
        // Only a whole backup gets the name.
        let part = partial(&file);
        let named = done.and_then(|()| std::fs::rename(&part, &file).map_err(of_file(&file)));
        if named.is_err() {
            let _ = std::fs::remove_file(&part);
        }
        named?;
        context.note(&format!("{volume} -> {}", file.display()));
        return Ok(());
    }
    done
}

fn partial(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn of_file(file: &Path) -> impl FnOnce(io::Error) -> CliError + use<> {
    let shown = file.display().to_string();
    move |error| CliError::failed(format!("{shown}: {error}"))
}

fn written(archive: &mut Pieces, file: &Path) -> Result<(), CliError> {
    let mut to = File::create(file).map_err(of_file(file))?;
    io::copy(archive, &mut to).and_then(|_| to.sync_all()).map_err(of_file(file))
}

/// Replaces the files of a volume by those of an archive.
pub async fn restore(
    context: &Context,
    volume: &VolumeName,
    from: &str,
    force: bool,
    node: Option<&str>,
) -> Result<(), CliError> {
    // A file that is not there must not open a session.
    let mut from: Box<dyn Read + Send> = match from {
        "-" => Box::new(io::stdin()),
        file => Box::new(File::open(file).map_err(of_file(Path::new(file)))?),
    };
    let action = Action::WriteVolume { name: volume.name.clone(), beside: force };
    let mut frames = volume.open(context, node, action).await?;
    let (pieces, archive) = mpsc::channel(WAITING);
    let reading = std::thread::spawn(move || {
        let mut sink = Sink::new(pieces);
        io::copy(&mut from, &mut sink)
            .and_then(|_| sink.flush())
            .map_err(|error| CliError::failed(format!("the archive cannot be read: {error}")))
    });
    send(&mut frames, volume, archive, reading).await?;
    context.note(&format!("{volume} restored"));
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
}
