//! `shoal nodes`.

use clap::Args;
use shoal_protocol::model::view::NodeView;

use super::context::{Context, Form};
use super::error::CliError;
use super::{out, render};

/// List nodes: what each offers, what is used of it, and whether it is up
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal nodes\n  shoal nodes -o wide       # with addresses and \
        versions"
)]
pub struct Nodes {}

impl Nodes {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let bytes = context.client().get_bytes("/v1/nodes").await?;
        if context.json() {
            return out::say_bytes(&bytes);
        }
        let views: Vec<NodeView> = out::parse(&bytes)?;
        out::say_raw(&render::nodes(&views, context.form == Form::Wide))
    }
}
