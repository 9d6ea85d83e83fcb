//! The checkout this program was started in: its root, its build folder, its cargo, and what can be
//! built from it.

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
    /// Quick to build: demo and tests.
    Dev,
    /// What users run: benchmarks.
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

/// A checkout, and the one folder into which all of it is built.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// Where the workspace's `Cargo.toml` is.
    pub root: PathBuf,
    /// `$CARGO_TARGET_DIR`, or the workspace's `target/`.
    pub target: PathBuf,
    /// What `cargo metadata --no-deps` says.
    pub metadata: Value,
    cargo: PathBuf,
}

impl Workspace {
    /// Finds the checkout this program was compiled in, and asks cargo about it.
    pub fn find() -> Result<Self> {
        // Cargo tells a program it runs where the package is; the compiled-in path is for a binary
        // started by hand.
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

    /// A program in the workspace's root that may call cargo itself: it finds this checkout and
    /// this build folder.
    pub fn program(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root).stdin(Stdio::null());
        forget_package(&mut command);
        command.env("CARGO", &self.cargo).env("CARGO_TARGET_DIR", &self.target);
        command
    }

    /// A cargo command in the workspace's root, building into the one build folder.
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

    /// Where `build_guests` leaves the components: one `NAME.wasm` each.
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
        self.add_wasm_target()?;
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

    fn add_wasm_target(&self) -> Result<()> {
        let mut rustc = Command::new("rustc");
        rustc.args(["--print", "sysroot"]).current_dir(&self.root);
        let sysroot = PathBuf::from(output(rustc)?.trim());
        if sysroot.join("lib/rustlib").join(WASM_TARGET).is_dir() {
            return Ok(());
        }
        println!("   adding the {WASM_TARGET} target to the toolchain");
        let mut rustup = Command::new("rustup");
        // In the root, so that rust-toolchain.toml decides which toolchain is meant.
        rustup.args(["target", "add", WASM_TARGET]).current_dir(&self.root);
        passes(rustup).with_context(|| {
            format!(
                "the example guests need the {WASM_TARGET} target: install rustup, or put the \
                    target into {}",
                sysroot.display()
            )
        })
    }

    /// Builds the daemon and returns the path of the `shoal` binary.
    pub fn build_daemon(&self, profile: Profile) -> Result<PathBuf> {
        let mut build = self.cargo(["build", "--locked", "--bin", "shoal"]);
        match profile {
            // With the features that the tests build with, so that neither makes the other build
            // anew.
            Profile::Dev => build.arg("--workspace"),
            // As users build it.
            Profile::Release => build.args(["--package", "shoal", "--release"]),
        };
        passes(build)?;
        Ok(self.daemon(profile))
    }

    /// Where `build_daemon` leaves the binary.
    pub fn daemon(&self, profile: Profile) -> PathBuf {
        self.target.join(profile.folder()).join("shoal")
    }
}

/// What `cargo run` told this program about itself must not reach the cargo it starts: build
/// scripts that watch these variables (ring's does) would be run again each time, and all that
/// depends on them built anew.
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
