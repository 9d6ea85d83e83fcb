//! An interrupted run leaves nothing behind, however it ends. The daemon here is a script that
//! never gets ready, so that the run is interrupted while it waits.

#![expect(clippy::unwrap_used, reason = "a test that unwraps fails, which is what it is for")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};
use shoal_testnet::real::eventually;

/// A temporary folder for one test.
struct World(PathBuf);

impl World {
    fn new(name: &str) -> Self {
        let world =
            std::env::temp_dir().join(format!("shoal-leftovers-{}-{name}", std::process::id()));
        fs::create_dir_all(world.join("tmp")).expect("the folder for temporary files is writable");
        let script = world.join("daemon");
        fs::write(
            &script,
            "#!/bin/sh\necho $$ > \"$HOME/pid.new\" && mv \"$HOME/pid.new\" \"$HOME/pid\"\nexec \
                sleep 1000\n",
        )
        .unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        World(world)
    }

    /// Starts `testnet kill` and waits for its first daemon. Returns the run, and the daemon's
    /// folder in `/proc`.
    fn waiting_run(&self) -> (Child, PathBuf) {
        self.waiting(&["kill"])
    }

    fn waiting(&self, arguments: &[&str]) -> (Child, PathBuf) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_testnet"));
        command
            .args(arguments)
            .env("TMPDIR", self.0.join("tmp"))
            .env("SHOAL_BIN", self.0.join("daemon"));
        command.env("SHOAL_GUESTS_DIR", &self.0).stdout(Stdio::null()).stderr(Stdio::null());
        let run = command.spawn().expect("the testnet binary starts");
        let daemon = eventually("the daemon's process", || {
            let own = format!("-{}-", run.id());
            let named =
                self.runs().into_iter().filter(|folder| folder.to_string_lossy().contains(&own));
            // A run may also have folders of its own, without nodes.
            let pid = named
                .filter_map(|folder| fs::read_to_string(folder.join("n1/home/pid")).ok())
                .next();
            Ok(Path::new("/proc").join(pid.context("no process yet")?.trim()))
        });
        (run, daemon.unwrap())
    }

    /// The folders of runs.
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

/// Waits until a process is gone or a zombie.
fn is_gone(process: &Path) {
    let gone = || match fs::read_to_string(process.join("stat")) {
        Ok(stat) if !stat.contains(") Z ") => bail!("it lives: {stat}"),
        _ => Ok(()),
    };
    eventually("the daemon's end", gone).unwrap();
}

/// Ctrl-C and SIGTERM must end the daemons and remove the folder of the run.
#[test]
fn interrupted_run_leaves_no_process_and_no_file() {
    for (name, sent, code) in [("int", Signal::INT, 130), ("term", Signal::TERM, 143)] {
        let world = World::new(name);
        let (mut run, daemon) = world.waiting_run();
        signal(&run, sent);
        assert_eq!(run.wait().unwrap().code(), Some(code));
        is_gone(&daemon);
        assert_eq!(world.runs(), Vec::<PathBuf>::new());
    }
}

/// A killed run cannot clean up. Its daemons must die with it, and the next run removes its folder.
#[test]
fn next_run_removes_the_folder_of_a_killed_run() {
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

/// Names of the namespaces, interfaces, mounts and control groups that a run made.
fn made_by(run: &Child) -> Vec<String> {
    let id = run.id();
    let names = |folder: &str| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let namespaces = names("/var/run/netns")
        .into_iter()
        .filter(|name| name.starts_with(&format!("shoal-testnet-{id}-")));
    let links =
        names("/sys/class/net").into_iter().filter(|name| name.starts_with(&format!("shl{id}")));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mounts = mounts
        .lines()
        .filter(|line| line.contains(&format!("/shoal-testnet-{id}-")))
        .map(str::to_owned);
    // A namespace is a mount, too, and is counted above.
    let mounts = mounts.filter(|line| !line.starts_with("nsfs"));
    // Cgroup v2 has one folder, v1 one for each controller.
    let groups = names("/sys/fs/cgroup")
        .into_iter()
        .flat_map(|kind| names(&format!("/sys/fs/cgroup/{kind}")));
    let groups = groups
        .chain(names("/sys/fs/cgroup"))
        .filter(|name| name.starts_with(&format!("shoal-testnet-{id}-")));
    namespaces.chain(links).chain(mounts).chain(groups).collect()
}

/// An interrupted run removes its namespaces, interfaces, mounts and cgroups; those of a killed run
/// are removed by the next run.
#[test]
#[ignore = "needs network namespaces: `cargo testnet check` runs it where it can, and says so \
    where it cannot"]
fn run_in_namespaces_leaves_no_namespace_and_no_mount() {
    assert_eq!(shoal_testnet::chaos::net::Net::impossible(), None);
    let world = World::new("net");
    let (mut run, daemon) = world.waiting(&["chaos", "full-disk"]);
    // The switch, four nodes and a spare one, this machine's link, the small disk.
    assert_eq!(made_by(&run).len(), 8, "{:?}", made_by(&run));
    signal(&run, Signal::INT);
    assert_eq!(run.wait().unwrap().code(), Some(130));
    is_gone(&daemon);
    assert_eq!(made_by(&run), Vec::<String>::new());
    assert_eq!(world.runs(), Vec::<PathBuf>::new());

    let (mut run, daemon) = world.waiting(&["chaos", "full-disk"]);
    signal(&run, Signal::KILL);
    run.wait().unwrap();
    is_gone(&daemon);
    assert!(!made_by(&run).is_empty());
    let (mut next, _) = world.waiting_run();
    signal(&next, Signal::INT);
    next.wait().unwrap();
    assert_eq!(made_by(&run), Vec::<String>::new());
    assert_eq!(world.runs(), Vec::<PathBuf>::new());
}

/// The same for the engines and the control group of a comparison with Docker Swarm.
#[test]
#[ignore = "needs dockerd: `cargo testnet check` runs it where it can, and says so where it cannot"]
fn run_with_docker_swarm_leaves_no_engine_and_no_cgroup() {
    assert_eq!(shoal_testnet::bench::swarm::impossible(), None);
    let world = World::new("swarm");
    // The run starts Swarm before its first daemon.
    let bench = ["bench", "failover", "--case", "cut"];
    let (mut run, _) = world.waiting(&bench);
    let engines = engines_of(&run);
    assert_eq!(engines.len(), 3);
    assert!(
        made_by(&run).iter().any(|made| made.ends_with("-swarm")),
        "no control group: {:?}",
        made_by(&run)
    );
    signal(&run, Signal::INT);
    assert_eq!(run.wait().unwrap().code(), Some(130));
    engines.iter().for_each(|engine| is_gone(engine));
    assert_eq!(made_by(&run), Vec::<String>::new());
    assert_eq!(world.runs(), Vec::<PathBuf>::new());

    let (mut run, _) = world.waiting(&bench);
    let engines = engines_of(&run);
    signal(&run, Signal::KILL);
    run.wait().unwrap();
    engines.iter().for_each(|engine| is_gone(engine));
    let (mut next, _) = world.waiting_run();
    signal(&next, Signal::INT);
    next.wait().unwrap();
    assert_eq!(made_by(&run), Vec::<String>::new());
    assert_eq!(world.runs(), Vec::<PathBuf>::new());
}

/// The dockerd processes of this run, by the folder in their command line.
fn engines_of(run: &Child) -> Vec<PathBuf> {
    let folder = format!("/shoal-testnet-{}-", run.id());
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let is_engine = |process: &PathBuf| {
        let line = fs::read_to_string(process.join("cmdline")).unwrap_or_default();
        line.starts_with("dockerd\0") && line.contains(&folder)
    };
    processes.filter(is_engine).collect()
}
