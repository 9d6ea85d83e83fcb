//! `shoal join-line`.

use clap::Args;
use shoal_protocol::trust;

use super::context::Context;
use super::error::CliError;
use super::out;
use crate::api::form::JoinLineBody;

/// Print the line with which another device joins
#[derive(Args)]
#[command(after_help = "Example:\n  ssh other-device shoal up --join \"$(shoal join-line)\"\n  \
    shoal join-line --address gw.shop-a.example:7700\n\n\
    The line is a secret: whoever has it can add devices to the cluster, though not tell them \
    what to run.")]
pub struct JoinLine {
    /// Where the device finds this cluster, in place of the node's own addresses: a name that is
    /// looked up at each try, or an address that leads here from outside; repeatable
    #[arg(long = "address", value_name = "HOST:PORT")]
    addresses: Vec<String>,
}

impl JoinLine {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let mut body: JoinLineBody = context.client().get("/v1/join-line").await?;
        if !self.addresses.is_empty() {
            let line = body
                .line
                .parse::<trust::JoinLine>()
                .and_then(|line| line.with_addresses(self.addresses));
            body.line =
                line.map_err(|error| CliError::usage(format!("--address: {error}")))?.to_string();
        }
        if context.json() {
            return out::say_json(&body);
        }
        out::say(&body.line)
    }
}
