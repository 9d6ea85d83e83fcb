//! Starts the compiler and explains how it ended.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use shoal_protocol::model::Digest;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

use super::child::{CHILD, FAILED, MARK, REFUSED};
use super::fault::mib;
use crate::error::{DeviceError, PrepareError};

/// Bounds of a compiling child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CompileLimits {
    /// Bytes of address space, the mapped program itself included.
    pub memory: u64,
    /// CPU time of the child.
    pub cpu: Duration,
    /// Time by the clock.
    pub time: Duration,
    /// Bytes of compiled code.
    pub code: u64,
}

impl Default for CompileLimits {
    /// 1 GiB, 2 minutes of CPU within 5 by the clock, 256 MiB of code.
    fn default() -> Self {
        CompileLimits {
            memory: 1 << 30,
            cpu: Duration::from_secs(120),
            time: Duration::from_secs(300),
            code: 256 << 20,
        }
    }
}

/// The exit code of a Rust program that panicked.
const PANICKED: i32 = 101;
/// Bytes of a child's error output that are read.
const LAST_WORDS: u64 = 4096;

pub(super) struct Compiler {
    program: PathBuf,
    limits: CompileLimits,
    folder: PathBuf,
    /// A single permit: a device that compiles two components at once does nothing else.
    turn: Semaphore,
}

/// A file of compiled code that has no MAC yet. Deleted on drop.
pub(super) struct Draft(pub PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // It was renamed, or the next start deletes it.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Compiler {
    /// `folder` exists; its files may be deleted at any start.
    pub fn new(program: PathBuf, limits: CompileLimits, folder: PathBuf) -> Self {
        Compiler { program, limits, folder, turn: Semaphore::new(1) }
    }

    /// Waits until no other compilation is under way.
    pub async fn turn(&self) -> impl Drop + '_ {
        self.turn.acquire().await.expect("the semaphore is never closed")
    }

    /// Compiles the file `input`, whose digest was verified. Dropping the future kills the child.
    pub async fn compile(&self, digest: Digest, input: &Path) -> Result<Draft, PrepareError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let draft =
            Draft(self.folder.join(format!("{digest}.{}", NEXT.fetch_add(1, Ordering::Relaxed))));
        let mut command = Command::new(&self.program);
        command.arg(MARK).arg(input).arg(&draft.0).arg(digest.to_string());
        command.args(
            [self.limits.memory, self.limits.cpu.as_secs().max(1), self.limits.code]
                .map(|n| n.to_string()),
        );
        command.env_clear().env(CHILD, "1");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        // A signal from the terminal is for the node, which ends the child.
        command.process_group(0);
        let failed = |error| {
            DeviceError::new(format!("starting the compiler {}", self.program.display()), error)
        };
        let mut child = command.spawn().map_err(failed)?;
        // Held until the child has ended, since the child ends itself when this is closed.
        let _alive = child.stdin.take();
        let stderr = child.stderr.take();
        let ended = async { tokio::join!(child.wait(), last_words(stderr)) };
        let Ok((status, words)) = tokio::time::timeout(self.limits.time, ended).await else {
            let limit = format!("it took longer than {} s", self.limits.time.as_secs());
            return Err(
                DeviceError::new(format!("compiling artifact {}", digest.short()), limit).into()
            );
        };
        let status = status.map_err(|error| DeviceError::new("waiting for the compiler", error))?;
        if status.success() { Ok(draft) } else { Err(self.explain(digest, status, words.trim())) }
    }

    fn explain(&self, digest: Digest, status: ExitStatus, words: &str) -> PrepareError {
        let refused = |reason: String| PrepareError::Refused { digest, reason };
        let signal = |signal: Signal| status.signal() == Some(signal.as_raw());
        match status.code() {
            Some(REFUSED) => refused(words.to_owned()),
            Some(FAILED) => {
                DeviceError::new(format!("compiling artifact {}", digest.short()), words).into()
            }
            _ if signal(Signal::XCPU) => refused(format!(
                "compiling it takes more than {} s of CPU time",
                self.limits.cpu.as_secs()
            )),
            _ if signal(Signal::XFSZ) => {
                refused(format!("its compiled code is larger than {}", mib(self.limits.code)))
            }
            // Rust aborts with this message when memory is refused.
            _ if words.contains("memory allocation of") => refused(format!(
                "compiling it takes more than {} of memory",
                mib(self.limits.memory)
            )),
            // A panic, a stack overflow, an assertion: the same bytes will cause it again.
            Some(PANICKED) => refused(format!("the compiler could not cope with it: {words}")),
            _ if [Signal::SEGV, Signal::ABORT, Signal::ILL, Signal::BUS]
                .into_iter()
                .any(signal) =>
            {
                refused(format!("the compiler crashed on it ({status}): {words}"))
            }
            // Killed by a person, or by the kernel when memory runs short; or the program is no
            // compiler.
            _ => DeviceError::new(
                format!("compiling artifact {}", digest.short()),
                format!("the compiler {} ended with {status}: {words}", self.program.display()),
            )
            .into(),
        }
    }
}

async fn last_words(stderr: Option<impl AsyncRead + Unpin>) -> String {
    let mut words = Vec::new();
    if let Some(stderr) = stderr {
        // A failed read is ignored: the exit code says enough.
        let _ = stderr.take(LAST_WORDS).read_to_end(&mut words).await;
    }
    String::from_utf8_lossy(&words).into_owned()
}
