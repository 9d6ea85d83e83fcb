//! `shoal status`.

use clap::Args;

use super::context::{Context, Form};
use super::error::CliError;
use super::{out, render};
use crate::api::StatusBody;

/// Show this node and the cluster in short, with what needs attention
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal status\n  shoal status -o wide      # with counters\n  shoal \
        status -o json | jq .warnings"
)]
pub struct Status {}

impl Status {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let bytes = context.client().get_bytes("/v1/status").await?;
        if context.json() {
            return out::say_bytes(&bytes);
        }
        let body: StatusBody = out::parse(&bytes)?;
        out::say_raw(&render::status(&body, context.form == Form::Wide))
    }
}
