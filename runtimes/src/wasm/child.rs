//! The compiler: the same program in a child process. Hostile bytes are compiled here and nowhere
//! else, within limits, and all memory goes back to the system when the child ends.

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

/// The first argument of a compiling child. Unlikely to be typed by accident.
pub(super) const MARK: &str = "__shoal-compile-component";
/// Set in a child's environment: a child that gets as far as [`super::Wasm::new`] knows by it that
/// its program never calls [`compiler_entry`].
pub(super) const CHILD: &str = "SHOAL_COMPILING_CHILD";
/// Exit codes: the artifact is at fault, or the device.
pub(super) const REFUSED: i32 = 65;
pub(super) const FAILED: i32 = 74;
/// A child has a lower priority than everything else on the device.
const NICE: i32 = 10;

/// Enough for the thread that watches the parent, which only reads one byte.
const WATCH_STACK: usize = 64 << 10;

static CALLED: AtomicBool = AtomicBool::new(false);

/// Call this first in `main`. In a child process that was started to compile a component, it
/// compiles and exits; in any other process it returns at once, and [`super::Wasm`] knows that this
/// program can be started as its compiler.
pub fn compiler_entry() {
    CALLED.store(true, Ordering::Relaxed);
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == MARK) {
        exit(match run(arguments) {
            Ok(()) => 0,
            Err(Failure { code, reason }) => {
                // The parent reads this, unless it is gone.
                let _ = writeln!(std::io::stderr(), "{reason}");
                code
            }
        });
    }
}

/// Whether this program can be started as the compiler.
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
    // When memory runs short, the kernel kills the compiler and not the node. Where /proc is hidden
    // the kernel chooses by itself.
    let _ = fs::write("/proc/self/oom_score_adj", "1000");
    let limits = [
        (Resource::As, memory, memory),
        // The hard limit is a second more, so that the child gets SIGXCPU, which tells the parent
        // why.
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

/// Ends this process when the parent's end of the standard input is closed, which is when the
/// parent has ended. The kernel's death signal does not serve: it is sent when the parent's
/// *thread* ends.
fn watch_parent() -> std::io::Result<()> {
    let watch = || {
        let mut byte = [0];
        // The parent never writes: this returns when its end is closed.
        let _ = std::io::stdin().read(&mut byte);
        exit(FAILED)
    };
    thread::Builder::new().name("parent".into()).stack_size(WATCH_STACK).spawn(watch)?;
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes)
}
