//! The fields of a container.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Spanned;
use shoal_protocol::model::WorkloadName;

use super::{Document, ManifestError, field, quantity};
use crate::publish::container::{self as options, ContainerOptions, Words};
use crate::publish::{Workload, volume};

/// A command: a list of words, or one text that is split as a shell does.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Command {
    Words(Vec<String>),
    Text(String),
}

impl Document {
    /// Refuses the fields of a container in a workload that is none.
    pub(super) fn check_no_container(&self) -> Result<(), ManifestError> {
        fn line<T>(field: &Option<Spanned<T>>) -> Option<u64> {
            field.as_ref().map(|field| field.referenced.line())
        }
        let fields = [
            ("command", line(&self.command)),
            ("entrypoint", line(&self.entrypoint)),
            ("port", line(&self.port)),
            ("user", line(&self.user)),
            ("workdir", line(&self.workdir)),
            ("hostname", line(&self.hostname)),
            ("labels", line(&self.labels)),
            ("network", line(&self.network)),
            ("tmpfs", line(&self.tmpfs)),
            ("stdin", line(&self.stdin)),
            ("tty", line(&self.tty)),
            ("read_only", line(&self.read_only)),
            ("init", line(&self.init)),
            ("ports", line(&self.ports)),
            ("volumes", line(&self.volumes)),
            ("volume_on_loss", line(&self.volume_on_loss)),
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
            ("pull", line(&self.pull)),
        ];
        match fields.into_iter().find_map(|(name, line)| line.map(|line| (name, line))) {
            Some((name, line)) => {
                let message = format!("{name}: only a container has it, and `wasm` is a component");
                Err(ManifestError::at(line, message))
            }
            None => Ok(()),
        }
    }

    /// The container of `image` with the options of this document.
    pub(super) fn container(
        &mut self,
        name: WorkloadName,
        image: String,
        base: &Path,
    ) -> Result<Workload, ManifestError> {
        let line = self.name.referenced.line();
        let given = ContainerOptions {
            port: read("port", self.port.take(), options::port)?,
            entrypoint: self.entrypoint.take().map(|it| command("entrypoint", it)).transpose()?,
            user: self.user.take().map(|it| it.value),
            workdir: self.workdir.take().map(|it| it.value),
            hostname: self.hostname.take().map(|it| it.value),
            labels: pairs(self.labels.take()),
            network: read("network", self.network.take(), options::network)?,
            tmpfs: list("tmpfs", self.tmpfs.take(), options::tmpfs)?,
            interactive: self.stdin.take().is_some_and(|it| it.value),
            tty: self.tty.take().is_some_and(|it| it.value),
            read_only: self.read_only.take().is_some_and(|it| it.value),
            init: self.init.take().is_some_and(|it| it.value),
            publish: list("ports", self.ports.take(), options::published)?,
            volumes: list("volumes", self.volumes.take(), volume::volume)?,
            mounts: Vec::new(),
            volume_on_loss: read("volume_on_loss", self.volume_on_loss.take(), volume::on_loss)?,
            devices: list("devices", self.devices.take(), volume::device)?,
            cap_add: self.cap_add.take().map(|it| it.value).unwrap_or_default(),
            security_opt: list("security_opt", self.security_opt.take(), volume::security)?,
            privileged: self.privileged.take().is_some_and(|it| it.value),
            cap_drop: self.cap_drop.take().map(|it| it.value).unwrap_or_default(),
            stop_signal: self.stop_signal.take().map(|it| it.value),
            stop_grace: read("stop_grace", self.stop_grace.take(), quantity::duration)?,
            shm_size: read("shm_size", self.shm_size.take(), quantity::size)?,
            ulimits: self.ulimits.take().map(ulimits).transpose()?.unwrap_or_default(),
            sysctls: pairs(self.sysctls.take()),
            pull: read("pull", self.pull.take(), options::pull)?,
        };
        let workload = match options::is_file(&image) {
            true => Workload::image_file(name, base.join(image), None),
            false => Workload::container(name, image),
        };
        let workload = given.apply(workload).map_err(|error| ManifestError::at(line, error))?;
        Ok(match self.command.take() {
            Some(words) => workload.command(command("command", words)?.0),
            None => workload,
        })
    }
}

fn read<T, E: std::fmt::Display>(
    name: &str,
    text: Option<Spanned<String>>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<Option<T>, ManifestError> {
    text.map(|text| field(name, &text, parse)).transpose()
}

fn list<T>(
    name: &str,
    texts: Option<Spanned<Vec<String>>>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, ManifestError> {
    let Some(texts) = texts else { return Ok(Vec::new()) };
    let line = texts.referenced.line();
    let wrong = |error| ManifestError::at(line, format!("{name}: {error}"));
    texts.value.iter().map(|text| parse(text).map_err(wrong)).collect()
}

pub(super) fn command(name: &str, words: Spanned<Command>) -> Result<Words, ManifestError> {
    let line = words.referenced.line();
    match words.value {
        Command::Words(words) => Ok(Words(words)),
        Command::Text(text) => options::words(&text)
            .map_err(|error| ManifestError::at(line, format!("{name}: {error}"))),
    }
}

fn pairs(map: Option<Spanned<BTreeMap<String, String>>>) -> Vec<(String, String)> {
    map.map(|map| map.value.into_iter().collect()).unwrap_or_default()
}

fn ulimits(
    map: Spanned<BTreeMap<String, String>>,
) -> Result<Vec<(String, shoal_protocol::model::spec::Ulimit)>, ManifestError> {
    let line = map.referenced.line();
    let one = |(name, text): (String, String)| match options::limits_of(&text) {
        Ok(limits) => Ok((name, limits)),
        Err(error) => Err(ManifestError::at(line, format!("ulimits: {name}: {error}"))),
    };
    map.value.into_iter().map(one).collect()
}
