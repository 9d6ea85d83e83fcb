//! `shoal history`.

use clap::Args;
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::view::ChangeView;

use super::context::Context;
use super::error::CliError;
use super::{out, render};

/// Changes that are shown when no number was asked for.
const SHOWN: usize = 50;

/// Show who changed what, the latest last, as this node took note of it
///
/// A node notes each change that is new to it, and keeps the latest ones: some thousands. One that
/// was off, or came later, notes what it hears when it hears it. The node at which a change was
/// submitted is known there.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal history              # the latest 50 changes\n  shoal history \
    --all\n  shoal history shop/web     # of one workload, secret or config\n  shoal --via \
    gate.example history -o json"
)]
pub struct History {
    /// The workload, secret or config
    #[arg(conflicts_with = "all")]
    name: Option<WorkloadName>,
    /// All that the node has kept
    #[arg(long)]
    all: bool,
}

impl History {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let path = match &self.name {
            Some(name) => format!("/v1/history?name={}/{}", name.namespace, name.name),
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
