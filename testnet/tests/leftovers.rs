//! Nothing is left of an interrupted run, whichever way it ends. The daemon here is a script that never gets ready, so that
//! the run is interrupted while it waits.

#![expect(clippy::unwrap_used, reason = "a test that unwraps fails, which is what it is for")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use shoal_testnet::real::eventually;

/// A folder for one test, its run's folder for temporary files within.
struct World(PathBuf);

impl World {
    fn new(name: &str) -> Self {
        let world = std::env::temp_dir().join(format!("shoal-leftovers-{}-{name}", std::process::id()));
        fs::create_dir_all(world.join("tmp")).expect("the folder for temporary files is writable");
        let script = world.join("daemon");
        fs::write(
            &script,
            "#!/bin/sh\necho $$ > \"$HOME/pid.new\" && mv \"$HOME/pid.new\" \"$HOME/pid\"\nexec sleep 1000\n",
        )
        .unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        World(world)
    }

    /// `testnet kill`, waiting for its first daemon; and that daemon's process.
    fn waiting_run(&self) -> (Child, PathBuf) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_testnet"));
        command.arg("kill").env("TMPDIR", self.0.join("tmp")).env("SHOAL_BIN", self.0.join("daemon"));
        command.env("SHOAL_GUESTS_DIR", &self.0).stdout(Stdio::null()).stderr(Stdio::null());
        let run = command.spawn().expect("the testnet binary starts");
        let daemon = eventually("the daemon's process", || {
            let own = format!("-{}-", run.id());
            let named = |folder: &PathBuf| folder.to_string_lossy().contains(&own);
            let folder = self.runs().into_iter().rfind(named).context("no folder yet")?;
            Ok(Path::new("/proc").join(fs::read_to_string(folder.join("n1/home/pid"))?.trim()))
        });
        (run, daemon.unwrap())
    }

    /// The folders of runs that are there.
    fn runs(&self) -> Vec<PathBuf> {
        fs::read_dir(self.0.join("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn signal(run: &Child, signal: Signal) {
    let pid = Pid::from_raw(run.id().cast_signed()).expect("a child's id is not zero");
    kill_process(pid, signal).expect("our own child can be signalled");
}

/// Waits until a process is gone, or a zombie that nobody has reaped yet.
fn is_gone(process: &Path) {
    let gone = || match fs::read_to_string(process.join("stat")) {
        Ok(stat) if !stat.contains(") Z ") => bail!("it lives: {stat}"),
        _ => Ok(()),
    };
    eventually("the daemon's end", gone).unwrap();
}

#[test]
fn an_interrupted_run_leaves_no_process_and_no_file() {
    for (name, sent, code) in [("int", Signal::INT, 130), ("term", Signal::TERM, 143)] {
        let world = World::new(name);
        let (mut run, daemon) = world.waiting_run();
        signal(&run, sent);
        assert_eq!(run.wait().unwrap().code(), Some(code));
        is_gone(&daemon);
        assert_eq!(world.runs(), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_run_that_is_killed_outright_leaves_no_process_and_its_folder_goes_with_the_next_run() {
    let world = World::new("kill");
    let (mut run, daemon) = world.waiting_run();
    signal(&run, Signal::KILL);
    assert_eq!(run.wait().unwrap().signal(), Some(9));
    is_gone(&daemon);
    let left = world.runs();
    assert_eq!(left.len(), 1);

    let (mut next, _) = world.waiting_run();
    signal(&next, Signal::INT);
    next.wait().unwrap();
    assert_eq!(world.runs(), Vec::<PathBuf>::new(), "was left: {left:?}");
}
