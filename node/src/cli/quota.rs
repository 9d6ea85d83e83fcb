//! `shoal quota`.

use clap::{Args, Subcommand};
use shoal_protocol::model::change::Quota as Limits;
use shoal_protocol::model::view::QuotaView;
use shoal_protocol::model::{Key, Label, Value};

use super::context::Context;
use super::error::CliError;
use super::rights::submit;
use super::{out, render};
use crate::manifest::quantity;

/// Limit what the workloads of a namespace may reserve together
///
/// A spec that goes beyond it is refused. Of writes that meet only later, as after a cut, the later
/// one waits for room; what runs is never stopped for a quota.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal quota set shop --replicas 20 --memory 4GiB --cpu 8\n  \
    shoal quota ls\n  shoal quota rm shop")]
pub struct Quota {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Set(Set),
    Ls(Ls),
    Rm(Remove),
}

/// Set the quota of a namespace, in place of the one before
#[derive(Args)]
#[command(after_help = "Example:\n  shoal quota set shop --replicas 20 --memory 4GiB --cpu 8")]
struct Set {
    /// The namespace
    namespace: Label,
    /// Replicas of all its workloads
    #[arg(long, value_name = "N", required_unless_present_any = ["memory", "cpu"])]
    replicas: Option<u64>,
    /// Memory that they reserve together
    #[arg(long, value_name = "SIZE", value_parser = quantity::memory)]
    memory: Option<u64>,
    /// CPU that they reserve together, in cores
    #[arg(long, value_name = "CORES", value_parser = quantity::cpu)]
    cpu: Option<u32>,
}

/// List the quotas
#[derive(Args)]
#[command(after_help = "Example:\n  shoal quota ls")]
struct Ls {}

/// Remove the quota of a namespace
#[derive(Args)]
#[command(after_help = "Example:\n  shoal quota rm shop")]
struct Remove {
    /// The namespace
    namespace: Label,
}

impl Quota {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        match self.verb {
            Verb::Ls(_) => {
                let bytes = client.get_bytes("/v1/quotas").await?;
                if context.json() {
                    return out::say_bytes(&bytes);
                }
                out::say_raw(&render::quotas(&out::parse::<Vec<QuotaView>>(&bytes)?))
            }
            Verb::Set(Set { namespace, replicas, memory, cpu }) => {
                let operator = context.operator()?;
                let quota = Limits { cpu: cpu.map(u64::from), memory, replicas };
                let key = Key::Quota(namespace.clone());
                submit(&client, &operator, key, Value::Quota(quota)).await?;
                context.note(&format!("namespace {namespace} has a quota"));
                Ok(())
            }
            Verb::Rm(Remove { namespace }) => {
                let operator = context.operator()?;
                let key = Key::Quota(namespace.clone());
                let quotas: Vec<QuotaView> = client.get("/v1/quotas").await?;
                if !quotas.iter().any(|it| it.namespace == namespace.as_str()) {
                    let why = format!("namespace {namespace} has no quota: nothing was changed");
                    return Err(CliError::not_found(why));
                }
                submit(&client, &operator, key, Value::Tombstone).await?;
                context.note(&format!("namespace {namespace} has no quota any more"));
                Ok(())
            }
        }
    }
}
