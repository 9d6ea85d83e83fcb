//! `shoal explain`.

use clap::Args;
use shoal_protocol::model::ReplicaName;
use shoal_protocol::model::view::ExplainView;

use super::client::path_of;
use super::context::{Context, Form};
use super::error::CliError;
use super::{out, render};

/// Show why a replica is where it is: who bid what, who declined and why, who won
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal explain hello/0\n  shoal explain hello/0 -o wide     # all \
        auctions that are remembered"
)]
pub struct Explain {
    /// The replica, NAME/NUMBER or NAMESPACE/NAME/NUMBER
    replica: ReplicaName,
}

impl Explain {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let path = format!("{}/{}", path_of("explain", &self.replica.workload), self.replica.place);
        let bytes = context.client().get_bytes(&path).await?;
        if context.json() {
            return out::say_bytes(&bytes);
        }
        let view: ExplainView = out::parse(&bytes)?;
        out::say_raw(&render::explain(&view, context.form == Form::Wide, render::now()))
    }
}
