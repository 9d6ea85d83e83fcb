//! The connection to the engine. **Every call has a deadline**: an engine that hangs delays the
//! caller, and never holds it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::models::{ContainerCreateBody, VolumeCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, KillContainerOptionsBuilder, RemoveContainerOptionsBuilder,
    RemoveImageOptionsBuilder, RemoveVolumeOptions, StartContainerOptions,
    StopContainerOptionsBuilder,
};
use bytes::Bytes;
use futures::Stream;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::credentials::Login;
use super::forms::{
    Event, Image, Info, Inspected, Listed, ListedImage, ListedVolume, Pulling, Stats, Version,
    Volumes,
};
use super::raw::{self, encode};
use super::refusal::CallError;
use super::socket::{SetupError, why_not};

/// The label with the owner: the node whose containers they are.
pub(super) const OWNER: &str = "shoal.node";
/// The label with the instance's id.
pub(super) const INSTANCE: &str = "shoal.instance";
/// The label of a container of a group with its name in it.
pub(super) const CONTAINER: &str = "shoal.container";
/// The label of a container of a group with its number in the order in which they are started.
pub(super) const ORDER: &str = "shoal.order";
/// The label of a container of a group with its part in it.
pub(super) const ROLE: &str = "shoal.role";
/// The label with the hash of the launch.
pub(super) const LAUNCH: &str = "shoal.launch";
/// The label of a container whose program is to come to an end by itself.
pub(super) const ENDS: &str = "shoal.ends";
/// The label of a volume that goes with an instance, with its id.
pub(super) const SCRATCH: &str = "shoal.scratch";
/// The hooks before a container's end, as JSON: whoever ends it finds them.
pub(super) const PRE_STOP: &str = "shoal.pre-stop";
/// The label with the name of a volume within its workload.
pub(super) const VOLUME: &str = "shoal.volume";
/// The label with the place of the replica that a volume is for.
pub(super) const PLACE: &str = "shoal.place";
/// The label with the workload's name: for people, and by which a volume is found.
pub(super) const WORKLOAD: &str = "shoal.workload";

/// An answer that the engine has at hand. Podman takes up to a second for its version.
const SOON: Duration = Duration::from_secs(10);
/// Changes of a container: the engine mounts, writes and waits for the kernel.
const CHANGE: Duration = Duration::from_secs(60);
/// Time for the engine to unpack an image of gigabytes from a slow disk.
const LOAD: Duration = Duration::from_secs(900);
/// Time for a stop beyond its grace: the engine kills, and waits for the end.
const STOP_BEYOND: Duration = Duration::from_secs(20);
/// bollard's own deadline, which covers headers only: longer than each deadline here.
const CLIENT_SECONDS: u64 = 24 * 3600;
/// The oldest API that has all that the adapter needs.
const OLDEST_API: (u32, u32) = (1, 41);

/// The engine, as a person asks for it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EngineView {
    /// `Docker` or `Podman`.
    pub name: &'static str,
    /// The engine's version, as it was when the adapter was made.
    pub version: String,
    /// The engine's socket.
    pub socket: PathBuf,
    /// Whether the engine answered the last time it was asked, at most some 20 seconds ago.
    pub reachable: bool,
    /// The reason why it is not reachable.
    pub error: Option<String>,
}

pub(super) struct Engine {
    docker: Docker,
    pub socket: PathBuf,
    pub is_podman: bool,
    pub version: String,
    /// The machine as image configurations have it: `amd64`, `arm64`.
    pub machine: String,
    pub cpus: u32,
    /// The folder with the engine's images, as it names it.
    pub data: Option<PathBuf>,
    /// Without root its containers' addresses are not reachable from the device.
    pub rootless: bool,
    /// It runs on this device itself, so that its paths are the daemon's, too.
    pub is_here: bool,
    /// Its containers' ports are also published on the device, for an engine whose containers'
    /// addresses lead nowhere here. Rootful Podman of this device needs it not, and it takes a
    /// fifth of a container's start there.
    pub publishes: bool,
    error: Mutex<Option<String>>,
}

impl Engine {
    /// Connects to an engine, and asks once what it is.
    pub async fn connect(socket: &Path) -> Result<Self, SetupError> {
        let no_answer = |reason: String| SetupError::NoAnswer { socket: socket.to_owned(), reason };
        match timeout(SOON, UnixStream::connect(socket)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(why_not(socket, &error)),
            Err(_) => return Err(no_answer(format!("it takes no connection within {SOON:?}"))),
        }
        let version: Version = within(SOON, raw::get(socket, "/version"))
            .await
            .map_err(|e| no_answer(e.to_string()))?;
        let components = version.components.unwrap_or_default();
        let is_podman = components
            .first()
            .and_then(|engine| engine.name.as_deref())
            .is_some_and(|name| name == "Podman Engine");
        let api = version.api_version.unwrap_or_default();
        let release = version.version.unwrap_or_default();
        if parse(&api).is_none_or(|api| api < OLDEST_API) {
            let (name, version) = (name(is_podman), release);
            return Err(SetupError::TooOld { socket: socket.to_owned(), name, version, api });
        }
        let info: Info =
            within(SOON, raw::get(socket, "/info")).await.map_err(|e| no_answer(e.to_string()))?;
        let rootless = info.security.iter().flatten().any(|option| option.contains("rootless"))
            || socket.starts_with("/run/user");
        // In a virtual machine or another container it has another name.
        let is_here = info.name.as_deref().is_some_and(is_this_device);
        let path = socket.to_str().ok_or_else(|| no_answer("its path is no text".into()))?;
        let docker = Docker::connect_with_unix(path, CLIENT_SECONDS, bollard::API_DEFAULT_VERSION)
            .map_err(|error| no_answer(error.to_string()))?;
        Ok(Engine {
            docker,
            socket: socket.to_owned(),
            is_podman,
            version: release,
            machine: version.arch.unwrap_or_else(machine),
            data: info.data,
            cpus: info.cpus.filter(|cpus| *cpus > 0).unwrap_or_else(processors),
            rootless,
            is_here,
            publishes: !(is_podman && is_here) || rootless,
            error: Mutex::default(),
        })
    }

    pub fn name(&self) -> &'static str {
        name(self.is_podman)
    }

    pub fn docker(&self) -> &Docker {
        &self.docker
    }

    pub fn view(&self) -> EngineView {
        let error = self.lock().clone();
        EngineView {
            name: self.name(),
            version: self.version.clone(),
            socket: self.socket.clone(),
            reachable: error.is_none(),
            error,
        }
    }

    /// Notes whether the engine answered. Gives whether that is news.
    pub fn note(&self, error: Option<String>) -> bool {
        let mut present = self.lock();
        let is_news = present.is_some() != error.is_some();
        *present = error;
        is_news
    }

    fn lock(&self) -> MutexGuard<'_, Option<String>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The containers of an owner, or of one of its instances, in any state.
    pub async fn list(
        &self,
        owner: &str,
        instance: Option<&str>,
    ) -> Result<Vec<Listed>, CallError> {
        let mut labels = vec![format!("{OWNER}={owner}")];
        // Podman takes `*` in a filter for anything, so the answer is compared again.
        labels.extend(instance.map(|instance| format!("{INSTANCE}={instance}")));
        let filters = serde_json::json!({ "label": labels }).to_string();
        let path = format!("/containers/json?all=1&filters={}", encode(&filters));
        let mut all: Vec<Listed> = within(SOON, raw::get(&self.socket, &path)).await?;
        all.retain(|one| {
            one.label(OWNER) == Some(owner)
                && instance.is_none_or(|instance| one.label(INSTANCE) == Some(instance))
        });
        Ok(all)
    }

    /// All containers that have this label, in any state.
    pub async fn labelled(&self, label: &str) -> Result<Vec<Listed>, CallError> {
        let filters = serde_json::json!({ "label": [label] }).to_string();
        let path = format!("/containers/json?all=1&filters={}", encode(&filters));
        within(SOON, raw::get(&self.socket, &path)).await
    }

    pub async fn inspect(&self, id: &str) -> Result<Inspected, CallError> {
        within(SOON, raw::get(&self.socket, &format!("/containers/{id}/json"))).await
    }

    pub async fn image(&self, reference: &str) -> Result<Image, CallError> {
        let path = format!("/images/{}/json", encode(reference));
        within(SOON, raw::get(&self.socket, &path)).await
    }

    /// An image with its health check, by its id. Podman's answer in the form of Docker's leaves
    /// that out.
    pub async fn image_by_id(&self, id: &str) -> Result<Image, CallError> {
        match self.is_podman {
            true => {
                let path = format!("/v4.0.0/libpod/images/{}/json", encode(id));
                within(SOON, raw::get(&self.socket, &path)).await
            }
            false => self.image(id).await,
        }
    }

    /// All images.
    pub async fn images(&self) -> Result<Vec<ListedImage>, CallError> {
        within(SOON, raw::get(&self.socket, "/images/json")).await
    }

    /// Orders a pull, whose lines tell how far it is and whether it failed. The caller bounds its
    /// silences.
    pub async fn pull(
        &self,
        reference: &str,
        login: Option<&Login>,
    ) -> Result<impl Stream<Item = Result<Pulling, CallError>> + Send + use<>, CallError> {
        // Of an image by its digest the engines take the whole as its name.
        let path = format!("/images/create?fromImage={}", encode(reference));
        let login = login.map(|login| ("X-Registry-Auth", login.header()));
        within(CHANGE, raw::post_lines(&self.socket, &path, login)).await
    }

    /// An image as an archive. The caller bounds its silences.
    pub async fn export(
        &self,
        reference: &str,
    ) -> Result<impl Stream<Item = Result<Bytes, CallError>> + Send + use<>, CallError> {
        raw::chunks(&self.socket, &format!("/images/{}/get", encode(reference))).await
    }

    /// Removes a name of an image, and the image with its last name. Never by force: Podman would
    /// remove the containers that use it.
    pub async fn remove_image(&self, name: &str) -> Result<(), CallError> {
        let options = RemoveImageOptionsBuilder::new().force(false).build();
        let removed = self.docker.remove_image(name, Some(options), None);
        within(CHANGE, bollards(removed)).await.map(drop)
    }

    /// Loads the images of an archive.
    pub async fn load(&self, archive: raw::Chunks) -> Result<(), CallError> {
        let answer = within(LOAD, raw::post(&self.socket, "/images/load", archive)).await?;
        match loading_failed(&answer) {
            Some(why) => Err(CallError::garbled(why)),
            None => Ok(()),
        }
    }

    /// A reading of a container's resources. Docker takes a second or two for it.
    pub async fn stats(&self, id: &str) -> Result<Stats, CallError> {
        let path = format!("/containers/{id}/stats?stream=false&one-shot=true");
        within(SOON, raw::get(&self.socket, &path)).await
    }

    /// The events of an owner's containers, from now on, until the engine ends.
    pub async fn events(
        &self,
        owner: &str,
    ) -> Result<impl Stream<Item = Result<Event, CallError>> + use<>, CallError> {
        // Other filters work on one of the engines only.
        let label = format!("{OWNER}={owner}");
        let filters = serde_json::json!({ "type": ["container"], "label": [label] }).to_string();
        let path = format!("/events?filters={}", encode(&filters));
        within(SOON, raw::lines(&self.socket, &path)).await
    }

    pub async fn create(&self, name: &str, body: ContainerCreateBody) -> Result<String, CallError> {
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let made = self.docker.create_container(Some(options), body);
        Ok(within(CHANGE, bollards(made)).await?.id)
    }

    pub async fn start(&self, id: &str) -> Result<(), CallError> {
        let started = self.docker.start_container(id, None::<StartContainerOptions>);
        within(CHANGE, bollards(started)).await
    }

    /// Asks a container to end, and kills it after `grace`, which the engine counts in seconds.
    pub async fn stop(&self, id: &str, grace: Duration) -> Result<(), CallError> {
        let seconds = i32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
        // Podman without it kills at once.
        let options = StopContainerOptionsBuilder::new().t(seconds).build();
        let stopped = self.docker.stop_container(id, Some(options));
        let limit = grace.saturating_add(STOP_BEYOND);
        match within(limit, bollards(stopped)).await {
            Err(error) if error.already_so() => Ok(()),
            result => result,
        }
    }

    pub async fn kill(&self, id: &str) -> Result<(), CallError> {
        let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
        within(SOON, bollards(self.docker.kill_container(id, Some(options)))).await
    }

    pub async fn unpause(&self, id: &str) -> Result<(), CallError> {
        within(SOON, bollards(self.docker.unpause_container(id))).await
    }

    /// The volumes of an owner.
    pub async fn volumes(&self, owner: &str) -> Result<Vec<ListedVolume>, CallError> {
        let label = format!("{OWNER}={owner}");
        let filters = serde_json::json!({ "label": [label] }).to_string();
        let path = format!("/volumes?filters={}", encode(&filters));
        let all: Volumes = within(SOON, raw::get(&self.socket, &path)).await?;
        let mut all = all.volumes.unwrap_or_default();
        all.retain(|one| one.label(OWNER) == Some(owner));
        Ok(all)
    }

    /// Makes a volume, or finds the one that has this name already. Gives its labels.
    pub async fn make_volume(
        &self,
        name: &str,
        labels: HashMap<String, String>,
    ) -> Result<HashMap<String, String>, CallError> {
        let request = VolumeCreateRequest {
            name: Some(name.into()),
            labels: Some(labels),
            ..VolumeCreateRequest::default()
        };
        Ok(within(CHANGE, bollards(self.docker.create_volume(request))).await?.labels)
    }

    /// The folder with a volume's files, as the engine names it.
    pub async fn volume_folder(&self, name: &str) -> Result<Option<PathBuf>, CallError> {
        let path = format!("/volumes/{name}");
        let volume: ListedVolume = within(SOON, raw::get(&self.socket, &path)).await?;
        Ok(volume.mountpoint.filter(|path| path.is_absolute()))
    }

    pub async fn remove_volume(&self, name: &str) -> Result<(), CallError> {
        let removed = self.docker.remove_volume(name, None::<RemoveVolumeOptions>);
        within(CHANGE, bollards(removed)).await
    }

    /// Removes a container that does not run, with its unnamed volumes.
    pub async fn remove(&self, id: &str) -> Result<(), CallError> {
        let options = RemoveContainerOptionsBuilder::new().v(true).build();
        within(CHANGE, bollards(self.docker.remove_container(id, Some(options)))).await
    }
}

/// The error in the lines of an answer of success.
pub(super) fn loading_failed(answer: &[u8]) -> Option<String> {
    let lines = answer.split(|byte| *byte == b'\n');
    let mut values = lines.filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    values.find_map(|value| Some(value.get("errorDetail")?.get("message")?.as_str()?.to_owned()))
}

/// The result of a call, or the error that its deadline passed.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    timeout(limit, call).await.unwrap_or(Err(CallError::Silent(limit)))
}

/// A call of bollard's, with the errors of this adapter.
pub(super) async fn bollards<T>(
    call: impl Future<Output = Result<T, bollard::errors::Error>>,
) -> Result<T, CallError> {
    Ok(call.await?)
}

fn name(is_podman: bool) -> &'static str {
    if is_podman { "Podman" } else { "Docker" }
}

pub(super) fn parse(api: &str) -> Option<(u32, u32)> {
    let (major, minor) = api.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Whether a device has this one's name.
fn is_this_device(name: &str) -> bool {
    rustix::system::uname().nodename().to_str() == Ok(name)
}

fn machine() -> String {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
    .to_owned()
}

fn processors() -> u32 {
    std::thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(1))
}
