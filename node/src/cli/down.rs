//! `shoal down`.

use clap::Args;

use super::context::Context;
use super::error::CliError;

/// Stop this device's daemon: it tells the others, ends its guests and leaves nothing half done
#[derive(Args)]
#[command(after_help = "Example:\n  shoal down\n\nIts replicas move to other nodes unless it is back soon.")]
pub struct Down {}

impl Down {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        context.client().post::<serde_json::Value>("/v1/down", &serde_json::json!({})).await?;
        context.note("stopping");
        Ok(())
    }
}
