//! The tool that each file was written for, and its reader: manifests of shoal, Compose files and
//! files of Kubernetes in one command become one plan.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use shoal_protocol::model::Label;

use super::error::CliError;
use super::files::Placed;
use crate::manifest::bundle::{Bundle, Given, Refusal};
use crate::manifest::tree::{FileId, Problem, Sources, Tree, read};
use crate::manifest::verdict::{Note, Verdict};
use crate::manifest::{compose, kubernetes};

/// Bytes of one file of another tool: a large chart has 2 MiB.
pub const MAX_FILE: u64 = 16 * 1024 * 1024;

/// How files of Compose and Kubernetes are read.
#[derive(Args, Default)]
pub struct Reading {
    /// Switch a profile of a Compose file on; may be given several times
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    /// Read the variables of a Compose file from here, instead of its `.env`
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// The project of a Compose file, which becomes the namespace [default: its `name`, or the name
    /// of its folder]
    #[arg(long, value_name = "NAME")]
    project_name: Option<String>,
    /// The namespace of objects of Kubernetes that name none
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<Label>,
}

/// The tool that a file was written for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tool {
    /// None: a manifest of shoal.
    Shoal,
    /// A project of Docker Compose.
    Compose,
    /// Objects, as kubectl takes them.
    Kubernetes,
}

/// A file that was found, and its text.
pub struct Found {
    /// Its path; `-` for standard input.
    pub path: PathBuf,
    /// Its name for people.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The tool that a text was written for, by its first document. A text that cannot be read is
/// judged by the name of its file.
pub fn tool_of(path: &Path, text: &str) -> Tool {
    let has = |tree: &Tree, keys: &[&str]| keys.iter().all(|key| tree.get(key).is_some());
    match read(FileId(0), text) {
        Ok(documents) => {
            let is_object = |it: &Tree| has(it, &["apiVersion"]) || has(it, &["kind", "metadata"]);
            let is_project = |it: &Tree| {
                let is_ours = ["image", "wasm", "artifact"].iter().any(|key| has(it, &[key]));
                !is_ours && (has(it, &["services"]) || has(it, &["include"]))
            };
            match () {
                () if documents.iter().any(is_object) => Tool::Kubernetes,
                () if documents.iter().any(is_project) => Tool::Compose,
                () if documents.is_empty() && is_compose_name(path) => Tool::Compose,
                () => Tool::Shoal,
            }
        }
        Err(_) if is_compose_name(path) => Tool::Compose,
        Err(_) if text.lines().any(|line| line.starts_with("apiVersion:")) => Tool::Kubernetes,
        Err(_) if text.lines().any(|line| line.trim_end() == "services:") => Tool::Compose,
        Err(_) => Tool::Shoal,
    }
}

fn is_compose_name(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stem = name.strip_suffix(".yaml").or_else(|| name.strip_suffix(".yml"));
    stem.is_some_and(|stem| {
        let stem = stem.strip_suffix(".override").unwrap_or(stem);
        stem == "compose" || stem == "docker-compose"
    })
}

/// The content of files of other tools.
#[derive(Default)]
pub struct Foreign {
    /// The workloads.
    pub placed: Vec<Placed>,
    /// The secrets and configs.
    pub values: Vec<Given>,
    /// Warnings, each once.
    pub warnings: Vec<String>,
    /// The fate of each field, each with its place, that of refused ones as well.
    pub explained: Vec<(String, Note)>,
    /// Reasons to refuse the files.
    pub faults: Vec<String>,
}

/// Reads the files of other tools. Faults are among what is returned.
pub fn load(files: Vec<(Tool, Found)>, how: &Reading) -> Foreign {
    let (mut projects, mut objects) = (Vec::new(), Vec::new());
    for (tool, found) in files {
        match tool {
            Tool::Compose => projects.push(found),
            Tool::Kubernetes => objects.push((found.name, found.text)),
            Tool::Shoal => {}
        }
    }
    let mut all = Foreign::default();
    if !projects.is_empty() {
        let env = shell();
        all.take(compose::load(request(projects, how, &env)));
    }
    if !objects.is_empty() {
        all.take(kubernetes::load(objects, how.namespace.clone()));
    }
    all
}

/// The merged project of Compose files, in the form of `docker-compose config --format json`.
pub fn merged(files: Vec<Found>, how: &Reading) -> Result<serde_json::Value, CliError> {
    let env = shell();
    compose::merged(request(files, how, &env)).map_err(|Refusal { problems, sources, .. }| {
        let faults: Vec<String> = problems.iter().map(|it| fault(it, &sources)).collect();
        refused(&faults)
    })
}

fn shell() -> BTreeMap<String, String> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((name.into_string().ok()?, value.into_string().ok()?))
    };
    std::env::vars_os().filter_map(text).collect()
}

fn request<'a>(
    mut projects: Vec<Found>,
    how: &Reading,
    env: &'a BTreeMap<String, String>,
) -> compose::Request<'a> {
    let stdin = projects.iter().position(|it| it.path == Path::new("-"));
    let stdin = stdin.map(|at| std::mem::take(&mut projects[at].text));
    compose::Request {
        files: projects.into_iter().map(|it| it.path).collect(),
        stdin,
        env,
        env_files: how.env_file.clone(),
        profiles: how.profile.clone(),
        project: how.project_name.clone(),
    }
}

impl Foreign {
    fn take(&mut self, read: Result<Bundle, Refusal>) {
        let Bundle { workloads, values, notes, renamed, sources } = match read {
            Ok(bundle) => bundle,
            Err(Refusal { problems, mut notes, sources }) => {
                self.faults.extend(problems.iter().map(|it| fault(it, &sources)));
                let told = |it: Problem| {
                    let text = match it.hint {
                        Some(hint) => format!("{}. {hint}", it.message),
                        None => it.message,
                    };
                    Note { at: it.at, field: it.field, verdict: Verdict::Refused, text }
                };
                // The table's word about a field does not count beside its fault.
                notes.retain(|note| {
                    !problems.iter().any(|it| it.at == note.at && it.field == note.field)
                });
                notes.extend(problems.into_iter().map(told));
                notes.sort_by_key(|it| it.at);
                Bundle { notes, sources, ..Bundle::default() }
            }
        };
        for item in workloads {
            let place = Some(sources.show(item.at));
            self.placed.push(Placed { workload: item.workload, place });
        }
        self.values.extend(values);
        for (from, to) in renamed {
            self.warnings.push(format!("`{from}` is named `{to}` here: names are DNS labels"));
        }
        self.warnings.extend(warnings(&notes, &sources));
        self.explained.extend(notes.into_iter().map(|note| (sources.show(note.at), note)));
    }
}

/// A warning for each field that counts less; for one that several services have, once.
fn warnings(notes: &[Note], sources: &Sources) -> Vec<String> {
    let mut of_text: BTreeMap<(&str, &str), (String, usize)> = BTreeMap::new();
    for note in notes.iter().filter(|note| note.verdict == Verdict::Degraded) {
        let name = note.field.rsplit('.').next().unwrap_or(&note.field);
        let first = || (format!("{}: {}", sources.show(note.at), note.field), 0);
        of_text.entry((name, &note.text)).or_insert_with(first).1 += 1;
    }
    let shown = of_text.into_iter().map(|((_, text), (place, count))| match count {
        1 => format!("{place}: {text}"),
        more => format!("{place}, and {} more: {text}", more - 1),
    });
    shown.collect()
}

fn fault(problem: &Problem, sources: &Sources) -> String {
    let mut line = format!("{}: {problem}", sources.show(problem.at));
    if let Some(hint) = &problem.hint {
        let _ = write!(line, "\n    {hint}");
    }
    line
}

/// All reasons at once.
pub fn refused(faults: &[String]) -> CliError {
    let message = match faults {
        [only] => only.clone(),
        _ => format!("{} faults:\n  {}", faults.len(), faults.join("\n  ")),
    };
    CliError::usage(message).hint("Nothing was published.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_what_they_hold() {
        let tool = |name: &str, text: &str| tool_of(Path::new(name), text);
        assert_eq!(tool("a.yaml", "name: a\nimage: b\n"), Tool::Shoal);
        assert_eq!(tool("a.yaml", "services:\n  web:\n    image: b\n"), Tool::Compose);
        assert_eq!(tool("a.yaml", "name: a\ninclude: [b.yaml]\n"), Tool::Compose);
        assert_eq!(tool("a.yaml", "# x\n---\napiVersion: v1\nkind: Pod\n"), Tool::Kubernetes);
        assert_eq!(tool("a.yaml", "kind: job\nname: a\nwasm: b\n"), Tool::Shoal);
        // A text that cannot be read is refused by the reader that its author meant.
        assert_eq!(tool("docker-compose.yml", "services:\n\tweb: {}\n"), Tool::Compose);
        assert_eq!(tool("a.yaml", "apiVersion: v1\n\tkind: Pod\n"), Tool::Kubernetes);
        assert_eq!(tool("compose.override.yaml", ""), Tool::Compose);
    }

    #[test]
    fn warning_of_several_services_is_given_once() {
        let note = |line, field: &str| Note {
            at: crate::manifest::tree::Position { file: FileId(0), line, column: 5 },
            field: field.into(),
            verdict: Verdict::Degraded,
            text: "shoal keeps the logs itself".into(),
        };
        let mut sources = Sources::default();
        sources.add("c.yaml");
        let notes = [note(4, "services.a.logging"), note(9, "services.b.logging")];
        let expected = "c.yaml:4:5: services.a.logging, and 1 more: shoal keeps the logs itself";
        assert_eq!(warnings(&notes, &sources), [expected]);
    }
}
