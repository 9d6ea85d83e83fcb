//! The end of a session with a volume, on the node that keeps it.
//!
//! **Nothing is replaced before the whole archive is here** and was found to be one: a way that
//! breaks, or a wrong file, costs no data. From then on the node goes on without the operator.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Component, Path};
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use shoal_protocol::model::access::Action;
use shoal_protocol::model::{ProgramKind, ReplicaName};
use shoal_runtimes::{Runtime, VolumeKey};
use tokio_util::io::ReaderStream;
use tracing::info;

use super::frame::{Frame, Frames, Receiver};
use super::serve::{Ended, Host, alive_until, begin, broke_off, conclude};
use crate::api::ApiError;
use crate::spool::{self, SpoolError, Spooled};

/// Bytes that are given to the engine at a time.
const PIECE: usize = 256 * 1024;
/// Bytes of a block of an archive.
const BLOCK: u64 = 512;
/// The end of an archive: two blocks of zeros.
const END: u64 = 2 * BLOCK;

/// A volume, and what its node knows of it.
#[derive(Clone, Debug)]
pub struct AskedVolume {
    /// The replica that it is for.
    pub replica: ReplicaName,
    /// Its key in the runtime.
    pub key: VolumeKey,
    /// The kind of programs that have it.
    pub kind: ProgramKind,
    /// The node has it.
    pub is_kept: bool,
    /// The node can make another one.
    pub has_room: bool,
    /// Its replica is on this node.
    pub is_used: bool,
}

/// Serves a session with a volume that this node keeps, until it ends.
pub async fn serve_volume(host: Host, asked: AskedVolume, mut frames: Frames) {
    let served = match begin(&host, &asked.replica, &mut frames).await {
        Ok((by, action)) => act(&host, &asked, &by, action, &mut frames).await,
        Err(error) => Err(error),
    };
    conclude(served, frames).await;
}

async fn act(
    host: &Host,
    asked: &AskedVolume,
    by: &str,
    action: Action,
    frames: &mut Frames,
) -> Result<(), Ended> {
    let key = &asked.key;
    let runtime = host.runtimes.get(asked.kind).map_err(|error| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no-engine", error.to_string())
    })?;
    let say = |doing: &str| info!(target: "shoal", "{asked}: operator {by} {doing}");
    let (name, makes) = match &action {
        Action::ReadVolume { name } | Action::RemoveVolume { name } => (name, false),
        Action::WriteVolume { name, .. } => (name, true),
        _ => return Err(ApiError::invalid("a replica is asked for that, not its volume").into()),
    };
    if *name != key.name {
        let why = "the request was signed for another volume";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "not-allowed", why).into());
    }
    if !asked.is_kept && !makes {
        let why = format!("this node keeps no volume `{asked}`");
        return Err(ApiError::new(StatusCode::NOT_FOUND, "no-such-volume", why)
            .hint("`shoal volume ls` lists them.")
            .into());
    }
    match action {
        Action::ReadVolume { .. } => {
            let mut archive = runtime.read_volume(key).await?;
            say("reads the volume");
            frames.sender.send([Frame::Opened]).await?;
            while let Some(chunk) = alive_until(archive.next(), &mut frames.sender).await? {
                let chunk = chunk.map_err(|error| broke_off(&error))?;
                frames.sender.send(Frame::data(&chunk)).await?;
            }
            Ok(frames.sender.send([Frame::End, Frame::Exit(None)]).await?)
        }
        Action::WriteVolume { beside, .. } => {
            let is_component = asked.kind == ProgramKind::Wasm;
            if asked.is_used && (!beside || is_component) {
                let more = match is_component {
                    true => {
                        "--force is for containers: the node itself writes a component's files, \
                         and a program that changes them meanwhile could lead it elsewhere."
                    }
                    false => "--force unpacks the files over those of the running program.",
                };
                let workload = &asked.replica.workload;
                return Err(in_use(asked)
                    .hint(format!(
                        "Stop it first: `shoal scale {workload}=0`, restore, and scale it up \
                         again. {more}"
                    ))
                    .into());
            }
            if !asked.is_kept && !asked.has_room {
                let why = "this node keeps as many volumes as it can; nothing was changed";
                return Err(ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "full", why).into());
            }
            frames.sender.send([Frame::Opened]).await?;
            let spooled = received(&host.spool, &mut frames.receiver).await?;
            let checked = tokio::task::spawn_blocking(move || {
                check(spooled.path(), is_component).map(|()| spooled)
            });
            let checked = alive_until(checked, &mut frames.sender).await?;
            let spooled = checked.expect("the check does not panic").map_err(|why| {
                ApiError::invalid(format!(
                    "that is no tar archive of a volume: {why}; nothing was changed"
                ))
            })?;
            say("replaces the files of the volume");
            let writing = tokio::spawn(write(runtime.clone(), asked.clone(), spooled, beside));
            let written = alive_until(writing, &mut frames.sender).await?;
            written.expect("the writer does not panic")?;
            Ok(frames.sender.send([Frame::Exit(None)]).await?)
        }
        Action::RemoveVolume { .. } => {
            if asked.is_used {
                return Err(in_use(asked)
                    .hint("Remove the workload first, or scale it down.")
                    .into());
            }
            say("removes the volume");
            frames.sender.send([Frame::Opened]).await?;
            let removed = alive_until(runtime.remove_volume(key), &mut frames.sender).await?;
            removed.map_err(|error| {
                let why = format!("the volume `{asked}` was not removed: {error}");
                ApiError::new(StatusCode::CONFLICT, "not-removed", why)
            })?;
            Ok(frames.sender.send([Frame::Exit(None)]).await?)
        }
        _ => Ok(()),
    }
}

impl std::fmt::Display for AskedVolume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.replica, self.key.name)
    }
}

fn in_use(asked: &AskedVolume) -> ApiError {
    let AskedVolume { replica, key, .. } = asked;
    let why = format!("`{replica}` runs with its volume `{}`; nothing was changed", key.name);
    ApiError::new(StatusCode::CONFLICT, "in-use", why)
}

/// Receives the whole archive into a file.
async fn received(folder: &Path, receiver: &mut Receiver) -> Result<Spooled, Ended> {
    let pieces = futures::stream::unfold(receiver, |receiver| async {
        loop {
            match receiver.next().await {
                Ok(Frame::Data(piece)) => return Some((Ok(Bytes::from(piece.0)), receiver)),
                Ok(Frame::End) => return None,
                Ok(_) => {}
                Err(error) => return Some((Err(error), receiver)),
            }
        }
    });
    spool::write(folder, "volume", pieces, &mut |_| {}).await.map_err(|error| match error {
        SpoolError::Source(gone) => gone.into(),
        error => {
            let why = format!("{error}; nothing was changed");
            ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", why).into()
        }
    })
}

async fn write(
    runtime: Arc<dyn Runtime>,
    asked: AskedVolume,
    spooled: Spooled,
    beside: bool,
) -> Result<(), Ended> {
    let opened = tokio::fs::File::open(spooled.path()).await;
    let file = opened.map_err(|error| broke_off(&error))?;
    let pieces = ReaderStream::with_capacity(file, PIECE).boxed();
    match runtime.write_volume(&asked.key, pieces, beside).await {
        Ok(()) => Ok(()),
        Err(error @ shoal_runtimes::session::SessionError::InUse(_)) => Err(error.into()),
        Err(error) => {
            let why = format!(
                "{error}. A part of the files may be in `{asked}`, and what was there before may \
                 be gone"
            );
            Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "engine", why)
                .hint("Restore it once more before its replica starts.")
                .into())
        }
    }
}

/// Links of an archive that are noted: the engine judges what is behind further ones.
const MAX_LINKS: usize = 65_536;

/// The error of a reader that finds no archive. Its own words may hold what is in the file.
fn no_tar(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "it ends early".into(),
        _ if error.to_string().contains("failed to read entire block") => "it ends early".into(),
        _ => "what is in it is not what a tar archive has there".into(),
    }
}

/// Whether a path has a part that leads upwards.
fn climbs(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

/// Why a file is no whole tar archive of a volume.
fn check(path: &Path, is_component: bool) -> Result<(), String> {
    let failed = |error: io::Error| error.to_string();
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut head = [0; 2];
    if length < 2 || file.read_exact(&mut head).is_err() {
        return Err("it is empty".into());
    }
    if head == [0x1f, 0x8b] {
        return Err("it is compressed: `gunzip -c FILE | shoal volume restore VOLUME -`".into());
    }
    file.rewind().map_err(failed)?;
    let mut end = 0u64;
    let mut links = BTreeSet::new();
    for entry in tar::Archive::new(&file).entries().map_err(no_tar)? {
        let entry = entry.map_err(no_tar)?;
        let header = entry.header();
        let path = entry.path().map_err(no_tar)?.into_owned();
        // Adapters leave such an entry out, and the volume would lack a file without a word.
        if climbs(&path) {
            return Err(format!("{:?} in it leads out of the volume by `..`", path.display()));
        }
        let kind = header.entry_type();
        if is_component
            && (kind.is_character_special() || kind.is_block_special() || kind.is_fifo())
        {
            let path = path.display();
            return Err(format!("{path:?} in it is a device or a pipe, and components have none"));
        }
        let target = header.entry_type().is_hard_link().then(|| entry.link_name());
        let target = target.transpose().map_err(no_tar)?.flatten();
        if let Some(target) = target.filter(|target| climbs(target)) {
            let (path, target) = (path.display(), target.display());
            return Err(format!(
                "{path:?} in it is the file {target:?}, out of the volume by `..`"
            ));
        }
        // The engine refuses it in the middle, when the files before are gone.
        if let Some(link) = path.ancestors().skip(1).find(|above| links.contains(*above)) {
            let (path, link) = (path.display(), link.display());
            return Err(format!("{path:?} in it is behind the link {link:?}"));
        }
        if header.entry_type().is_symlink() && links.len() < MAX_LINKS {
            links.insert(path);
        }
        // The size of a sparse file is that of the whole; its archive has less.
        let is_sparse = header.entry_type().is_gnu_sparse();
        let size = if is_sparse { header.entry_size().map_err(no_tar)? } else { entry.size() };
        let after = entry.raw_file_position().saturating_add(size);
        end = after.checked_next_multiple_of(BLOCK).ok_or("a size in it makes no sense")?;
    }
    match length {
        _ if end == 0 => Err("there are no files in it".into()),
        length if length < end.saturating_add(END) => Err("its end is missing".into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(600);
        header.set_mode(0o644);
        builder.append_data(&mut header, "file", &[7; 600][..]).unwrap();
        builder.into_inner().unwrap()
    }

    /// A backup that was cut off, at whatever byte, must not replace a volume.
    #[test]
    fn only_whole_archives_are_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        let checked = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            check(&path, true)
        };
        let whole = archive();
        assert_eq!(checked(&whole), Ok(()));
        for length in (0..whole.len()).step_by(64) {
            assert!(checked(&whole[..length]).is_err(), "{length} bytes of {}", whole.len());
        }
        assert!(checked(&[0x1f, 0x8b, 8, 0]).unwrap_err().contains("gunzip"));
        assert_eq!(checked(&[0; 2048]).unwrap_err(), "there are no files in it");
        assert!(checked(&[b'a'; 2048]).is_err());
    }

    /// An archive with a header of this path, which `tar` itself does not write.
    fn named(path: &str, link: Option<&str>) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        if let Some(link) = link {
            old.linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(tar::EntryType::Link);
        }
        header.set_cksum();
        builder.append(&header, io::empty()).unwrap();
        builder.into_inner().unwrap()
    }

    /// The writer for components leaves such an entry out; an engine makes it.
    #[test]
    fn device_in_an_archive_of_a_component_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        for kind in [tar::EntryType::Char, tar::EntryType::Block, tar::EntryType::Fifo] {
            let mut builder = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_entry_type(kind);
            builder.append_data(&mut header, "null", &[][..]).unwrap();
            std::fs::write(&path, builder.into_inner().unwrap()).unwrap();
            assert_eq!(
                check(&path, true).unwrap_err(),
                "\"null\" in it is a device or a pipe, and components have none"
            );
            assert_eq!(check(&path, false), Ok(()));
        }
    }

    /// Such an entry was left out, and the restore said that all was well.
    #[test]
    fn archive_that_leads_out_of_the_volume_is_refused_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        let checked = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            check(&path, true)
        };
        for bad in ["../harmless", "sub/../../harmless", "sub/..", "./../harmless"] {
            let why = checked(&named(bad, None)).unwrap_err();
            assert!(why.contains(bad) && why.contains("out of the volume"), "{why}");
        }
        let why = checked(&named("file", Some("../harmless"))).unwrap_err();
        assert!(why.contains("\"file\"") && why.contains("../harmless"), "{why}");
        for good in ["..harmless", "a..b/c", "sub/...", "./file"] {
            assert_eq!(checked(&named(good, None)), Ok(()), "{good}");
        }
        assert_eq!(checked(&named("file", Some("other"))), Ok(()));
    }
}
