//! The tool that each file was written for, and its reader: manifests of shoal, Compose files and
//! files of Kubernetes in one command become one plan.

use std::collections::{BTreeMap, BTreeSet};
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

/// A file of a tool that has to write others before they can be published: what it is, and the way
/// on. None for any other file.
pub fn misplaced(path: &Path, text: &str) -> Option<(String, String)> {
    let folder = match path.parent().map(|it| it.display().to_string()) {
        Some(folder) if !folder.is_empty() && path != Path::new("-") => folder,
        _ => ".".to_owned(),
    };
    let documents = read(FileId(0), text).ok()?;
    let first = documents.first()?;
    let text = |key: &str| first.get(key).and_then(Tree::as_text).unwrap_or_default();
    let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
    let has = |keys: &[&str]| keys.iter().any(|key| first.get(key).is_some());
    let is_kustomize = text("apiVersion").starts_with("kustomize.config.k8s.io/")
        || (name.starts_with("kustomization.") && has(&["resources", "bases", "patches"]));
    if is_kustomize {
        let what = "this is a file of kustomize, which says how others are changed";
        let mend = format!("Let it write them:  kustomize build {folder} | shoal publish -");
        return Some((what.to_owned(), mend));
    }
    if name == "Chart.yaml" || (has(&["apiVersion"]) && has(&["appVersion"]) && !has(&["kind"])) {
        let what = "this is a chart of Helm, whose templates make the files";
        let mend = format!("Let it write them:  helm template {folder} | shoal publish -");
        return Some((what.to_owned(), mend));
    }
    // A service at the top, as the first version of Compose had it.
    let entries = first.as_map()?;
    let is_service = |it: &Tree| it.get("image").is_some() || it.get("build").is_some();
    if !entries.is_empty() && entries.iter().all(|it| is_service(&it.value)) {
        let what = "this is a file of the first version of Compose, which has no `services`";
        let mend = "Write `services:` above all, indent the rest by two spaces, and publish again.";
        return Some((what.to_owned(), mend.to_owned()));
    }
    None
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
    /// The files that were read, those as well that others name.
    pub read: BTreeSet<PathBuf>,
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
        self.read.extend(sources.names().map(PathBuf::from));
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

    /// Each would else be answered with the fields of a manifest of shoal.
    #[test]
    fn files_that_make_others_are_told_with_their_command() {
        let mend = |name: &str, text: &str| misplaced(Path::new(name), text).map(|(_, mend)| mend);
        let kustomize = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n";
        assert!(mend("a/kustomization.yaml", kustomize).unwrap().contains("kustomize build a |"));
        let bare = mend("kustomization.yml", "resources: [a.yaml]\n").unwrap();
        assert!(bare.contains("kustomize build . |"), "{bare}");
        let chart = "apiVersion: v2\nname: shop\nversion: 0.1.0\nappVersion: \"1\"\n";
        assert!(mend("shop/Chart.yaml", chart).unwrap().contains("helm template shop |"));
        let first = mend("docker-compose.yml", "web:\n  image: a\ndb:\n  build: .\n").unwrap();
        assert!(first.contains("`services:`"), "{first}");
        for text in ["name: a\nimage: b\n", "services: { a: { image: b } }\n", "a: 1\n"] {
            assert_eq!(mend("a.yaml", text), None, "{text}");
        }
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
