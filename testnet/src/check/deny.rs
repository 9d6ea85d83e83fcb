//! cargo-deny, installed into the build folder in one known version, so that the machine's own does
//! not matter.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::workspace::{Workspace, passes};

const VERSION: &str = "0.20.2";

fn home(workspace: &Workspace) -> PathBuf {
    workspace.target.join("tools").join(format!("cargo-deny-{VERSION}"))
}

fn program(workspace: &Workspace) -> PathBuf {
    home(workspace).join("bin").join("cargo-deny")
}

/// Installs cargo-deny when it is missing.
pub(super) fn install(workspace: &Workspace) -> Result<()> {
    if program(workspace).is_file() {
        return Ok(());
    }
    println!(
        "   installing cargo-deny {VERSION} into {} (once, some minutes)",
        home(workspace).display()
    );
    let build = workspace.target.join("tools").join("build");
    let mut cargo =
        workspace.cargo(["install", "cargo-deny", "--locked", "--version", VERSION, "--root"]);
    cargo.arg(home(workspace)).env("CARGO_TARGET_DIR", &build);
    // Its release profile has fat LTO, which costs minutes for a program that runs for a second.
    cargo.env("CARGO_PROFILE_RELEASE_LTO", "off").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
    cargo.env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1");
    passes(cargo).context("cargo-deny could not be installed: crates.io must be reachable once")?;
    std::fs::remove_dir_all(&build).with_context(|| format!("cannot remove {}", build.display()))
}

/// Checks the workspace and the guests against `deny.toml`.
pub(super) fn run(workspace: &Workspace) -> Result<()> {
    install(workspace)?;
    for manifest in [workspace.root.join("Cargo.toml"), workspace.guests_manifest()] {
        let mut deny = Command::new(program(workspace));
        deny.current_dir(&workspace.root)
            .args(["--log-level", "error", "--locked", "--manifest-path"])
            .arg(manifest);
        deny.arg("--config").arg(workspace.root.join("deny.toml"));
        deny.args(["check", "bans", "licenses", "sources"]);
        passes(deny)?;
    }
    Ok(())
}
