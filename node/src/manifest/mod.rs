//! Reads YAML: a person's text becomes a [`Workload`], or an error that names the line.
//!
//! ```yaml
//! name: hello            # a DNS label
//! namespace: default     # optional
//! wasm: hello.wasm       # path relative to the file
//! replicas: 2            # default 1
//! memory: 64MiB          # default 64MiB
//! cpu: 0.1               # cores, or 100m; default 0.1
//! env: { GREETING: hi }
//! require: { zone: shop }
//! ```
//!
//! A file may have several documents, divided by `---`. Unknown fields are refused: an ignored slip
//! would only be found in production.

pub mod quantity;

mod error;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_saphyr::Spanned;
use shoal_protocol::model::name::DEFAULT_NAMESPACE;
use shoal_protocol::model::{Label, WorkloadName};

use crate::publish::{Source, Workload};

pub use error::ManifestError;

/// Bytes of a manifest file: far above what people write, far below what takes much memory.
pub const MAX_MANIFEST: usize = 1024 * 1024;
/// Documents in one file.
const MAX_DOCUMENTS: usize = 256;

/// Reads every document of `text`. Relative paths are relative to the folder `base`. Returns at
/// least one workload, and no name twice.
pub fn parse(text: &str, base: &Path) -> Result<Vec<Workload>, ManifestError> {
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
    wasm: Spanned<String>,
    replicas: Option<Spanned<String>>,
    memory: Option<Spanned<String>>,
    cpu: Option<Spanned<String>>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    #[serde(default)]
    require: BTreeMap<String, String>,
}

impl Document {
    fn workload(self, base: &Path) -> Result<Workload, ManifestError> {
        let namespace = match &self.namespace {
            Some(text) => field("namespace", text, |text| text.parse::<Label>())?,
            None => DEFAULT_NAMESPACE.parse().expect("the default namespace is a label"),
        };
        let name = field("name", &self.name, |text| text.parse::<Label>())?;
        if self.wasm.value.is_empty() {
            return Err(ManifestError::at(
                self.wasm.referenced.line(),
                "wasm: the path of a file is expected",
            ));
        }
        let replicas = self
            .replicas
            .as_ref()
            .map(|text| field("replicas", text, quantity::count))
            .transpose()?;
        let memory =
            self.memory.as_ref().map(|text| field("memory", text, quantity::size)).transpose()?;
        let cpu = self.cpu.as_ref().map(|text| field("cpu", text, quantity::cpu)).transpose()?;
        let name = WorkloadName { namespace, name };
        let mut workload = Workload::component(name, Source::File(base.join(self.wasm.value)))
            .envs(self.env)
            .requires(self.require);
        if let Some(replicas) = replicas {
            workload = workload.replicas(replicas);
        }
        if let Some(memory) = memory {
            workload = workload.memory(memory);
        }
        if let Some(cpu) = cpu {
            workload = workload.cpu(cpu);
        }
        Ok(workload)
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
