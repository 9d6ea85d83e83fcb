//! `shoal schema`.

use clap::Args;

use super::error::CliError;
use super::out;
use crate::manifest::SCHEMA;

/// Print the JSON schema of manifests, for editors
///
/// It is made of the types that read manifests. An editor that knows it completes fields and marks
/// slips while one types.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal schema > shoal.schema.json\n\n  and as the first line of \
        a manifest, for editors with the YAML language server:\n  # yaml-language-server: \
        $schema=shoal.schema.json"
)]
pub struct Schema {}

impl Schema {
    pub(super) fn run(&self) -> Result<(), CliError> {
        out::say_raw(SCHEMA)
    }
}
