//! `shoal join-line`.

use clap::Args;

use super::context::Context;
use super::error::CliError;
use super::out;
use crate::api::form::JoinLineBody;

/// Print the line with which another device joins
#[derive(Args)]
#[command(after_help = "Example:\n  ssh other-device shoal up --join \"$(shoal join-line)\"\n\n\
    The line is a secret: whoever has it can add devices to the cluster, though not tell them what to run.")]
pub struct JoinLine {}

impl JoinLine {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let body: JoinLineBody = context.client().get("/v1/join-line").await?;
        if context.json() {
            return out::say_json(&body);
        }
        out::say(&body.line)
    }
}
