//! `shoal export`.

use clap::Args;
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::view::WorkloadView;

use super::client::path_of;
use super::context::Context;
use super::error::CliError;
use super::out;
use super::rollback::of_body;
use crate::api::form::PublishedBody;
use crate::manifest::write;

/// Print workloads as a manifest, as they were published
///
/// Publishing it again says `unchanged`. Components and the parts of images are named by their
/// hashes, so that a cluster which holds them needs no file and no registry. Values of secrets are
/// not in it.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal export > all.yaml\n  shoal export web shop/till\n  shoal \
        export web | shoal diff -"
)]
pub struct Export {
    /// The workloads, NAME or NAMESPACE/NAME [default: all]
    names: Vec<WorkloadName>,
}

impl Export {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        let mut names = self.names;
        if names.is_empty() {
            let views: Vec<WorkloadView> = client.get("/v1/workloads").await?;
            let all = views.iter().map(|it| format!("{}/{}", it.namespace, it.name));
            names = all.filter_map(|name| name.parse().ok()).collect();
        }
        let mut bodies = Vec::new();
        // All of them before the first line: a pipe must not get half of a file.
        for name in &names {
            bodies.push(client.get::<PublishedBody>(&path_of("specs", name)).await?);
        }
        if context.json() {
            return out::say_json(&bodies);
        }
        if bodies.is_empty() {
            context.note("nothing is published");
            return Ok(());
        }
        let mut documents = Vec::new();
        for body in bodies {
            let others = body.versions.len().saturating_sub(1);
            // The spec to go back to is no part of a manifest.
            let spec = of_body(body)?.without_previous();
            if others > 0 {
                context.note(&format!(
                    "warning: {}: {others} other versions were written at the same time; this is \
                     the one that counts",
                    spec.name
                ));
            }
            documents.push(write::manifest(&spec).map_err(CliError::failed)?);
        }
        out::say_raw(&documents.join("---\n"))
    }
}
