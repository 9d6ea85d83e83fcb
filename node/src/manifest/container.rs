//! The fields of a container.

use std::path::Path;

use serde::{Deserialize, Deserializer};
use shoal_protocol::model::spec::{Image, LaunchFact, PlatformImage, Ulimit, Volume, VolumeSource};
use shoal_protocol::model::{Artifact, Digest, WorkloadName};

use super::hooks::hooks;
use super::text::{
    self, ArtifactText, At, DigestText, LabelText, Loss, Pairs, Text, TextOr, text_or,
};
use super::{Document, ManifestError, field, quantity};
use crate::publish::container::{self as options, ContainerOptions, Words};
use crate::publish::volume::Mounted;
use crate::publish::{Workload, volume};

/// A command: a list of words, or one text that is split as a shell does.
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(untagged))]
pub(super) enum Command {
    Words(Vec<Text>),
    Text(Text),
}

impl TextOr for Command {
    const EXPECTED: &'static str = "a list of words, or one text,";

    fn of_text(text: String) -> Self {
        Command::Text(Text(text))
    }

    fn of_list<'de, D: Deserializer<'de>>(list: D) -> Result<Self, D::Error> {
        Vec::deserialize(list).map(Command::Words)
    }
}

impl<'de> Deserialize<'de> for Command {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        text_or(from)
    }
}

/// A volume: `SOURCE:PATH[:ro]`, or its parts.
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(untagged))]
pub(super) enum VolumeText {
    Text(String),
    Parts(VolumeParts),
}

impl TextOr for VolumeText {
    const EXPECTED: &'static str = "a volume as `data:/var/lib/db`, or its parts,";

    fn of_text(text: String) -> Self {
        VolumeText::Text(text)
    }

    fn of_map<'de, D: Deserializer<'de>>(map: D) -> Result<Self, D::Error> {
        VolumeParts::deserialize(map).map(VolumeText::Parts)
    }
}

impl<'de> Deserialize<'de> for VolumeText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        text_or(from)
    }
}

/// The parts of a volume.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct VolumeParts {
    /// Its name, a DNS label. Example: `name: data`
    name: LabelText,
    /// A path of the device, where a node allows it. Default: a volume of its own.
    /// Example: `device: /srv/www`
    device: Option<String>,
    /// It is empty when the replica starts for the first time, and goes with it. Default: false.
    /// Example: `scratch: true`
    #[serde(default)]
    scratch: bool,
    /// The absolute path in the container. Example: `path: /var/lib/db`
    path: String,
    /// The container cannot write it. Default: false. Example: `read_only: true`
    #[serde(default)]
    read_only: bool,
    /// The way on when the node that keeps it is down: wait or empty. Default: wait.
    /// Example: `on_loss: empty`
    on_loss: Option<Loss>,
}

/// The exact bytes of an image.
#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct Pinned {
    /// The hash of the registry's manifest or index.
    /// Example: `digest: sha256:0101010101010101010101010101010101010101010101010101010101010101`
    digest: Option<DigestText>,
    /// The parts of the image for each machine. Example: `platforms: []`
    #[serde(default)]
    platforms: Vec<Platform>,
}

/// An image for one kind of machine, by its parts.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct Platform {
    /// The machine. Example: `arch: x86_64`
    arch: String,
    /// The configuration of the image.
    /// Example: `config: sha256:0101010101010101010101010101010101010101010101010101010101010101/7`
    config: ArtifactText,
    /// The layers, lowest first. Example: `layers: []`
    layers: Vec<ArtifactText>,
    /// The list of the pieces of large layers.
    /// Example: `pieces: sha256:0101010101010101010101010101010101010101010101010101010101010101/7`
    pieces: Option<ArtifactText>,
}

impl Pinned {
    fn of(self, image: &mut Image) -> Result<(), String> {
        image.digest = self.digest.map(|text| digest(&text.0)).transpose()?;
        let platforms = self.platforms.into_iter().map(|it| {
            let Platform { arch, config, layers, pieces } = it;
            Ok::<_, String>(PlatformImage {
                arch,
                config: artifact(&config.0)?,
                layers: layers.iter().map(|it| artifact(&it.0)).collect::<Result<_, _>>()?,
                pieces: pieces.map(|it| artifact(&it.0)).transpose()?,
            })
        });
        image.platforms = platforms.collect::<Result<_, _>>()?;
        Ok(())
    }
}

/// Reads `sha256:HASH/BYTES`.
pub(super) fn artifact(text: &str) -> Result<Artifact, String> {
    let wrong = || format!("`{text}` is not of the form sha256:HASH/BYTES");
    let (hash, size) = text.split_once('/').ok_or_else(wrong)?;
    Ok(Artifact { digest: digest(hash)?, size: size.parse().map_err(|_| wrong())? })
}

fn digest(text: &str) -> Result<Digest, String> {
    let hash = text.strip_prefix("sha256:").and_then(|hash| hash.parse().ok());
    hash.ok_or_else(|| format!("`{text}` is not of the form sha256:HASH"))
}

impl Document {
    /// The fields that each container of a group has for itself, and their lines.
    fn fields_of_containers(&self) -> Vec<(&'static str, Option<u64>)> {
        vec![
            ("command", line(&self.command)),
            ("entrypoint", line(&self.entrypoint)),
            ("pinned", line(&self.pinned)),
            ("port", line(&self.port)),
            ("user", line(&self.user)),
            ("workdir", line(&self.workdir)),
            ("hostname", line(&self.hostname)),
            ("labels", line(&self.labels)),
            ("network", line(&self.network)),
            ("tmpfs", line(&self.tmpfs)),
            ("read_only", line(&self.read_only)),
            ("init", line(&self.init)),
            ("devices", line(&self.devices)),
            ("cap_add", line(&self.cap_add)),
            ("security_opt", line(&self.security_opt)),
            ("privileged", line(&self.privileged)),
            ("cap_drop", line(&self.cap_drop)),
            ("stop_signal", line(&self.stop_signal)),
            ("stop_grace", line(&self.stop_grace)),
            ("shm_size", line(&self.shm_size)),
            ("ulimits", line(&self.ulimits)),
            ("sysctls", line(&self.sysctls)),
            ("extra_hosts", line(&self.extra_hosts)),
            ("dns", line(&self.dns)),
            ("dns_search", line(&self.dns_search)),
            ("dns_opt", line(&self.dns_opt)),
            ("group_add", line(&self.group_add)),
            ("env_from", line(&self.env_from)),
            ("aliases", line(&self.aliases)),
            ("post_start", line(&self.post_start)),
            ("pre_stop", line(&self.pre_stop)),
            ("pull", line(&self.pull)),
        ]
    }

    /// Refuses the fields of a container in a workload that is none.
    pub(super) fn check_no_container(&self) -> Result<(), ManifestError> {
        let mut fields = self.fields_of_containers();
        fields.extend([
            ("exposed", line(&self.exposed)),
            ("stdin", line(&self.stdin)),
            ("tty", line(&self.tty)),
            ("ports", line(&self.ports)),
        ]);
        match fields.into_iter().find_map(|(name, line)| line.map(|line| (name, line))) {
            Some((name, line)) => {
                let message = format!("{name}: only a container has it, and `wasm` is a component");
                Err(ManifestError::at(line, message))
            }
            None => Ok(()),
        }
    }

    /// Refuses beside a list of containers what each of them has for itself.
    pub(super) fn check_no_fields_of_containers(&self) -> Result<(), ManifestError> {
        let mut fields = self.fields_of_containers();
        let env = (!self.env.is_empty()).then(|| self.name.line());
        fields.extend([
            ("env", env),
            ("secrets", line(&self.secrets)),
            ("configs", line(&self.configs)),
            ("health", line(&self.health)),
            ("volumes", line(&self.volumes)),
            ("volume_on_loss", line(&self.volume_on_loss)),
            ("args", line(&self.args)),
            ("world", line(&self.world)),
        ]);
        match fields.into_iter().find_map(|(name, line)| line.map(|line| (name, line))) {
            Some((name, line)) => {
                let message = format!("{name}: of a group it stands in each of its `containers`");
                Err(ManifestError::at(line, message))
            }
            None => Ok(()),
        }
    }

    /// A group with the fields that are those of its replica: ports of the device, and the streams
    /// of the main container.
    pub(super) fn of_replica(&mut self, group: Workload) -> Result<Workload, ManifestError> {
        let ports = list("ports", self.ports.take(), options::published)?;
        let exposed = list("exposed", self.exposed.take(), options::port)?;
        let is = |flag: &mut Option<At<bool>>| flag.take().is_some_and(At::take);
        let (stdin, tty) = (is(&mut self.stdin), is(&mut self.tty));
        Ok(group.ports(ports).streams(stdin, tty).exposes(exposed))
    }

    /// The container of `image` with the options of this document.
    pub(super) fn container(
        &mut self,
        name: WorkloadName,
        image: String,
        base: &Path,
    ) -> Result<Workload, ManifestError> {
        let line = self.name.line();
        let given = ContainerOptions {
            port: read("port", self.port.take(), options::port)?,
            entrypoint: self.entrypoint.take().map(|it| command("entrypoint", it)).transpose()?,
            user: self.user.take().map(|it| it.take().0),
            workdir: self.workdir.take().map(|it| it.take().0),
            hostname: self.hostname.take().map(|it| it.take().0),
            labels: pairs(self.labels.take()),
            network: read("network", self.network.take(), options::network)?,
            tmpfs: list("tmpfs", self.tmpfs.take(), options::tmpfs)?,
            interactive: self.stdin.take().is_some_and(At::take),
            tty: self.tty.take().is_some_and(At::take),
            read_only: self.read_only.take().is_some_and(At::take),
            init: self.init.take().is_some_and(At::take),
            publish: list("ports", self.ports.take(), options::published)?,
            volumes: self.volumes.take().map(volumes).transpose()?.unwrap_or_default(),
            mounts: Vec::new(),
            volume_on_loss: read("volume_on_loss", self.volume_on_loss.take(), volume::on_loss)?,
            devices: list("devices", self.devices.take(), volume::device)?,
            cap_add: self.cap_add.take().map(|it| it.take()).unwrap_or_default(),
            security_opt: list("security_opt", self.security_opt.take(), volume::security)?,
            privileged: self.privileged.take().is_some_and(At::take),
            cap_drop: self.cap_drop.take().map(|it| it.take()).unwrap_or_default(),
            stop_signal: self.stop_signal.take().map(|it| it.take().0),
            stop_grace: read("stop_grace", self.stop_grace.take(), quantity::duration)?,
            shm_size: read("shm_size", self.shm_size.take(), quantity::size)?,
            ulimits: self.ulimits.take().map(ulimits).transpose()?.unwrap_or_default(),
            sysctls: pairs(self.sysctls.take()),
            extra_hosts: list("extra_hosts", self.extra_hosts.take(), options::host)?,
            dns: list("dns", self.dns.take(), options::server)?,
            dns_search: list("dns_search", self.dns_search.take(), same)?,
            dns_opt: list("dns_opt", self.dns_opt.take(), same)?,
            group_add: list("group_add", self.group_add.take(), same)?,
            env_from: self.env_from.take().map(filled).transpose()?.unwrap_or_default(),
            network_alias: list("aliases", self.aliases.take(), same)?,
            post_start: hooks("post_start", self.post_start.take())?,
            pre_stop: hooks("pre_stop", self.pre_stop.take())?,
            pull: read("pull", self.pull.take(), options::pull)?,
        };
        let pinned = self.pinned.take();
        let exposed = list("exposed", self.exposed.take(), options::port)?;
        let workload = match options::is_file(&image) && pinned.is_none() {
            true => Workload::image_file(name, base.join(image), None),
            false => Workload::container(name, image),
        };
        let workload = given.apply(workload).map_err(|error| ManifestError::at(line, error))?;
        let workload = workload.exposes(exposed);
        let workload = match pinned {
            Some(pinned) => {
                let line = pinned.line();
                let mut wrong = None;
                let workload = workload.with_container(|container| {
                    wrong = pinned.take().of(&mut container.image).err();
                });
                match wrong {
                    Some(error) => {
                        return Err(ManifestError::at(line, format!("pinned: {error}")));
                    }
                    None => workload,
                }
            }
            None => workload,
        };
        Ok(match self.command.take() {
            Some(words) => workload.command(command("command", words)?.0),
            None => workload,
        })
    }
}

fn line<T>(field: &Option<At<T>>) -> Option<u64> {
    field.as_ref().map(At::line)
}

pub(super) fn read<T, E: std::fmt::Display>(
    name: &str,
    text: Option<At<impl AsRef<str>>>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, ManifestError> {
    text.map(|text| field(name, &text, parse)).transpose()
}

fn list<T>(
    name: &str,
    texts: Option<At<Vec<impl AsRef<str>>>>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, ManifestError> {
    let Some(texts) = texts else { return Ok(Vec::new()) };
    let line = texts.line();
    let wrong = |error| ManifestError::at(line, format!("{name}: {error}"));
    texts.get().iter().map(|text| parse(text.as_ref()).map_err(wrong)).collect()
}

pub(super) fn volumes(all: At<Vec<VolumeText>>) -> Result<Vec<Mounted>, ManifestError> {
    let line = all.line();
    let one = |it: VolumeText| match it {
        VolumeText::Text(text) => volume::volume(&text),
        VolumeText::Parts(VolumeParts { name, device, scratch, path, read_only, on_loss }) => {
            let source = match (device, scratch) {
                (Some(_), true) => {
                    return Err(format!("`{}`: `device` or `scratch`, not both", name.0));
                }
                (Some(path), false) => VolumeSource::Device(path),
                (None, true) => VolumeSource::Scratch,
                (None, false) => VolumeSource::Kept,
            };
            let on_loss = on_loss.map(|it| volume::on_loss(&it.0)).transpose()?;
            let on_loss = on_loss.unwrap_or_default();
            Ok(Mounted::of(Volume { name: name.0, source, on_loss }, path, read_only))
        }
    };
    let wrong = |error| ManifestError::at(line, format!("volumes: {error}"));
    all.take().into_iter().map(|it| one(it).map_err(wrong)).collect()
}

pub(super) fn command(name: &str, words: At<Command>) -> Result<Words, ManifestError> {
    let line = words.line();
    match words.take() {
        Command::Words(words) => Ok(Words(words.into_iter().map(|it| it.0).collect())),
        Command::Text(text) => options::words(&text.0)
            .map_err(|error| ManifestError::at(line, format!("{name}: {error}"))),
    }
}

fn pairs(map: Option<At<Pairs>>) -> Vec<(String, String)> {
    map.map(|map| text::pairs(map.take()).into_iter().collect()).unwrap_or_default()
}

/// A text as it is.
fn same(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

fn filled(map: At<Pairs>) -> Result<Vec<(String, LaunchFact)>, ManifestError> {
    let line = map.line();
    let one = |(name, text): (String, Text)| match text.0.parse() {
        Ok(fact) => Ok((name, fact)),
        Err(error) => Err(ManifestError::at(line, format!("env_from: {name}: {error}"))),
    };
    map.take().into_iter().map(one).collect()
}

fn ulimits(map: At<Pairs>) -> Result<Vec<(String, Ulimit)>, ManifestError> {
    let line = map.line();
    let one = |(name, text): (String, Text)| match options::limits_of(&text.0) {
        Ok(limits) => Ok((name, limits)),
        Err(error) => Err(ManifestError::at(line, format!("ulimits: {name}: {error}"))),
    };
    map.take().into_iter().map(one).collect()
}
