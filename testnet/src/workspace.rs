//! The checkout to which this program belongs: its root, its build folder, its cargo, its builds.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The target of the example guests.
pub const WASM_TARGET: &str = "wasm32-wasip2";

/// How the daemon is compiled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// Quick to build, for the demo and tests.
    Dev,
    /// As users run it, for benchmarks.
    Release,
}

impl Profile {
    /// The folder under the build folder.
    pub fn folder(self) -> &'static str {
        match self {
            Profile::Dev => "debug",
            Profile::Release => "release",
        }
    }
}

/// A checkout, and the folder into which all of it is built.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// The folder of the workspace's `Cargo.toml`.
    pub root: PathBuf,
    /// `$CARGO_TARGET_DIR`, or the workspace's `target/`.
    pub target: PathBuf,
    /// The output of `cargo metadata --no-deps`.
    pub metadata: Value,
    cargo: PathBuf,
}

impl Workspace {
    /// Finds the checkout in which this program was compiled, and runs `cargo metadata` in it.
    pub fn find() -> Result<Self> {
        // Cargo sets this variable for programs that it runs; the compiled-in path is for a binary
        // that a person starts.
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = package
            .parent()
            .map(Path::to_path_buf)
            .context("the testnet package has no parent folder")?;
        let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
        let mut workspace =
            Workspace { root, target: PathBuf::new(), metadata: Value::Null, cargo };

        let answer = output(workspace.cargo_without_target([
            "metadata",
            "--no-deps",
            "--format-version",
            "1",
        ]))?;
        workspace.metadata =
            serde_json::from_str(&answer).context("`cargo metadata` did not print JSON")?;
        let target = workspace.metadata["target_directory"]
            .as_str()
            .context("`cargo metadata` names no build folder")?;
        workspace.target = PathBuf::from(target);
        Ok(workspace)
    }

    /// Another checkout, built into a folder of its own.
    pub fn beside(&self, root: PathBuf, target: PathBuf) -> Self {
        Workspace { root, target, metadata: Value::Null, cargo: self.cargo.clone() }
    }

    /// A command in the workspace's root, for a program that calls cargo itself: it gets this cargo
    /// and this build folder.
    pub fn program(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).stdin(Stdio::null());
        forget_package(&mut command);
        command.env("CARGO", &self.cargo).env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// A cargo command in the workspace's root that builds into the build folder.
    pub fn cargo<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = self.cargo_without_target(arguments);
        command.env("CARGO_TARGET_DIR", &self.target);
        command
    }

    fn cargo_without_target<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = Command::new(&self.cargo);
        command.args(arguments).current_dir(&self.root).stdin(Stdio::null());
        forget_package(&mut command);
        command
    }

    /// The folder in which `build_guests` leaves the components, each as `NAME.wasm`.
    pub fn guests(&self) -> PathBuf {
        self.target.join("guests").join(WASM_TARGET).join("release")
    }

    /// The manifest of the example guests, a workspace of its own since it is built for another
    /// target.
    pub fn guests_manifest(&self) -> PathBuf {
        self.root.join("examples/guests/Cargo.toml")
    }

    /// Builds the example components, adding the WASM target to the toolchain first when it is
    /// missing.
    pub fn build_guests(&self) -> Result<()> {
        self.add_target(WASM_TARGET)?;
        let mut build = self.cargo([
            "build",
            "--release",
            "--locked",
            "--target",
            WASM_TARGET,
            "--manifest-path",
        ]);
        build.arg(self.guests_manifest()).env("CARGO_TARGET_DIR", self.target.join("guests"));
        passes(build)
    }

    /// Adds a target to the toolchain, unless it has it.
    pub fn add_target(&self, target: &str) -> Result<()> {
        let mut rustc = Command::new("rustc");
        rustc.args(["--print", "sysroot"]).current_dir(&self.root);
        let sysroot = PathBuf::from(output(rustc)?.trim());
        if sysroot.join("lib/rustlib").join(target).is_dir() {
            return Ok(());
        }
        println!("   adding the {target} target to the toolchain");
        let mut rustup = Command::new("rustup");
        // In the root, so that rust-toolchain.toml chooses the toolchain.
        rustup.args(["target", "add", target]).current_dir(&self.root);
        passes(rustup).with_context(|| {
            format!(
                "the target {target} is missing: install rustup, or put it into {}",
                sysroot.display()
            )
        })
    }

    /// Builds the daemon and returns the path of the `shoal` binary.
    pub fn build_daemon(&self, profile: Profile) -> Result<PathBuf> {
        let mut build = self.cargo(["build", "--locked", "--bin", "shoal"]);
        match profile {
            // With the features of the tests, so that neither build makes the other start anew.
            Profile::Dev => build.arg("--workspace"),
            // With the features that users get.
            Profile::Release => build.args(["--package", "shoal", "--release"]),
        };
        passes(build)?;
        Ok(self.daemon(profile))
    }

    /// The path at which `build_daemon` leaves the binary.
    pub fn daemon(&self, profile: Profile) -> PathBuf {
        self.target.join(profile.folder()).join("shoal")
    }
}

/// Removes the variables in which `cargo run` describes this program's package: build scripts that
/// watch them (ring's does) would run again each time, and everything that depends on them would be
/// built anew.
fn forget_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let of_a_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        if of_a_package.iter().any(|prefix| text.starts_with(prefix))
            || text == "CARGO_PRIMARY_PACKAGE"
        {
            command.env_remove(&name);
        }
    }
}

/// Runs a command whose output goes to the user; an error when it does not succeed.
pub fn passes(mut command: Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", shown(&command)))?;
    if !status.success() {
        bail!("{} failed: {status}", shown(&command));
    }
    Ok(())
}

/// Runs a command and returns what it prints on stdout; stderr goes to the user.
pub fn output(mut command: Command) -> Result<String> {
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {}", shown(&command)))?;
    if !output.status.success() {
        bail!("{} failed: {}", shown(&command), output.status);
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("{} did not print text", shown(&command)))
}

/// A command as a person would type it.
pub fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy);
    format!("`{}`", words.collect::<Vec<_>>().join(" "))
}
