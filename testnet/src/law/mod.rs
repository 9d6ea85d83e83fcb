//! The import law: leaves <- rooms <- `protocol::node` <- doors, said once and checked by a
//! command.
//!
//! It reads the sources (see `paths` for what a light reading cannot see) and `cargo metadata`, and
//! refuses
//! - a room of `protocol` that names a sibling, and a leaf that names a room (`rooms`);
//! - what would make `protocol` depend on a device: files, sockets, clocks, threads, chance
//!   (`purity`);
//! - a library named outside the one folder that may know it (`confined`);
//! - a dependency that nobody has given a reason for (`dependencies`).

mod confined;
mod dependencies;
mod paths;
mod purity;
mod rooms;
mod scan;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::workspace::Workspace;
use paths::Named;

/// A place where the law is broken.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Violation {
    /// Relative to the workspace's root.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// The rule, in a few words.
    pub rule: &'static str,
    /// What was found, why it is wrong, and what to do.
    pub why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}\n    {}", self.file, self.line, self.rule, self.why)
    }
}

/// One source file with the paths it names.
struct Source {
    /// Relative to the workspace's root, with `/`.
    file: String,
    /// The module path within its crate; tests, examples and benches are crates of their own.
    module: Vec<String>,
    named: Vec<Named>,
}

impl Source {
    fn violation(&self, line: usize, rule: &'static str, why: String) -> Violation {
        Violation { file: self.file.clone(), line, rule, why }
    }
}

/// Checks the workspace and prints what breaks the law. True when nothing does.
pub fn run(workspace: &Workspace) -> Result<bool> {
    let violations = broken(&workspace.root, &workspace.metadata)?;
    for violation in &violations {
        println!("{violation}");
    }
    match violations.len() {
        0 => println!("the import law holds"),
        count => {
            println!("\nthe import law is broken in {count} places (its rules: testnet/src/law)")
        }
    }
    Ok(violations.is_empty())
}

/// Every violation in the workspace at `root`, in order of file and line.
pub fn broken(root: &Path, metadata: &Value) -> Result<Vec<Violation>> {
    let mut sources = Vec::new();
    for folder in members(root, metadata)? {
        for file in rust_files(&root.join(&folder))? {
            sources.push(read(root, &folder, &file)?);
        }
    }
    let mut violations = Vec::new();
    violations.extend(sources.iter().flat_map(rooms::check));
    violations.extend(sources.iter().flat_map(purity::check));
    violations.extend(sources.iter().flat_map(confined::check));
    violations.extend(dependencies::check(root, metadata)?);
    violations.sort();
    violations.dedup();
    Ok(violations)
}

/// The folders of the workspace's packages, relative to its root.
fn members(root: &Path, metadata: &Value) -> Result<Vec<PathBuf>> {
    let packages = metadata["packages"].as_array().context("`cargo metadata` lists no packages")?;
    let folder = |package: &Value| {
        let manifest = Path::new(package["manifest_path"].as_str()?);
        Some(manifest.parent()?.strip_prefix(root).ok()?.to_path_buf())
    };
    packages
        .iter()
        .map(|package| folder(package).context("a package lies outside the workspace"))
        .collect()
}

fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries =
        fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {}", folder.display()))?.path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            found.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn read(root: &Path, folder: &Path, file: &Path) -> Result<Source> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let relative = file.strip_prefix(root).unwrap_or(file);
    let module = module(relative.strip_prefix(folder.join("src")).unwrap_or(Path::new("")));
    let file = relative.to_string_lossy().replace('\\', "/");
    Ok(Source { named: paths::named(&text, &module), file, module })
}

/// `ring/probe.rs` is `[ring, probe]`, `ring/mod.rs` is `[ring]`, `lib.rs` is the root.
fn module(file: &Path) -> Vec<String> {
    let mut module: Vec<String> = file
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if module.last().is_some_and(|last| last == "mod") || module == ["lib"] || module == ["main"] {
        module.pop();
    }
    module
}
