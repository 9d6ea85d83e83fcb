//! `shoal history`.

use clap::Args;
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::view::ChangeView;

use super::context::Context;
use super::error::CliError;
use super::versions::changes;
use super::{out, render};

/// Changes that are shown when no number was asked for.
const SHOWN: usize = 50;

/// Show who changed what, the latest last, as this node took note of it
///
/// A node notes each change that is new to it, and keeps the latest ones: two megabytes, mostly
/// some thousands. One that
/// was off, or came later, notes what it hears when it hears it. The node at which a change was
/// submitted is known there.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal history              # the latest 50 changes\n  shoal history \
    --all\n  shoal history shop/web     # of one workload, with its versions\n  \
        shoal history shop/web --diff\n  shoal --via \
    gate.example history -o json"
)]
pub struct History {
    /// The workload, secret or config
    #[arg(conflicts_with = "all")]
    name: Option<WorkloadName>,
    /// All that the node has kept
    #[arg(long)]
    all: bool,
    /// With what each version of the workload changed
    #[arg(long, requires = "name")]
    diff: bool,
}

impl History {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        if let Some(name) = self.name.as_ref().filter(|_| !context.json()) {
            let client = context.client();
            let all = changes(&client, name).await?;
            // A secret or config of that name has no versions that could be shown.
            if !all.is_empty() {
                return out::say_raw(&render::versions(&all, self.diff));
            }
            if self.diff {
                let why = format!("this node has noted no change of a workload `{name}`");
                return Err(CliError::not_found(why));
            }
        }
        let specs = if self.diff { "specs=true&" } else { "" };
        let path = match &self.name {
            Some(name) => format!("/v1/history?{specs}name={}/{}", name.namespace, name.name),
            None => "/v1/history".to_owned(),
        };
        let mut lines = context.client().lines(&path).await?;
        let mut all = Vec::new();
        while let Some(change) = lines.next::<ChangeView>().await? {
            all.push(change);
        }
        if !self.all && self.name.is_none() {
            all.drain(..all.len().saturating_sub(SHOWN));
        }
        if context.json() {
            return out::say_json(&all);
        }
        if all.is_empty() {
            context.note("this node has no note of a change");
            return Ok(());
        }
        out::say_raw(&render::history(&all))
    }
}
