//! The compiler: the same program, started anew. Hostile bytes are parsed and compiled here and
//! nowhere else, within limits, and the memory that it takes goes back to the system.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::exit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{Resource, Rlimit};
use shoal_protocol::model::Digest;

use super::engine::{Role, engine};
use super::inspect::inspect;

/// The first argument of a compiling child. Nobody types it by accident.
pub(super) const MARK: &str = "__shoal-compile-component";
/// Set in a child's environment, so that a program that never calls [`compiler_entry`] is found out
/// by its child.
pub(super) const CHILD: &str = "SHOAL_COMPILING_CHILD";
/// Exit codes: the artifact is guilty, the device is.
pub(super) const REFUSED: i32 = 65;
pub(super) const FAILED: i32 = 74;
/// A child gives way to everything else on the device.
const NICE: i32 = 10;

/// The thread that watches the parent does next to nothing.
const WATCH_STACK: usize = 64 << 10;

static CALLED: AtomicBool = AtomicBool::new(false);

/// Call this first thing in `main`. In a child process that was started to compile a component it
/// does that and exits; in any other it returns at once, and [`super::Wasm`] knows that this
/// program can be started anew for that purpose.
pub fn compiler_entry() {
    CALLED.store(true, Ordering::Relaxed);
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == MARK) {
        exit(match run(arguments) {
            Ok(()) => 0,
            Err(Failure { code, reason }) => {
                // The parent reads it; when it is gone, nobody does.
                let _ = writeln!(std::io::stderr(), "{reason}");
                code
            }
        });
    }
}

/// Whether this program may be started anew to compile.
pub(super) fn entry_was_called() -> bool {
    CALLED.load(Ordering::Relaxed)
}

struct Failure {
    code: i32,
    reason: String,
}

impl Failure {
    fn device(doing: &str) -> impl Fn(std::io::Error) -> Failure {
        move |error| Failure { code: FAILED, reason: format!("{doing}: {error}") }
    }

    fn refused(reason: impl ToString) -> Self {
        Failure { code: REFUSED, reason: reason.to_string() }
    }
}

fn run(arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let arguments: Vec<_> = arguments.collect();
    let [input, output, digest, memory, cpu, code] = &arguments[..] else {
        return Err(Failure {
            code: FAILED,
            reason: format!("{} arguments instead of 6", arguments.len()),
        });
    };
    let number = |text: &OsString| {
        let number = text.to_str().and_then(|text| text.parse::<u64>().ok());
        number.ok_or_else(|| Failure { code: FAILED, reason: format!("{text:?} is not a number") })
    };
    confine(number(memory)?, number(cpu)?, number(code)?)
        .map_err(Failure::device("limiting the compiler"))?;

    let bytes = fs::read(input).map_err(Failure::device("reading the artifact"))?;
    let found = Digest::of(&bytes).to_string();
    if digest.to_str() != Some(found.as_str()) {
        return Err(Failure {
            code: FAILED,
            reason: format!("the artifact changed while it was read: {found}"),
        });
    }
    inspect(&bytes).map_err(Failure::refused)?;
    let engine = engine(Role::Compile)
        .map_err(|error| Failure { code: FAILED, reason: format!("{error:#}") })?;
    let compiled = engine
        .precompile_component(&bytes)
        .map_err(|error| Failure::refused(format!("{error:#}")))?;
    write(output.as_ref(), &compiled).map_err(Failure::device("writing compiled code"))
}

fn confine(memory: u64, cpu: u64, code: u64) -> std::io::Result<()> {
    watch_parent()?;
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::setpriority_process(None, NICE)?;
    // When memory runs short, the kernel takes the compiler and not the node. Where /proc is hidden
    // it must choose itself.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let limits = [
        (Resource::As, memory, memory),
        // One second more, so that the parent sees the signal that says why.
        (Resource::Cpu, cpu, cpu + 1),
        (Resource::Fsize, code, code),
        (Resource::Core, 0, 0),
    ];
    for (resource, current, maximum) in limits {
        rustix::process::setrlimit(
            resource,
            Rlimit { current: Some(current), maximum: Some(maximum) },
        )?;
    }
    Ok(())
}

/// Ends this process when the parent's end of the standard input is closed: then there is nobody to
/// compile for. The kernel's own signal for that is sent when the parent's *thread* ends, which may
/// be long before.
fn watch_parent() -> std::io::Result<()> {
    let watch = || {
        let mut byte = [0];
        // Nothing is ever written there.
        let _ = std::io::stdin().read(&mut byte);
        exit(FAILED)
    };
    thread::Builder::new().name("parent".into()).stack_size(WATCH_STACK).spawn(watch)?;
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}
