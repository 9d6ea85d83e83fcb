//! Runs the command line, for tests on real nodes.

use std::io::{Seek, Write};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// Far above what any command takes on a busy machine: only a hang reaches it.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// The end of a command.
#[derive(Debug)]
pub struct Ended {
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
    /// Its exit code.
    pub code: i32,
}

impl Ended {
    /// Its output, if it succeeded.
    #[allow(dead_code, reason = "not every test wants the output")]
    pub fn done(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Checks its exit code, and that it said these words.
    pub fn says(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        for part in parts {
            let is_there = self.out.contains(part) || self.err.contains(part);
            assert!(is_there, "no `{part}` in {self:?}");
        }
    }
}

/// Runs `shoal WORDS` in a folder with an operator's folder, at a node's socket, and with this
/// standard input.
pub async fn shoal(
    (folder, config, socket): (&Path, &Path, &Path),
    words: &[&str],
    input: &str,
) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
    for name in ["SHOAL_VIA", "SHOAL_CONTEXT", "SHOAL_STATE", "SHOAL_SOCKET", "SHOAL_CONFIG"] {
        command.env_remove(name);
    }
    command.arg("--config").arg(config).arg("--socket").arg(socket).current_dir(folder);
    let mut given = tempfile::tempfile().unwrap();
    given.write_all(input.as_bytes()).unwrap();
    given.rewind().unwrap();
    let run = command.args(words).stdin(Stdio::from(given)).output();
    let output = tokio::time::timeout(TIME_LIMIT, run).await;
    let output = output.unwrap_or_else(|_| panic!("{words:?}: not within {TIME_LIMIT:?}")).unwrap();
    Ended {
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap(),
    }
}
