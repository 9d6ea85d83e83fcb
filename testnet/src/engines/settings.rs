//! Commands and settings of engines: all that they keep is in their folder.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// The command of a Docker engine with its files in `folder`.
pub(super) fn dockerd(folder: &Path, cgroup: &str) -> Vec<String> {
    let folder = folder.display();
    vec![
        "dockerd".to_owned(),
        format!("--host=unix://{folder}/api.sock"),
        format!("--data-root={folder}/data"),
        // In /run, which is its own.
        "--exec-root=/run/docker".to_owned(),
        "--pidfile=/run/docker.pid".to_owned(),
        "--bridge=shoal0".to_owned(),
        "--iptables=false".to_owned(),
        "--ip6tables=false".to_owned(),
        "--ip-forward=false".to_owned(),
        "--ip-masq=false".to_owned(),
        format!("--cgroup-parent=/{cgroup}"),
        "--exec-opt=native.cgroupdriver=cgroupfs".to_owned(),
    ]
}

/// The command of Podman's service.
pub(super) fn podman(folder: &Path) -> Vec<String> {
    let folder = folder.display();
    vec![
        "podman".to_owned(),
        format!("--root={folder}/root"),
        format!("--runroot={folder}/run"),
        "system".to_owned(),
        "service".to_owned(),
        "--time=0".to_owned(),
        format!("unix://{folder}/api.sock"),
    ]
}

/// Writes the settings of Podman; Docker reads none of them.
pub(super) fn write(folder: &Path) -> Result<()> {
    let path = folder.display();
    let configuration = format!(
        r#"[containers]
log_driver = "k8s-file"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
tmp_dir = "{path}/tmp"
volume_path = "{path}/volumes"
[network]
network_backend = "netavark"
network_config_dir = "{path}/networks"
default_subnet = "10.213.7.0/24"
"#
    );
    let storage = format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = \"{path}/root\"\nrunroot = \"{path}/run\"\n"
    );
    for (name, text) in [("containers.conf", configuration), ("storage.conf", storage)] {
        let file = folder.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
