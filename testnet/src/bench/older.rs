//! An older commit of this repository, in a clone and a build folder of its own. Its benchmark is
//! run by its own testnet program.
//!
//! ```text
//! <build folder>/against/<commit>/source   a clone, at that commit
//!                                /target   what is built from it
//! ```
//!
//! Both stay for the next time. An incomplete clone, and the folder of a commit that does not
//! build, are removed.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use super::cli_options::CliOption;
use super::rounds::BaselineCase;
use crate::real::cleanup;
use crate::workspace::{Workspace, shown};

/// Digits of a commit's hash in names of folders and in messages: enough to be unique.
const SHORT: usize = 12;

pub(super) struct OlderCommit {
    /// The commit as the user gave it.
    name: String,
    short: String,
    workspace: Workspace,
}

/// The options of the older commit's benchmark.
pub(super) struct SupportedOptions {
    /// The output of `--help` of that benchmark.
    help: String,
}

impl OlderCommit {
    /// Clones and builds the commit, unless that was done before.
    pub(super) fn prepare(today: &Workspace, commit: &str) -> Result<Self> {
        let hash = resolve(&today.root, commit)?;
        let short: String = hash.chars().take(SHORT).collect();
        let folder = today.target.join("against").join(&short);
        let source = folder.join("source");
        if source.exists() {
            is_as_cloned(&source, &hash)?;
        } else {
            println!("cloning {commit} ({short}) into {}", source.display());
            clone(&today.root, &hash, &source)?;
        }
        let older = OlderCommit {
            name: commit.to_owned(),
            short,
            workspace: today.beside(source, folder.join("target")),
        };
        older.build().inspect_err(|_| {
            // So that the next try begins anew.
            if let Err(error) = fs::remove_dir_all(&folder) {
                eprintln!("warning: {} is left: {error}", folder.display());
            }
        })?;
        Ok(older)
    }

    fn build(&self) -> Result<()> {
        let OlderCommit { name, short, workspace } = self;
        println!("building {name} ({short}) for release (the first time takes many minutes)");
        let testnet = ["build", "--locked", "--package", "shoal-testnet", "--bin", "testnet"];
        let daemon = ["build", "--locked", "--release", "--package", "shoal", "--bin", "shoal"];
        for arguments in [&testnet[..], &daemon[..]] {
            cleanup::passes(&mut workspace.cargo(arguments)).with_context(|| {
                format!("{name} ({short}) cannot be built here; its folder is removed")
            })?;
        }
        Ok(())
    }

    /// A command `testnet ARGUMENTS` of the commit.
    fn testnet<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.workspace.program(&self.workspace.target.join("debug/testnet"));
        for (name, _) in std::env::vars_os() {
            // These name today's daemon and guests, not the commit's.
            if name.to_string_lossy().starts_with("SHOAL_") && name != "SHOAL_LOG" {
                command.env_remove(&name);
            }
        }
        command.args(arguments);
        command
    }

    /// The options of a benchmark; none when the commit does not have it.
    pub(super) fn supported_options(&self, bench: &str) -> Result<Option<SupportedOptions>> {
        let mut command = self.testnet(["bench", bench, "--help"]);
        let output =
            command.output().with_context(|| format!("cannot start {}", shown(&command)))?;
        match output.status.code() {
            Some(0) => Ok(Some(SupportedOptions {
                help: String::from_utf8_lossy(&output.stdout).into_owned(),
            })),
            // Wrong usage: the commit has no such benchmark, or no benchmarks.
            Some(2) => Ok(None),
            _ => bail!("{} of {} failed: {}", shown(&command), self.name, output.status),
        }
    }

    /// Runs the benchmark once. Prints its output, except the lines for programs.
    pub(super) fn measure(&self, bench: &str, options: &[String]) -> Result<Vec<BaselineCase>> {
        let mut command = self.testnet(["bench", bench]);
        command.args(options).stdout(Stdio::piped());
        let mut child = cleanup::start_run(&mut command)
            .with_context(|| format!("cannot start {} of {}", shown(&command), self.name))?;
        let output = child.stdout.take().context("its output is not caught")?;
        let read = self.read(BufReader::new(output));
        let ended = if read.is_ok() { Some(child.wait()) } else { None };
        cleanup::end_run(&mut child);
        let measured = read?;
        let status = ended.context("it was not waited for")?.context("cannot wait for it")?;
        ensure!(status.success(), "{} of {} failed: {status}", shown(&command), self.name);
        Ok(measured)
    }

    fn read(&self, output: impl BufRead) -> Result<Vec<BaselineCase>> {
        let mut measured = Vec::new();
        for line in output.lines() {
            let line =
                line.with_context(|| format!("the output of {} cannot be read", self.name))?;
            match BaselineCase::of_line(&line) {
                Some(theirs) => measured.push(theirs),
                None => println!("  {} | {line}", self.short),
            }
        }
        Ok(measured)
    }
}

impl SupportedOptions {
    /// The options that the older benchmark has as well. Others are left out, with a message where
    /// the user gave them. None when it knows no value of an option, as when it has none of the
    /// cases.
    pub(super) fn pass(&self, given: &[CliOption], name: &str) -> Option<Vec<String>> {
        let mut options = Vec::new();
        for CliOption { flag, values, by_user } in given {
            let Some(about) = self.about(flag) else {
                if *by_user {
                    println!("{name} has no {flag}: it runs without");
                }
                continue;
            };
            let (known, unknown): (Vec<_>, Vec<_>) =
                values.iter().partition(|value| takes(about, value));
            if !unknown.is_empty() {
                println!(
                    "{name} has no {flag} {}",
                    unknown.into_iter().cloned().collect::<Vec<_>>().join(", ")
                );
            }
            if known.is_empty() && !values.is_empty() {
                return None;
            }
            if values.is_empty() {
                options.push(flag.clone());
            }
            options.extend(known.into_iter().flat_map(|value| [flag.clone(), value.clone()]));
        }
        Some(options)
    }

    /// The part of the help about an option.
    fn about(&self, flag: &str) -> Option<&str> {
        let names = |line: &str| {
            line.trim_start().starts_with('-')
                && line.split([' ', ',', '=']).any(|word| word == flag)
        };
        let mut at = 0;
        let mut begins = None;
        for line in self.help.split_inclusive('\n') {
            match begins {
                None if names(line) => begins = Some(at),
                // The next option begins; lines of a list of values begin with `- `.
                Some(begin) if is_option(line) => return self.help.get(begin..at),
                _ => {}
            }
            at += line.len();
        }
        self.help.get(begins?..)
    }
}

fn is_option(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with('-') && !line.starts_with("- ")
}

/// Whether an option takes this value, by its part of the help.
fn takes(about: &str, value: &str) -> bool {
    if let Some((_, list)) = about.split_once("[possible values: ") {
        let list = list.split(']').next().unwrap_or_default();
        return list.split(',').any(|known| known.trim() == value);
    }
    if !about.contains("Possible values:") {
        return true;
    }
    about.lines().filter_map(|line| line.trim_start().strip_prefix("- ")).any(|line| {
        let name = line.split([':', ' ']).next().unwrap_or_default();
        name == value
    })
}

fn git(folder: &Path) -> Command {
    let mut git = Command::new("git");
    git.current_dir(folder).stdin(Stdio::null());
    // Git sets these where it runs this program, as in a hook; they would name another repository.
    for name in
        ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"]
    {
        git.env_remove(name);
    }
    git
}

/// The output of a git command, without its end of line.
fn stdout_of(mut git: Command) -> Result<String> {
    let output = git.output().with_context(|| format!("cannot start {}", shown(&git)))?;
    if !output.status.success() {
        bail!("{} failed: {}", shown(&git), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

fn resolve(root: &Path, commit: &str) -> Result<String> {
    let mut git = git(root);
    git.args(["rev-parse", "--verify", "--quiet", "--end-of-options"])
        .arg(format!("{commit}^{{commit}}"));
    let output = git.output().with_context(|| format!("cannot start {}", shown(&git)))?;
    let hash = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    if !output.status.success() || hash.is_empty() {
        let why = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
        bail!("--against: `{commit}` names no commit of the repository {}{why}", root.display());
    }
    Ok(hash)
}

fn clone(root: &Path, hash: &str, source: &Path) -> Result<()> {
    let parent = source.parent().context("the clone has no parent folder")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let partial: PathBuf = parent.join(format!("source.partial-{}", std::process::id()));
    cleanup::register_folder(&partial);
    let cloned = cloned(root, hash, &partial).and_then(|()| {
        fs::rename(&partial, source)
            .with_context(|| format!("cannot rename {} to its place", partial.display()))
    });
    if cloned.is_err() {
        let _ = fs::remove_dir_all(&partial);
        // An error means that the folder has other entries.
        let _ = fs::remove_dir(parent);
    }
    cleanup::unregister_folder(&partial);
    cloned
}

fn cloned(root: &Path, hash: &str, partial: &Path) -> Result<()> {
    let mut clone = git(root);
    clone.args(["clone", "--quiet", "--no-checkout", "--"]).arg(root).arg(partial);
    cleanup::passes(&mut clone)?;
    let mut checkout = git(partial);
    checkout.args(["checkout", "--quiet", "--detach", hash]);
    cleanup::passes(&mut checkout)
}

/// Checks that the clone is unchanged: otherwise its changes would be measured as the commit.
fn is_as_cloned(source: &Path, hash: &str) -> Result<()> {
    let mut head = git(source);
    head.args(["rev-parse", "HEAD"]);
    let mut changes = git(source);
    changes.args(["status", "--porcelain", "--untracked-files=no"]);
    let is_same = stdout_of(head).is_ok_and(|head| head == hash)
        && stdout_of(changes).is_ok_and(|changes| changes.is_empty());
    ensure!(
        is_same,
        "{} is not as it was cloned: remove it, and it is cloned again",
        source.display()
    );
    Ok(())
}

#[cfg(test)]
#[path = "older/tests.rs"]
mod tests;
