//! Commands beside the program of a container: after its start, and before it is asked to end.

use serde_json::json;
use shoal_protocol::model::spec::{Container, Hook, HookCommand};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::engine::Engine;
use super::forms::Phase;
use super::life::{End, Life};
use super::refusal::{CallError, Failure};
use super::sessions::run_to_end;

/// Bytes of a hook's last output that are kept: what tells a person why it failed.
const LAST_WORDS: usize = 400;

impl Life {
    /// Runs the hooks of a container that was just started, one after the other.
    pub(super) async fn post_start(&self, container: &Container, id: &str) -> Result<(), End> {
        let engine = &self.shared.engine;
        let its = self.its(&container.name);
        let run = async {
            for hook in &container.hooks.post_start {
                if let Err(why) = one(engine, id, hook).await {
                    return Some(format!("{its}failed after its start: `{hook}` {why}"));
                }
            }
            None
        };
        let waits = format!("{its}waits for what runs after its start");
        let failed = tokio::select! {
            biased;
            () = self.instance.stopping.cancelled() => return Err(End::Stop),
            failed = run => failed,
            never = self.tell_later(waits) => never,
        };
        let Some(mut reason) = failed else { return Ok(()) };
        // Its own end comes before that of the hook, which ended with it.
        if let Ok(found) = engine.inspect(id).await
            && found.phase() != Phase::Alive
        {
            if self.instance.launch.ends {
                return Ok(());
            }
            reason = format!("{its}{}", self.reason(&container.name, &found));
        }
        // Like its end, it may be of another mind the next time.
        Err(Failure::passing(reason).into())
    }
}

/// The hooks before a container's end as a label.
pub(super) fn label(hooks: &[Hook]) -> String {
    // Text keys and plain values: this cannot fail.
    serde_json::to_string(hooks).unwrap_or_default()
}

/// The hooks of a label; none of one that another program wrote.
pub(super) fn of_label(text: Option<&str>) -> Vec<Hook> {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Runs the hooks before a container's end until `due`, or until it was killed. Nothing depends on
/// their success.
pub(super) async fn pre_stop(
    engine: &Engine,
    id: &str,
    hooks: &[Hook],
    due: Instant,
    killed: &CancellationToken,
) {
    for hook in hooks {
        let ended = tokio::select! {
            () = killed.cancelled() => return,
            ended = timeout_at(due, one(engine, id, hook)) => ended,
        };
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(why)) => tracing::warn!(container = id, "before its end: `{hook}` {why}"),
            Err(_) => {
                tracing::warn!(
                    container = id,
                    "before its end: `{hook}` took longer than its grace"
                );
                return;
            }
        }
    }
}

/// Runs a hook to its end. An error: what became of it, as a predicate.
async fn one(engine: &Engine, id: &str, hook: &Hook) -> Result<(), String> {
    let HookCommand { command, user, workdir, env } = match hook {
        Hook::Exec(command) => command,
        Hook::Sleep(pause) => {
            sleep(*pause).await;
            return Ok(());
        }
    };
    let env: Vec<String> = env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let body = json!({
        "AttachStdout": true, "AttachStderr": true, "Cmd": command, "Env": env,
        "User": user.clone().unwrap_or_default(),
        "WorkingDir": workdir.clone().unwrap_or_default(),
    });
    let mut tail = Vec::new();
    let keep = |piece: &[u8]| {
        tail.extend_from_slice(piece);
        let more = tail.len().saturating_sub(LAST_WORDS);
        tail.drain(..more);
    };
    let code = match run_to_end(engine, id, &body, keep).await {
        Ok(code) => code,
        Err(CallError::Refused { message, .. }) => {
            return Err(format!("was refused by {}: {message}", engine.name()));
        }
        Err(error) => return Err(format!("was not run: {}: {error}", engine.name())),
    };
    if code == Some(0) {
        return Ok(());
    }
    let ended = code.map_or("ended".to_owned(), |code| format!("ended with {code}"));
    let said = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    match lines.is_empty() {
        true => Err(ended),
        false => Err(format!("{ended}: {}", lines.join(" / "))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whoever ends the container, also after a restart of the daemon, finds them.
    #[test]
    fn hooks_survive_as_a_label() {
        let command = HookCommand { command: vec!["quit".into()], ..HookCommand::default() };
        let hooks = vec![Hook::Sleep(Duration::from_millis(1500)), Hook::Exec(command)];
        assert_eq!(of_label(Some(&label(&hooks))), hooks);
        assert_eq!((of_label(None), of_label(Some("{"))), (Vec::new(), Vec::new()));
    }
}
