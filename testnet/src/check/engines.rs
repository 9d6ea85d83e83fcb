//! The tests that need container engines: Docker and Podman, which the tests start themselves on
//! sockets and in folders of their own.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::engines::image::static_target;
use crate::workspace::{Workspace, passes};

/// Debian's packages: the engines, and what they need for networks of their own.
const PACKAGES: [&str; 4] = ["docker.io", "podman", "netavark", "runc"];

/// Installs the engines that are missing, and runs the tests.
pub(super) fn run(workspace: &Workspace) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("container engines are started by root: run this as root, or leave out --engines");
    }
    install()?;
    workspace.add_target(&static_target())?;
    workspace.build_guests()?;
    // The whole workspace, so that no library is built again with other features.
    let mut test = workspace.cargo(["test", "--locked", "--no-fail-fast", "--workspace"]);
    test.args(["--test", "containers", "--", "--ignored"]);
    test.env("SHOAL_GUESTS_DIR", workspace.guests());
    passes(test)
}

fn install() -> Result<()> {
    let missing: Vec<&str> =
        PACKAGES.into_iter().filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    println!("   installing {}", missing.join(" and "));
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(["-q", "-y"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        apt.stdout(Stdio::null());
        passes(apt)
    };
    let mut install = vec!["install", "--no-install-recommends"];
    install.extend(missing.iter().copied());
    if apt(&install).is_err() {
        // The list of packages may be missing or old.
        apt(&["update"]).context("the list of packages cannot be read")?;
        apt(&install).with_context(|| format!("{} cannot be installed", missing.join(" and ")))?;
    }
    Ok(())
}

/// Whether a package is installed; also no on another system than Debian's.
fn is_installed(package: &str) -> bool {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${db:Status-Status}", package]).stderr(Stdio::null());
    query.output().is_ok_and(|output| output.stdout == b"installed")
}
