//! `shoal ps`.

use clap::Args;
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::view::WorkloadView;

use super::client::path_of;
use super::context::{Context, Form};
use super::error::CliError;
use super::{out, render};

/// List workloads, or the replicas of one
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal ps\n  shoal ps hello            # its replicas\n  shoal ps \
        -o wide          # all replicas"
)]
pub struct Ps {
    /// The workload, NAME or NAMESPACE/NAME
    name: Option<WorkloadName>,
}

impl Ps {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let path = self
            .name
            .as_ref()
            .map_or("/v1/workloads".to_owned(), |name| path_of("workloads", name));
        let bytes = context.client().get_bytes(&path).await?;
        if context.json() {
            return out::say_bytes(&bytes);
        }
        let (views, by_replica) = match self.name {
            Some(_) => (vec![out::parse::<WorkloadView>(&bytes)?], true),
            None => (out::parse::<Vec<WorkloadView>>(&bytes)?, context.form == Form::Wide),
        };
        let text = if by_replica && !views.is_empty() {
            render::replicas(&views, render::now())
        } else {
            let now = render::now();
            let shown: Vec<_> =
                views.into_iter().filter(|view| !render::is_forgotten(view, now)).collect();
            render::workloads(&shown, now)
        };
        out::say_raw(&text)
    }
}
