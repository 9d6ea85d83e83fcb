//! The `lifecycle` of a container: commands after its start and before its end.

use std::time::Duration;

use shoal_protocol::model::spec::{Hook, HookCommand, Hooks};

use super::super::verdict::Judged;
use super::scalar::Part;

/// Reads the hooks of a container.
pub(super) fn hooks(part: &Part<'_>, out: &mut Judged) -> Hooks {
    let mut one = |name: &str| hook(&part.at(&["lifecycle", name]), out).into_iter().collect();
    Hooks { post_start: one("postStart"), pre_stop: one("preStop") }
}

fn hook(part: &Part<'_>, out: &mut Judged) -> Option<Hook> {
    let (exec, sleep) = (part.get("exec"), part.get("sleep"));
    match (exec.is_there(), sleep.is_there()) {
        (true, false) => {
            let command = exec.get("command").texts(out);
            Some(Hook::Exec(HookCommand { command, ..HookCommand::default() }))
        }
        (false, true) => {
            let seconds = sleep.get("seconds").count(out)?;
            Some(Hook::Sleep(Duration::from_secs(seconds.into())))
        }
        // Others are judged by the table.
        (false, false) => None,
        (true, true) => {
            out.refuse(part.wrong("`exec` and `sleep`: one of them counts"));
            None
        }
    }
}
