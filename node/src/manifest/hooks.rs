//! The commands beside a container's program, as a manifest has them.

use serde::Deserialize;
use shoal_protocol::model::spec::{Hook, HookCommand};

use super::container::{Command, command};
use super::text::{At, Pairs, Text, Time, pairs};
use super::{ManifestError, field, quantity};

/// A step beside the program of a container: a command, or a pause.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct HookText {
    /// The command, in words. Example: `command: [sh, -c, "nginx -s reload"]`
    command: Option<At<Command>>,
    /// A pause in place of a command. Example: `sleep: 5s`
    sleep: Option<At<Time>>,
    /// The user that the command runs as. Default: the container's. Example: `user: root`
    user: Option<At<Text>>,
    /// The working directory of the command. Default: the container's. Example: `workdir: /data`
    workdir: Option<At<Text>>,
    /// Variables of the command besides the container's. Example: `env: { LEVEL: "1" }`
    env: Option<At<Pairs>>,
}

/// The hooks of a field.
pub(super) fn hooks(
    name: &str,
    all: Option<At<Vec<HookText>>>,
) -> Result<Vec<Hook>, ManifestError> {
    let Some(all) = all else { return Ok(Vec::new()) };
    let line = all.line();
    all.take().into_iter().map(|it| hook(name, line, it)).collect()
}

fn hook(name: &str, line: u64, text: HookText) -> Result<Hook, ManifestError> {
    let HookText { command: words, sleep, user, workdir, env } = text;
    let is_bare = user.is_none() && workdir.is_none() && env.is_none();
    match (words, sleep) {
        (Some(words), None) => Ok(Hook::Exec(HookCommand {
            command: command(&format!("{name}: command"), words)?.0,
            user: user.map(|it| it.take().0),
            workdir: workdir.map(|it| it.take().0),
            env: env.map(|it| pairs(it.take())).unwrap_or_default(),
        })),
        (None, Some(time)) if is_bare => {
            field(&format!("{name}: sleep"), &time, quantity::duration).map(Hook::Sleep)
        }
        _ => {
            let why = format!("{name}: each has a `command`, or a `sleep` alone");
            Err(ManifestError::at(line, why))
        }
    }
}
