//! `shoal run`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::spec::MAX_REPLICAS;

use super::context::Context;
use super::error::CliError;
use super::publish::publish;
use super::wait::WaitArgs;
use crate::manifest::quantity;
use crate::publish::{Source, Workload};

/// Run a WebAssembly component that answers HTTP, on as many nodes as wished
///
/// A workload of that name that is there already is replaced; what changes is shown. The change is
/// signed with the operator's key.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    shoal run hello.wasm --name hello\n  \
    shoal run hello.wasm --name hello --replicas 2 --env GREETING=hi --memory 32MiB\n  \
    shoal run till.wasm --name till --namespace shop --require zone=front --no-wait\n\n\
    A component is built with: cargo build --release --target wasm32-wasip2")]
pub struct Run {
    /// The component
    file: PathBuf,
    /// Its name, a DNS label: it is also its host name
    #[arg(long)]
    name: String,
    /// The namespace it is in
    #[arg(long, default_value = "default")]
    namespace: String,
    /// How many at once
    #[arg(
        long,
        default_value_t = 1,
        value_name = "N",
        allow_negative_numbers = true,
        value_parser = replicas
    )]
    replicas: u32,
    /// A variable in its environment; may be given several times
    #[arg(long = "env", value_name = "K=V", value_parser = pair)]
    env: Vec<(String, String)>,
    /// The memory a replica may take [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = quantity::size)]
    memory: Option<u64>,
    /// The share of CPU a replica may take, in cores [default: 0.1]
    #[arg(long, value_name = "CORES", value_parser = quantity::cpu)]
    cpu: Option<u32>,
    /// A label its nodes must have; may be given several times
    #[arg(long = "require", value_name = "K=V", value_parser = pair)]
    require: Vec<(String, String)>,
    /// Publish it even if no known node can run it now
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Run {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let named = |what: &str, error: &dyn std::fmt::Display| {
            CliError::usage(format!("--{what}: {error}"))
        };
        let name = WorkloadName {
            namespace: self.namespace.parse().map_err(|error| named("namespace", &error))?,
            name: self.name.parse().map_err(|error| named("name", &error))?,
        };
        let mut workload = Workload::component(name, Source::File(self.file))
            .replicas(self.replicas)
            .envs(unique("env", self.env)?)
            .requires(unique("require", self.require)?);
        if let Some(memory) = self.memory {
            workload = workload.memory(memory);
        }
        if let Some(cpu) = self.cpu {
            workload = workload.cpu(cpu);
        }
        publish(context, &[workload], self.force, &self.wait).await
    }
}

/// Parses a number of replicas.
pub(super) fn replicas(text: &str) -> Result<u32, String> {
    let number = quantity::count(text).map_err(|error| error.to_string())?;
    if number > MAX_REPLICAS {
        Err(format!("{number} replicas are more than {MAX_REPLICAS}"))
    } else {
        Ok(number)
    }
}

/// Parses `K=V`; the value may contain further `=`.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form NAME=VALUE")),
    }
}

fn unique(what: &str, pairs: Vec<(String, String)>) -> Result<BTreeMap<String, String>, CliError> {
    let mut map = BTreeMap::new();
    for (name, value) in pairs {
        if let Some(earlier) = map.insert(name.clone(), value) {
            return Err(CliError::usage(format!(
                "--{what}: `{name}` is given twice, once as `{earlier}`"
            )));
        }
    }
    Ok(map)
}
