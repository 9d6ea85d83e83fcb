//! `shoal rollback`.

use clap::Args;
use shoal_protocol::model::{Spec, WorkloadName};

use super::client::path_of;
use super::context::Context;
use super::error::{CliError, Exit};
use super::publish::{Consent, How, Making, agree, carry_out, show};
use super::versions::{changes, earlier, versions};
use crate::api::ApiError;
use crate::api::form::PublishedBody;
use crate::publish::Ready;

/// Publish an earlier version of a workload again
///
/// The version is as it was, with the same bytes: images and components are named by their hashes.
/// A workload that was removed is created anew. The versions are those that the node which is asked
/// has noted.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal rollback web            # to the version before\n  shoal \
        rollback web --to 3     # as `shoal history web` counts them\n  shoal rollback web \
        --dry-run"
)]
pub struct Rollback {
    /// The workload, NAME or NAMESPACE/NAME
    name: WorkloadName,
    /// The version: its number or its short name in `shoal history NAME` [default: the latest that
    /// differs from what is there]
    #[arg(long, value_name = "VERSION")]
    to: Option<String>,
    #[command(flatten)]
    consent: Consent,
}

impl Rollback {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        let all = versions(&changes(&client, &self.name).await?);
        let current = match client.get::<PublishedBody>(&path_of("specs", &self.name)).await {
            Ok(found) => Some(of_body(found)?.without_previous()),
            Err(error) => match CliError::from(error) {
                error if error.exit == Exit::NoSuchThing && all.is_empty() => return Err(error),
                error if error.exit == Exit::NoSuchThing => None,
                error => return Err(error),
            },
        };
        let version = earlier(&all, self.to.as_deref(), current.as_ref(), &self.name)?;
        let is_there = current.as_ref() == Some(&version.spec);
        let ready = Ready { spec: version.spec.clone(), parts: Vec::new() };
        let made = Making::of(context, vec![ready]).await?;
        let plan = made.plan(context, &[], self.consent.force).await?;
        if self.consent.dry_run {
            return show(context, &plan.steps, &[]);
        }
        if !is_there {
            let (number, name, by) = (version.number, &version.name, &version.by);
            context.note(&format!("back to version {number} ({name}) of {by}, {}", version.at));
        }
        agree(context, &plan, &[], &How::from(&self.consent))?;
        carry_out(context, &made, plan, &[], &self.consent.wait).await
    }
}

/// The spec in an answer.
pub(super) fn of_body(found: PublishedBody) -> Result<Spec, CliError> {
    Spec::try_from(found.spec).map_err(|error| {
        let why = format!("the daemon's answer makes no sense ({error}): is it another version?");
        CliError::from(ApiError::invalid(why))
    })
}
