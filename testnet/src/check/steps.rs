//! The steps of the gate.

use std::process::Command;

use anyhow::{Result, bail};

use super::{Step, deny, engines};
use crate::bench::swarm;
use crate::chaos::net::Net;
use crate::law;
use crate::workspace::{Profile, WASM_TARGET, Workspace, passes};

impl Step {
    pub(super) fn run(self, workspace: &Workspace) -> Result<()> {
        match self {
            Step::Setup => setup(workspace),
            Step::Format => format(workspace),
            Step::Law => law(workspace),
            Step::Deny => deny::run(workspace),
            Step::Clippy => clippy(workspace),
            Step::Docs => docs(workspace),
            Step::Tests => tests(workspace),
            Step::Engines => engines::run(workspace),
        }
    }
}

fn setup(workspace: &Workspace) -> Result<()> {
    workspace.build_guests()?;
    deny::install(workspace)
}

fn format(workspace: &Workspace) -> Result<()> {
    passes(workspace.cargo(["fmt", "--all", "--check"]))?;
    // Its targets are tested in the crates that they are of; only nightly builds the programs.
    let mut fuzz = workspace.cargo(["fmt", "--check", "--manifest-path"]);
    fuzz.arg(workspace.root.join("testnet/fuzz/Cargo.toml"));
    passes(fuzz)?;
    passes(guests(workspace, ["fmt", "--all", "--check"]))
}

fn law(workspace: &Workspace) -> Result<()> {
    if !law::run(workspace)? {
        bail!("the law is broken");
    }
    Ok(())
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let mut clippy = workspace.cargo(["clippy", "--workspace", "--all-targets", "--locked"]);
    clippy.args(["--", "-D", "warnings"]);
    passes(clippy)?;
    // Building the guests installs their target; without it clippy's failure would hide the cause.
    workspace.build_guests()?;
    let mut clippy = guests(workspace, ["clippy", "--locked", "--target", WASM_TARGET]);
    clippy.args(["--", "-D", "warnings"]);
    passes(clippy)
}

fn docs(workspace: &Workspace) -> Result<()> {
    let mut doc = workspace.cargo(["doc", "--workspace", "--no-deps", "--locked"]);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    passes(doc)
}

fn tests(workspace: &Workspace) -> Result<()> {
    workspace.build_guests()?;
    // With the features of the tests: `--package shoal` alone would build half of the libraries
    // twice.
    passes(workspace.cargo(["build", "--workspace", "--all-targets", "--locked"]))?;
    let test = |arguments: &[&str]| {
        let mut test = workspace.cargo(["test", "--locked", "--no-fail-fast"]);
        test.args(arguments);
        test.env("SHOAL_GUESTS_DIR", workspace.guests())
            .env("SHOAL_BIN", workspace.daemon(Profile::Dev));
        passes(test)
    };
    test(&["--workspace"])?;
    // A test that needs root or dockerd must not pass without: it is ignored by default, run here
    // where the machine has these, and named where it has not.
    let mut demanding = vec!["--workspace", "--test", "leftovers", "--", "--ignored"];
    for (name, why) in
        [("run_in_namespaces", Net::impossible()), ("run_with_docker_swarm", swarm::impossible())]
    {
        if let Some(why) = why {
            println!("   left out: {name}: {why}");
            demanding.extend(["--skip", name]);
        }
    }
    test(&demanding)
}

/// A cargo command on the guests' own workspace.
fn guests<const N: usize>(workspace: &Workspace, arguments: [&str; N]) -> Command {
    let mut command = workspace.cargo(&arguments[..1]);
    command.arg("--manifest-path").arg(workspace.guests_manifest()).args(&arguments[1..]);
    command.env("CARGO_TARGET_DIR", workspace.target.join("guests"));
    command
}
