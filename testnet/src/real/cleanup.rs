//! Nothing is left behind: every process, folder and resource of a run is registered here, and
//! removed however the run ends.
//!
//! - at the end, and on panic: `Drop` of their owner;
//! - on SIGINT, SIGTERM, SIGHUP: a thread removes everything registered, then exits;
//! - when this process is killed with SIGKILL: the kernel kills its children (PR_SET_PDEATHSIG),
//!   and the next run removes the rest, whose names carry the id of this process.
//!
//! **Processes are started from a thread that outlives them**: the kernel counts the death of the
//! thread that forked.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process_group, set_parent_process_death_signal, waitpid,
};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::resources::{Resource, quietly};
use crate::workspace::shown;

/// The beginning of names of folders and namespaces; this process's id follows.
pub(crate) const PREFIX: &str = "shoal-testnet-";

/// How long killed processes may take to vanish with their memory, files and mounts.
const DYING: Duration = Duration::from_secs(10);
/// How long a run may take that was asked to stop: it waits for its own processes, too.
const ENDING: Duration = Duration::from_secs(15);

struct Registry {
    /// Leaders of process groups.
    groups: BTreeSet<i32>,
    /// Leaders of groups that are runs like this one: each removes its own resources when it is
    /// asked to stop.
    runs: BTreeSet<i32>,
    folders: BTreeSet<PathBuf>,
    resources: BTreeSet<Resource>,
    /// A signal came: no process may be started any more.
    closing: bool,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry {
    groups: BTreeSet::new(),
    runs: BTreeSet::new(),
    folders: BTreeSet::new(),
    resources: BTreeSet::new(),
    closing: false,
});

fn registry() -> MutexGuard<'static, Registry> {
    // A panic elsewhere must not keep the rest from being cleaned up.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a process as the leader of its own group, registered until `end`.
pub(crate) fn start(command: &mut Command) -> io::Result<Child> {
    started(command, |registry| &mut registry.groups)
}

/// Starts a run like this one, which alone knows its processes, folders and namespaces: at a
/// signal, and by `end_run`, it is asked to stop, and killed when it does not.
pub(crate) fn start_run(command: &mut Command) -> io::Result<Child> {
    on_signals();
    started(command, |registry| &mut registry.runs)
}

/// Runs a command to its end. At a signal it is killed, with all that it started.
pub(crate) fn passes(command: &mut Command) -> Result<()> {
    on_signals();
    let mut child = start(command).with_context(|| format!("cannot start {}", shown(command)))?;
    let ended = child.wait();
    end(&mut child);
    let status = ended.with_context(|| format!("cannot wait for {}", shown(command)))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(command));
    }
    Ok(())
}

fn started(
    command: &mut Command,
    book: impl Fn(&mut Registry) -> &mut BTreeSet<i32>,
) -> io::Result<Child> {
    command.process_group(0);
    #[expect(
        unsafe_code,
        reason = "the one way to be told of our own death: the child must ask for it itself"
    )]
    // SAFETY: the closure runs in the child between fork and exec; it makes one system call and
    // allocates nothing.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    let mut registry = registry();
    if registry.closing {
        return Err(io::Error::other("a signal came: nothing is started any more"));
    }
    let child = command.spawn()?;
    book(&mut registry).insert(child.id().cast_signed());
    Ok(child)
}

/// Sends a signal to a process and all it started, unless they are gone.
pub(crate) fn signal(child: &Child, signal: Signal) {
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        // ESRCH means that it is gone, which is fine.
        let _ = kill_process_group(group, signal);
    }
}

/// Kills a process group, waits until its leader is gone, and unregisters it.
pub(crate) fn end(child: &mut Child) {
    signal(child, Signal::KILL);
    // It was killed and is our own child, so this returns; an error means that a `wait` came
    // before.
    let _ = child.wait();
    registry().groups.remove(&child.id().cast_signed());
}

/// Asks a run to stop, kills it when it does not, and unregisters it.
pub(crate) fn end_run(child: &mut Child) {
    let group = child.id().cast_signed();
    ask_to_end(&BTreeSet::from([group]));
    end(child);
    registry().runs.remove(&group);
}

/// Asks runs to stop and waits until all are gone, at most [`ENDING`].
fn ask_to_end(runs: &BTreeSet<i32>) {
    let deadline = Instant::now() + ENDING;
    for run in runs.iter().filter_map(|run| Pid::from_raw(*run)) {
        let _ = kill_process_group(run, Signal::TERM);
    }
    for run in runs.iter().filter_map(|run| Pid::from_raw(*run)) {
        // An error means that a `wait` came before.
        while let Ok(None) = waitpid(Some(run), WaitOptions::NOHANG) {
            if Instant::now() >= deadline {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Registers a folder that is incomplete; until `unregister_folder` it is removed at a signal.
pub(crate) fn register_folder(path: &Path) {
    on_signals();
    registry().folders.insert(path.to_owned());
}

/// To be called when the folder is complete, or gone.
pub(crate) fn unregister_folder(path: &Path) {
    registry().folders.remove(path);
}

/// Makes a resource outside of the run's folder by a command; registered until `remove`.
pub(crate) fn create(resource: Resource, command: &mut Command) -> Result<()> {
    // Registered first, since a command that fails may have made half of it.
    let _registry = insert(resource)?;
    quietly(command)
}

/// Registers a resource that a process is about to make; until `remove`.
pub(crate) fn register(resource: Resource) -> Result<Resource> {
    drop(insert(resource.clone())?);
    Ok(resource)
}

fn insert(resource: Resource) -> Result<MutexGuard<'static, Registry>> {
    on_signals();
    let mut registry = registry();
    if registry.closing {
        bail!("a signal came: nothing is made any more");
    }
    registry.resources.insert(resource);
    Ok(registry)
}

/// Removes a resource and unregisters it.
pub(crate) fn remove(resource: &Resource) {
    if let Err(error) = resource.remove() {
        eprintln!("warning: {resource} is left: {error:#}");
    }
    registry().resources.remove(resource);
}

/// A folder of this run, removed on drop.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    /// Makes a folder in the system's folder for temporary files. Its path is short enough for unix
    /// sockets in it.
    pub(crate) fn new(keep: bool) -> Result<Self> {
        on_signals();
        let parent = std::env::temp_dir();
        sweep(&parent);
        for number in 0.. {
            let path = parent.join(format!("{PREFIX}{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => {
                    if !keep {
                        registry().folders.insert(path.clone());
                    }
                    return Ok(Folder { path, keep });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot make the folder {}", path.display()));
                }
            }
        }
        unreachable!("one of so many numbers is free")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.keep {
            println!("kept: {}", self.path.display());
            return;
        }
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("warning: cannot remove {}: {error}", self.path.display());
        }
        registry().folders.remove(&self.path);
    }
}

/// Tries again while `may_pass` accepts the error, as it may come while processes die; for at most
/// [`DYING`].
pub(super) fn retry_while_dying(
    try_it: impl Fn() -> io::Result<()>,
    may_pass: impl Fn(&io::Error) -> bool,
) -> io::Result<()> {
    let deadline = Instant::now() + DYING;
    loop {
        match try_it() {
            Err(error) if may_pass(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(2))
            }
            ended => return ended,
        }
    }
}

/// Removes folders and resources of runs that were killed with SIGKILL.
fn sweep(parent: &Path) {
    for resource in Resource::orphans(parent) {
        // An error may mean that another run removes it, too.
        let _ = resource.remove();
    }
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| owner_is_dead(name, PREFIX)) {
            // An error may mean that it is another user's, or gone meanwhile.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether a name begins with the prefix and the id of a process that no longer exists.
pub(super) fn owner_is_dead(name: &str, prefix: &str) -> bool {
    let rest = name.strip_prefix(prefix).unwrap_or_default();
    let digits =
        rest.split(|character: char| !character.is_ascii_digit()).next().unwrap_or_default();
    digits.parse::<u32>().is_ok_and(|owner| !Path::new("/proc").join(owner.to_string()).exists())
}

/// Starts, once in a process, the thread that ends the run at a signal.
fn on_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| match Signals::new([SIGINT, SIGTERM, SIGHUP]) {
        Ok(mut signals) => {
            std::thread::spawn(move || {
                if let Some(signal) = signals.forever().next() {
                    // Locked until the exit: other threads would take the death of killed processes
                    // for a failure.
                    let _registry = remove_all();
                    eprintln!("\nstopped by a signal: all that was started is gone");
                    std::process::exit(128 + signal);
                }
            });
        }
        Err(error) => eprintln!(
            "warning: cannot watch for signals ({error}): an interrupted run leaves its folder"
        ),
    });
}

/// To be called before the process ends by itself. When a signal came, this does not return: the
/// signal's thread holds the lock and ends the process with the signal's code, and failures
/// meanwhile are due to the signal.
pub fn leave_to_signal() {
    drop(registry());
}

fn remove_all() -> MutexGuard<'static, Registry> {
    let mut registry = registry();
    registry.closing = true;
    ask_to_end(&registry.runs);
    let groups: Vec<Pid> = registry
        .groups
        .iter()
        .chain(&registry.runs)
        .filter_map(|group| Pid::from_raw(*group))
        .collect();
    for group in &groups {
        let _ = kill_process_group(*group, Signal::KILL);
    }
    for resource in &registry.resources {
        // A process that waits for a stalled disk cannot die before the disk goes on.
        resource.release();
    }
    for group in groups {
        // Until it is gone it may still write into the folder. An error means that a `wait` came
        // before.
        let _ = waitpid(Some(group), WaitOptions::empty());
    }
    for resource in &registry.resources {
        if let Err(error) = resource.remove() {
            eprintln!("warning: {resource} is left: {error:#}");
        }
    }
    for folder in &registry.folders {
        // Descendants of these processes may still be dying, and writing.
        let _ = retry_while_dying(
            || fs::remove_dir_all(folder),
            |error| error.kind() == io::ErrorKind::DirectoryNotEmpty,
        );
    }
    registry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_kills_the_whole_process_group() {
        let mut command = Command::new("sh");
        // The shell prints its child's id, so that the test can see that child vanish.
        command.args(["-c", "sleep 1000 & echo $!; wait"]).stdout(std::process::Stdio::piped());
        let mut child = start(&mut command).unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        io::BufRead::read_line(&mut io::BufReader::new(output), &mut line).unwrap();
        let grandchild = PathBuf::from("/proc").join(line.trim());
        assert!(grandchild.exists());
        end(&mut child);
        assert!(child.try_wait().unwrap().is_some());
        // The kernel has sent it the signal; the process that adopted it may take a moment to reap
        // it.
        let gone = || match fs::read_to_string(grandchild.join("stat")) {
            Ok(stat) if !stat.contains(") Z ") => anyhow::bail!("it lives: {stat}"),
            _ => Ok(()),
        };
        crate::real::eventually("the end of the grandchild", gone).unwrap();
    }

    #[test]
    fn folders_of_this_run_and_of_dead_runs_are_removed() {
        let parent = std::env::temp_dir();
        // No process has this id: it is above the kernel's limit.
        let orphan = parent.join(format!("{PREFIX}4999999-0"));
        fs::create_dir_all(orphan.join("n1")).unwrap();
        let folder = Folder::new(false).unwrap();
        let path = folder.path().to_path_buf();
        fs::write(path.join("log"), "text").unwrap();
        assert!(!orphan.exists());
        drop(folder);
        assert!(!path.exists());
    }
}
