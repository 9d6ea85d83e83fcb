//! Reads YAML: a person's text becomes a [`Workload`], or an error that names the line.
//!
//! ```yaml
//! name: hello            # a DNS label
//! namespace: default     # optional
//! wasm: hello.wasm       # path relative to the file; or, for a container: image: redis:7, or a
//!                        # path, as in image: ./redis.tar
//! replicas: 2            # default 1
//! memory: 64MiB          # default 64MiB
//! cpu: 0.1               # cores, or 100m; default 0.1
//! env: { GREETING: hi }
//! kind: job              # or daemon, or cron, which `schedule` implies; default service
//! schedule: "0 3 * * *"  # with timezone, missed, overlap and suspend
//! retries: 3             # of a job, as completions, parallel, deadline and keep
//! args: [--full]         # of a component that is a command
//! require: { zone: shop }   # or a list: [zone=shop, "arch in (arm64,x86_64)", "!gpu"]
//! prefer: ["disk=ssd:80"]         # or { rule: disk=ssd, weight: 80 }
//! spread: zone
//! affinity: { near: [db], apart: ["batch:30"] }
//! tolerate: [edge]
//! secrets: ["db:env=DB_PASSWORD"]   # as the options of `shoal run`; or a mapping of their parts
//! configs: ["site:/etc/site.conf"]   # a container's file
//! health:                # probes, each with every, timeout, failures, successes and delay
//!   readiness: { http: { path: /ready } }   # or tcp: { port: 80 }, or exec: [words]
//! ```
//!
//! A container has further fields: `command`, `entrypoint`, `port` (its HTTP port), `user`,
//! `workdir`, `hostname`, `labels`, `network`, `tmpfs`, `stdin`, `tty`, `read_only`, `init`,
//! `ports`, `volumes`, `volume_on_loss`, `devices`, `cap_add`, `cap_drop`, `security_opt`,
//! `privileged`, `stop_signal`, `stop_grace`, `shm_size`, `ulimits`, `sysctls`, `pull`, and
//! `limit`, the most memory and CPU that it may take.
//!
//! A file may have several documents, divided by `---`. Unknown fields are refused: an ignored slip
//! would only be found in production.

pub mod quantity;

mod container;
mod error;
mod foreign;
pub(crate) mod fuzzing;
mod given;
mod health;
mod kind;
mod placement;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Spanned;
use shoal_protocol::model::name::DEFAULT_NAMESPACE;
use shoal_protocol::model::{Label, WorkloadName};

use crate::publish::{Source, Workload, given as options, reserved_below};

pub use error::ManifestError;

/// Bytes of a manifest file: far above what people write, far below what takes much memory.
pub const MAX_MANIFEST: usize = 1024 * 1024;
/// Documents in one file.
const MAX_DOCUMENTS: usize = 256;

/// Reads every document of `text`. Relative paths are relative to the folder `base`. Returns at
/// least one workload, and no name twice.
pub fn parse(text: &str, base: &Path) -> Result<Vec<Workload>, ManifestError> {
    documents(text, base).map_err(|error| foreign::better(text, error))
}

fn documents(text: &str, base: &Path) -> Result<Vec<Workload>, ManifestError> {
    if text.len() > MAX_MANIFEST {
        return Err(ManifestError::plain(format!(
            "the file is larger than {}",
            quantity::show_size(MAX_MANIFEST as u64)
        )));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_documents: MAX_DOCUMENTS },
        with_snippet: false,
    };
    let documents: Vec<Document> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| ManifestError::of_yaml(&error))?;
    if documents.is_empty() {
        return Err(ManifestError::plain("there is nothing in it")
            .hint("The least is:  name: hello\n               wasm: hello.wasm"));
    }
    let mut workloads: Vec<Workload> = Vec::with_capacity(documents.len());
    for document in documents {
        let line = document.name.referenced.line();
        let workload = document.workload(base)?;
        if workloads.iter().any(|other| other.name() == workload.name()) {
            return Err(ManifestError::at(
                line,
                format!("`{}` stands in this file twice", workload.name()),
            ));
        }
        workloads.push(workload);
    }
    Ok(workloads)
}

/// The YAML of a [`Workload`], which is made of it by its own methods. Scalars are kept as text
/// with their place, so that each error can name its line.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    name: Spanned<String>,
    namespace: Option<Spanned<String>>,
    wasm: Option<Spanned<String>>,
    image: Option<Spanned<String>>,
    replicas: Option<Spanned<String>>,
    memory: Option<Spanned<String>>,
    cpu: Option<Spanned<String>>,
    limit: Option<Limit>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    require: Option<Spanned<placement::Require>>,
    prefer: Option<Spanned<placement::Prefer>>,
    spread: Option<Spanned<placement::Texts>>,
    affinity: Option<placement::Relations>,
    tolerate: Option<Spanned<placement::Texts>>,
    secrets: Option<Spanned<Vec<given::Given>>>,
    configs: Option<Spanned<Vec<given::Given>>>,
    health: Option<health::HealthText>,
    // The fields of kinds; `kind` reads them.
    kind: Option<Spanned<String>>,
    completions: Option<Spanned<String>>,
    parallel: Option<Spanned<String>>,
    retries: Option<Spanned<String>>,
    deadline: Option<Spanned<String>>,
    keep: Option<Spanned<String>>,
    schedule: Option<Spanned<String>>,
    timezone: Option<Spanned<String>>,
    missed: Option<Spanned<String>>,
    overlap: Option<Spanned<String>>,
    suspend: Option<Spanned<bool>>,
    /// The arguments of a component.
    args: Option<Spanned<container::Command>>,
    // The fields of a container; `container` reads them.
    command: Option<Spanned<container::Command>>,
    entrypoint: Option<Spanned<container::Command>>,
    port: Option<Spanned<String>>,
    user: Option<Spanned<String>>,
    workdir: Option<Spanned<String>>,
    hostname: Option<Spanned<String>>,
    labels: Option<Spanned<BTreeMap<String, String>>>,
    network: Option<Spanned<String>>,
    tmpfs: Option<Spanned<Vec<String>>>,
    stdin: Option<Spanned<bool>>,
    tty: Option<Spanned<bool>>,
    read_only: Option<Spanned<bool>>,
    init: Option<Spanned<bool>>,
    ports: Option<Spanned<Vec<String>>>,
    volumes: Option<Spanned<Vec<String>>>,
    volume_on_loss: Option<Spanned<String>>,
    devices: Option<Spanned<Vec<String>>>,
    cap_add: Option<Spanned<Vec<String>>>,
    security_opt: Option<Spanned<Vec<String>>>,
    privileged: Option<Spanned<bool>>,
    cap_drop: Option<Spanned<Vec<String>>>,
    stop_signal: Option<Spanned<String>>,
    stop_grace: Option<Spanned<String>>,
    shm_size: Option<Spanned<String>>,
    ulimits: Option<Spanned<BTreeMap<String, String>>>,
    sysctls: Option<Spanned<BTreeMap<String, String>>>,
    pull: Option<Spanned<String>>,
}

/// The most that a container may take.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    memory: Option<Spanned<String>>,
    cpu: Option<Spanned<String>>,
}

impl Document {
    fn workload(mut self, base: &Path) -> Result<Workload, ManifestError> {
        let namespace = match &self.namespace {
            Some(text) => field("namespace", text, |text| text.parse::<Label>())?,
            None => DEFAULT_NAMESPACE.parse().expect("the default namespace is a label"),
        };
        let name = field("name", &self.name, |text| text.parse::<Label>())?;
        let replicas = self
            .replicas
            .as_ref()
            .map(|text| field("replicas", text, quantity::count))
            .transpose()?;
        let memory =
            self.memory.as_ref().map(|text| field("memory", text, quantity::memory)).transpose()?;
        let cpu = self.cpu.as_ref().map(|text| field("cpu", text, quantity::cpu)).transpose()?;
        let limit = self.limit.take();
        let secrets = given::uses("secrets", self.secrets.take(), options::secret)?;
        let configs = given::uses("configs", self.configs.take(), options::config)?;
        let health = health::health(self.health.take())?;
        let require = placement::required(self.require.take())?;
        let prefer = placement::preferred(self.prefer.take())?;
        let spread = placement::list("spread", self.spread.take(), |text| {
            Ok::<_, std::convert::Infallible>(text.to_owned())
        })?;
        let tolerate = placement::list("tolerate", self.tolerate.take(), str::parse)?;
        let name = WorkloadName { namespace, name };
        let affinity = placement::relations(self.affinity.take(), &name)?;
        let kind = self.kind(replicas)?;
        let program = self.program(name, base)?.kind(kind);
        let mut workload = program.envs(self.env).rules(require).prefers(prefer);
        workload = workload.spread(spread).affinity(affinity).tolerates(tolerate);
        workload = workload.given(secrets.into_iter().chain(configs)).health(health);
        if let Some(memory) = memory {
            workload = workload.memory(memory);
        }
        let Limit { memory, cpu: most_cpu } = limit.unwrap_or_default();
        let memory = memory.map(|text| field("limit", &text, quantity::memory)).transpose()?;
        let most_cpu = most_cpu.map(|text| field("limit", &text, quantity::cpu)).transpose()?;
        if let Some(cpu) = cpu.or_else(|| reserved_below(most_cpu)) {
            workload = workload.cpu(cpu);
        }
        Ok(workload.limit(memory, most_cpu))
    }

    /// The workload with its program: a component or a container.
    fn program(&mut self, name: WorkloadName, base: &Path) -> Result<Workload, ManifestError> {
        let line = self.name.referenced.line();
        match (self.wasm.take(), self.image.take()) {
            (Some(wasm), Some(_)) => Err(ManifestError::at(
                wasm.referenced.line(),
                "wasm: it has an `image`, too, and a workload runs one of the two",
            )),
            (None, None) => Err(ManifestError::at(
                line,
                "wasm: the path of a component is missing, or `image` with a container's",
            )),
            (Some(wasm), None) if wasm.value.is_empty() => Err(ManifestError::at(
                wasm.referenced.line(),
                "wasm: the path of a file is expected",
            )),
            (Some(wasm), None) => {
                self.check_no_container()?;
                let args = self.args.take().map(|it| container::command("args", it)).transpose()?;
                let workload = Workload::component(name, Source::File(base.join(wasm.value)));
                Ok(workload.args(args.map(|words| words.0).unwrap_or_default()))
            }
            (None, Some(_)) if self.args.is_some() => Err(ManifestError::at(
                self.args.as_ref().map_or(line, |args| args.referenced.line()),
                "args: those of a container are its `command`",
            )),
            (None, Some(image)) => self.container(name, image.value, base),
        }
    }
}

fn field<T, E: std::fmt::Display>(
    name: &str,
    text: &Spanned<String>,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Result<T, ManifestError> {
    parse(&text.value)
        .map_err(|error| ManifestError::at(text.referenced.line(), format!("{name}: {error}")))
}

#[cfg(test)]
mod tests;
