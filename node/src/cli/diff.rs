//! `shoal diff`.

use clap::Args;

use super::context::Context;
use super::error::{CliError, Exit};
use super::files::{Content, Files};
use super::given::ValueStep;
use super::publish::{Making, show};

/// Show what publishing files would change, and change nothing
///
/// Exits with 0 if nothing would change, with 1 if something would, and with 2 or more if that
/// cannot be told.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal diff shop.yaml\n  shoal diff shop/ --set shop --prune\n  \
        shoal diff shop.yaml > /dev/null || shoal publish shop.yaml"
)]
pub struct Diff {
    #[command(flatten)]
    files: Files,
    /// Compare it even if no known node can run it now
    #[arg(long)]
    force: bool,
}

impl Diff {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.differs(context).await {
            Ok(false) => Ok(()),
            Ok(true) => Err(CliError::new(Exit::Failed, "")),
            // 1 is an answer here.
            Err(error) if error.exit == Exit::Failed => {
                Err(CliError { exit: Exit::Program(TROUBLE), ..error })
            }
            Err(error) => Err(error),
        }
    }

    async fn differs(&self, context: &Context) -> Result<bool, CliError> {
        let Content { placed: all, values, warnings, .. } = self.files.read()?;
        warnings.iter().for_each(|it| context.note(&format!("warning: {it}")));
        let made = Making::prepare(context, &all).await?;
        let values = made.values(values).await?;
        let removed = if self.files.prune { made.left_over(&all).await? } else { Vec::new() };
        let plan = made.plan(context, &removed, self.force).await?;
        show(context, &plan.steps, &values)?;
        Ok(plan.changes() || values.iter().any(ValueStep::changes))
    }
}

/// The exit code of a failure that has none of its own.
const TROUBLE: u8 = 7;
