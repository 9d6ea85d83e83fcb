//! The files of a volume, also while no replica mounts it.
//!
//! They go through a helper: **a container that mounts the volume and never starts**, of an image
//! without a program. So it works alike on all engines, also without root, also on an engine in a
//! virtual machine, and the engine alone touches the files. The exception is reading where the
//! engine would give all files to root: see `files/folder.rs`.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use shoal_protocol::model::Digest;
use shoal_protocol::model::spec::{Artifact, PlatformImage};
use tokio::sync::mpsc;

use super::engine::{Engine, within};
use super::life::unique;
use super::refusal::CallError;
use super::shared::Shared;
use super::{raw, volumes};
use crate::files::{Sending, folder};
use crate::images::{self, WriteError};
use crate::model::VolumeKey;
use crate::session::Chunks;

/// The label of helpers, with their owner. Not that of containers that run replicas.
const HELPER: &str = "shoal.helper";
/// The label with the process that made the helper: those of an earlier one are left over.
const PROCESS: &str = "shoal.process";
/// The image of helpers.
const IMAGE: &str = "localhost/shoal-helper:1";
/// The volume's folder in a helper.
const FOLDER: &str = "/volume";
/// Chunks of an archive that wait for its reader.
const WAITING: usize = 4;
/// Time for the engine to begin an archive.
const BEGIN: Duration = Duration::from_secs(60);

/// A helper. Dropping it removes it.
struct Helper {
    shared: Arc<Shared>,
    id: Option<String>,
}

/// Reads all files of a volume, as a tar archive whose first entry is the volume's own folder.
pub(super) async fn read(shared: &Arc<Shared>, key: &VolumeKey) -> Result<Chunks, CallError> {
    if let Some(chunks) = read_folder(shared, key).await? {
        return Ok(chunks);
    }
    let helper = Helper::of(shared, key).await?;
    let path = format!("/containers/{}/archive?path={FOLDER}/.", helper.id());
    let chunks = within(BEGIN, raw::chunks(&shared.engine.socket, &path)).await?;
    let chunks = Box::pin(chunks.map_err(io::Error::other));
    // The volume is free again before its reader sees the end.
    let chunks = stream::try_unfold((chunks, helper), |(mut chunks, helper)| async move {
        match chunks.next().await {
            Some(chunk) => Ok(Some((chunk?, (chunks, helper)))),
            None => {
                helper.end().await;
                Ok(None)
            }
        }
    });
    Ok(chunks.boxed())
}

/// Reads them from the device, where the engine would give all files to root; none where only the
/// engine can.
async fn read_folder(shared: &Arc<Shared>, key: &VolumeKey) -> Result<Option<Chunks>, CallError> {
    let engine = &shared.engine;
    if !engine.is_podman || !engine.is_here || engine.rootless {
        return Ok(None);
    }
    let Some(folder) = engine.volume_folder(&volumes::name(&shared.config.owner, key)).await?
    else {
        return Ok(None);
    };
    let opened = tokio::task::spawn_blocking(move || folder::open(&folder)).await;
    // A daemon without root cannot.
    let Ok(Ok(folder)) = opened else { return Ok(None) };
    let (sender, mut chunks) = mpsc::channel(WAITING);
    shared.node.spawn_blocking(move || {
        let out = Sending::new(sender.clone());
        if let Err(error) = folder::write(folder, out) {
            // Its reader may have gone.
            let _ = sender.blocking_send(Err(error));
        }
    });
    Ok(Some(stream::poll_fn(move |cx| chunks.poll_recv(cx)).boxed()))
}

/// Unpacks a tar archive in a volume, which is made if it is not there; with `empties` nothing of
/// what was in it before is left.
pub(super) async fn write(
    shared: &Arc<Shared>,
    key: &VolumeKey,
    archive: Chunks,
    empties: bool,
) -> Result<(), CallError> {
    if empties {
        volumes::clear(shared, key).await?;
    }
    volumes::make(shared, key).await?;
    let helper = Helper::of(shared, key).await?;
    // Podman gives all files to root, unless told not to.
    let path = format!("/containers/{}/archive?path={FOLDER}&copyUIDGID=false", helper.id());
    let written = raw::put(&shared.engine.socket, &path, archive).await;
    helper.end().await;
    written.map(drop)
}

/// Removes the helpers that an earlier process of this owner has left.
pub(super) async fn sweep(shared: Arc<Shared>) {
    let label = format!("{HELPER}={}", shared.config.owner);
    match shared.engine.labelled(&label).await {
        Ok(helpers) => {
            let process = process();
            for one in helpers.iter().filter(|one| one.label(PROCESS) != Some(&process)) {
                remove(&shared.engine, &one.id).await;
            }
        }
        Err(error) => tracing::debug!("helpers that are left over are not known: {error}"),
    }
}

impl Helper {
    async fn of(shared: &Arc<Shared>, key: &VolumeKey) -> Result<Helper, CallError> {
        let engine = &shared.engine;
        let owner = &shared.config.owner;
        let mount = Mount {
            target: Some(FOLDER.into()),
            source: Some(volumes::name(owner, key)),
            typ: Some(MountType::VOLUME),
            ..Mount::default()
        };
        let body = ContainerCreateBody {
            image: Some(IMAGE.into()),
            // Engines want one, and it is never run.
            cmd: Some(vec!["/none".into()]),
            labels: Some(HashMap::from([
                (HELPER.to_owned(), owner.clone()),
                (PROCESS.to_owned(), process()),
            ])),
            host_config: Some(HostConfig {
                network_mode: Some("none".into()),
                mounts: Some(vec![mount]),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let name = format!("{}-files-{}", volumes::name(owner, key), unique());
        let id = match engine.create(&name, body.clone()).await {
            Err(error) if error.no_such_image() => {
                load(engine).await?;
                engine.create(&name, body).await?
            }
            made => made?,
        };
        Ok(Helper { shared: shared.clone(), id: Some(id) })
    }

    fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    async fn end(mut self) {
        if let Some(id) = self.id.take() {
            remove(&self.shared.engine, &id).await;
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let engine = self.shared.engine.clone();
            self.shared.node.spawn(async move { remove(&engine, &id).await });
        }
    }
}

async fn remove(engine: &Engine, id: &str) {
    if let Err(error) = engine.remove(id).await {
        tracing::debug!("a helper for the files of a volume is left over: {error}");
    }
}

/// This process among all that the device ever ran.
fn process() -> String {
    use std::sync::OnceLock;
    use std::time::{SystemTime, UNIX_EPOCH};
    static OWN: OnceLock<String> = OnceLock::new();
    let own = OWN.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        format!("{}-{}", std::process::id(), since.as_nanos())
    });
    own.clone()
}

/// Gives the engine the image of helpers.
async fn load(engine: &Engine) -> Result<(), CallError> {
    let archive = image(&engine.machine).map_err(CallError::garbled)?;
    engine.load(stream::iter([Ok(Bytes::from(archive))]).boxed()).await
}

/// An image of an empty folder, as an archive that engines load.
fn image(machine: &str) -> Result<Vec<u8>, WriteError> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut folder = tar::Header::new_gnu();
    folder.set_entry_type(tar::EntryType::Directory);
    folder.set_mode(0o755);
    folder.set_size(0);
    let name = FOLDER.trim_start_matches('/');
    layer.append_data(&mut folder, name, io::empty()).map_err(WriteError::Out)?;
    let layer = layer.into_inner().map_err(WriteError::Out)?;
    let config = serde_json::json!({
        "architecture": machine, "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", Digest::of(&layer))] },
        "history": [{ "created_by": "shoal" }],
    });
    let config = config.to_string().into_bytes();
    let artifact =
        |bytes: &Vec<u8>| Artifact { digest: Digest::of(bytes), size: bytes.len() as u64 };
    let platform = PlatformImage {
        arch: std::env::consts::ARCH.into(),
        config: artifact(&config),
        layers: vec![artifact(&layer)],
        pieces: None,
    };
    let parts: BTreeMap<Digest, Vec<u8>> =
        [layer, config].into_iter().map(|bytes| (Digest::of(&bytes), bytes)).collect();
    let mut archive = Vec::new();
    images::write_archive(&mut archive, IMAGE, &platform, |digest| {
        parts.get(digest).map(Vec::as_slice).ok_or_else(|| io::ErrorKind::NotFound.into())
    })?;
    Ok(archive)
}
