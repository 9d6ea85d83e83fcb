//! `shoal describe`.

use clap::Args;
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::view::WorkloadView;

use super::client::path_of;
use super::context::Context;
use super::error::CliError;
use super::{out, render};
use crate::api::StatusBody;

/// Show all there is to know of one workload
#[derive(Args)]
#[command(after_help = "Example:\n  shoal describe hello")]
pub struct Describe {
    /// The workload, NAME or NAMESPACE/NAME
    name: WorkloadName,
}

impl Describe {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        let bytes = client.get_bytes(&path_of("workloads", &self.name)).await?;
        if context.json() {
            return out::say_bytes(&bytes);
        }
        let view: WorkloadView = out::parse(&bytes)?;
        let status: StatusBody = client.get("/v1/status").await?;
        out::say_raw(&render::describe(&view, &status.http, render::now()))
    }
}
