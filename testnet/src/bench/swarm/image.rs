//! The service's image, made without a registry: a static program and nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::engine::Engine;
use crate::real::resources::quietly;
use crate::workspace::{Workspace, output};

/// Name of the program at the root of the image.
pub(super) const PROGRAM: &str = "answerer";
const NAME: &str = "shoal-testnet-answerer";

/// Compiles the program, and loads the image into every engine. Returns its id, by which an engine
/// runs it without asking a registry for a newer one.
pub(super) fn give(workspace: &Workspace, folder: &Path, engines: &[Engine]) -> Result<String> {
    let root = folder.join("image");
    fs::create_dir(&root).with_context(|| format!("cannot make {}", root.display()))?;
    let source = folder.join("answerer.rs");
    fs::write(&source, include_str!("answerer.rs"))
        .with_context(|| format!("cannot write {}", source.display()))?;
    let mut rustc = Command::new("rustc");
    // In the root, so that rust-toolchain.toml chooses the toolchain.
    rustc
        .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-o"])
        .current_dir(&workspace.root);
    quietly(rustc.arg(root.join(PROGRAM)).arg(&source)).context(
        "cannot compile a static program for the image (libc6-dev has what it is linked with)",
    )?;
    let archive = folder.join("image.tar");
    quietly(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&root).arg("."))?;
    let archive =
        fs::read(&archive).with_context(|| format!("cannot read {}", archive.display()))?;

    let (first, others) = engines.split_first().context("there are engines")?;
    first.call("POST", &format!("/images/create?fromSrc=-&repo={NAME}"), &archive)?;
    let id = id_at(first)?;
    // Exported, since a second import would make another image: the time is in its id.
    let image = first.call("GET", &format!("/images/{NAME}/get"), &[])?;
    for engine in others {
        engine.call("POST", "/images/load", &image)?;
        let loaded = id_at(engine)?;
        if loaded != id {
            bail!("{} made the image {loaded} of what {} calls {id}", engine.name, first.name);
        }
    }
    Ok(id)
}

fn id_at(engine: &Engine) -> Result<String> {
    let image: Value = engine.get(&format!("/images/{NAME}/json"))?;
    Ok(image["Id"].as_str().context("an image without an id")?.to_owned())
}

/// The engine's version, as in `20.10.24`.
pub(super) fn dockerd_version() -> Result<String> {
    let mut command = Command::new("dockerd");
    command.arg("--version");
    Ok(output(command)?.trim().to_owned())
}
