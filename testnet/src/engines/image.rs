//! Images FROM scratch around one static program, the server of `examples/containers`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::json;
use shoal_protocol::model::Digest;

use crate::real::resources::quietly;
use crate::workspace::Workspace;

/// The name of the small image.
pub const SERVER: &str = "localhost/shoal-testnet-server:1";
/// The port on which the server listens.
pub const PORT: u16 = 8080;

/// The target of a program that runs without any library.
pub(crate) fn static_target() -> String {
    format!("{}-unknown-linux-musl", std::env::consts::ARCH)
}

/// Writes the server's image into a folder, as `docker save` would; with `ballast` it also holds so
/// many bytes that cannot be compressed. Returns the archive.
pub fn write(workspace: &Workspace, folder: &Path, ballast: u64) -> Result<PathBuf> {
    let root = folder.join("image-root");
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    let target = static_target();
    workspace.add_target(&target)?;
    let mut rustc = Command::new("rustc");
    // In the root, so that rust-toolchain.toml chooses the toolchain.
    rustc
        .args(["--edition", "2024", "-O", "-C", "panic=abort", "-C", "strip=symbols"])
        .args(["--target", &target, "-o"])
        .arg(root.join("server"))
        .arg(workspace.root.join("examples/containers/server/main.rs"))
        .current_dir(&workspace.root);
    quietly(&mut rustc).context("cannot compile the server of examples/containers")?;
    if ballast > 0 {
        let mut random = fs::File::open("/dev/urandom").context("no /dev/urandom")?.take(ballast);
        let mut file = fs::File::create(root.join("ballast")).context("cannot write ballast")?;
        std::io::copy(&mut random, &mut file).context("cannot write ballast")?;
    }
    archive(folder, &root)
}

fn archive(folder: &Path, root: &Path) -> Result<PathBuf> {
    let parts = folder.join("image-parts");
    fs::create_dir_all(&parts).with_context(|| format!("cannot make {}", parts.display()))?;
    let layer = parts.join("layer.tar");
    quietly(Command::new("tar").arg("-cf").arg(&layer).arg("-C").arg(root).arg("."))?;
    let bytes = fs::read(&layer).context("cannot read the layer")?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Entrypoint": ["/server"], "Env": ["PATH=/"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", Digest::of(&bytes))] },
        "history": [{ "created_by": "shoal's testnet" }],
    });
    let manifest =
        json!([{ "Config": "config.json", "RepoTags": [SERVER], "Layers": ["layer.tar"] }]);
    for (name, text) in [("config.json", config), ("manifest.json", manifest)] {
        fs::write(parts.join(name), text.to_string())
            .with_context(|| format!("cannot write {name}"))?;
    }
    let archive = folder.join("image.tar");
    let mut tar = Command::new("tar");
    tar.arg("-cf").arg(&archive).arg("-C").arg(&parts);
    quietly(tar.args(["manifest.json", "config.json", "layer.tar"]))?;
    Ok(archive)
}
