//! The law: rules about the sources that a command can check. The first is the order of imports:
//! leaves <- rooms <- `protocol::node` <- doors.
//!
//! It reads the sources (see `paths` for what a light reading cannot see) and `cargo metadata`, and
//! refuses
//! - a room of `protocol` that names a sibling, and a leaf that names a room (`rooms`);
//! - names that would make `protocol` depend on a device: files, sockets, clocks, threads, chance
//!   (`purity`);
//! - a library named outside the one folder that may know it (`confined`);
//! - a dependency without a reason in the table (`dependencies`);
//! - lines over 100 columns, and doc comments of one word (`prose`).

mod confined;
mod dependencies;
mod paths;
mod prose;
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

/// A place at which a rule is broken.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Violation {
    /// Path relative to the workspace's root, with `/`.
    pub file: String,
    /// Line number, from 1.
    pub line: usize,
    /// The rule in a few words.
    pub rule: &'static str,
    /// The finding, why it is wrong, and what to do.
    pub why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}\n    {}", self.file, self.line, self.rule, self.why)
    }
}

/// A source file and the paths that it names.
struct Source {
    /// Path relative to the workspace's root, with `/`.
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

/// Checks the workspace and prints the violations. True when there are none.
pub fn run(workspace: &Workspace) -> Result<bool> {
    let violations = broken(&workspace.root, &workspace.metadata)?;
    for violation in &violations {
        println!("{violation}");
    }
    match violations.len() {
        0 => println!("the law holds"),
        count => println!("\nthe law is broken in {count} places (its rules: testnet/src/law)"),
    }
    Ok(violations.is_empty())
}

/// All violations in the workspace at `root`, by file and line.
pub fn broken(root: &Path, metadata: &Value) -> Result<Vec<Violation>> {
    let mut sources = Vec::new();
    for folder in members(root, metadata)? {
        for file in files(&root.join(&folder), &["rs"])? {
            sources.push(read(root, &folder, &file)?);
        }
    }
    let mut violations = Vec::new();
    violations.extend(sources.iter().flat_map(rooms::check));
    violations.extend(sources.iter().flat_map(purity::check));
    violations.extend(sources.iter().flat_map(confined::check));
    violations.extend(dependencies::check(root, metadata)?);
    violations.extend(prose::check(root)?);
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

/// Files with one of these endings, in order; build folders and hidden ones are not looked into.
fn files(folder: &Path, endings: &[&str]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let cannot_list = || format!("cannot list {}", folder.display());
    for entry in fs::read_dir(folder).with_context(cannot_list)? {
        let path = entry.with_context(cannot_list)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                found.extend(files(&path, endings)?);
            }
        } else if path.extension().is_some_and(|own| endings.iter().any(|ending| own == *ending)) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The path from the workspace's root, with `/`.
fn relative(root: &Path, file: &Path) -> String {
    file.strip_prefix(root).unwrap_or(file).to_string_lossy().replace('\\', "/")
}

fn read(root: &Path, folder: &Path, file: &Path) -> Result<Source> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let inner = file.strip_prefix(root.join(folder).join("src")).unwrap_or(Path::new(""));
    let module = module(inner);
    let file = relative(root, file);
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
