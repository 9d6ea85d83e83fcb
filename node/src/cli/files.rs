//! The files of a publish: one or several, a folder's, or standard input, written for shoal,
//! Compose or Kubernetes. What they describe is read as one set, in which no workload stands twice.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use shoal_protocol::model::{Label, WorkloadName};

use super::doors::{self, Foreign, Found, MAX_FILE, Reading, Tool, tool_of};
use super::error::CliError;
use crate::manifest::bundle::Given;
use crate::manifest::verdict::Note;
use crate::manifest::{self, Described, compose};
use crate::publish::Workload;

/// Files that one command takes: far more than people name, and few enough to hold in memory.
const MAX_FILES: usize = 1_024;

/// Which files, and which set they are.
#[derive(Args)]
pub struct Files {
    /// Files, folders (their *.yaml and *.yml), or `-` for standard input [default: the Compose
    /// files of this folder]
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The same; may be given several times
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    named: Vec<PathBuf>,
    /// Mark all workloads of these files as one set, by this name; `set` in a file does the same
    #[arg(long, value_name = "NAME")]
    set: Option<Label>,
    /// Also remove the workloads of the set that the files no longer describe, in the namespaces
    /// that the files name
    #[arg(long)]
    pub prune: bool,
    #[command(flatten)]
    reading: Reading,
}

/// All that the files describe.
#[derive(Default)]
pub struct Content {
    /// The workloads.
    pub placed: Vec<Placed>,
    /// The secrets and configs, which are set before the workloads.
    pub values: Vec<Given>,
    /// Remarks for people that are no warnings.
    pub notes: Vec<String>,
    /// Fields of other tools that count less here.
    pub warnings: Vec<String>,
    /// The fate of each field of files of other tools, each with its place.
    pub explained: Vec<(String, Note)>,
    /// Reasons to refuse files of other tools; none in what [`Files::read`] returns.
    pub(super) faults: Vec<String>,
}

impl Content {
    /// The content, unless files are refused.
    ///
    /// # Errors
    /// Every reason to refuse them.
    pub fn accepted(self) -> Result<Content, CliError> {
        if self.faults.is_empty() { Ok(self) } else { Err(doors::refused(&self.faults)) }
    }
}

/// A workload of a file, and where it stands.
pub struct Placed {
    /// The workload.
    pub workload: Workload,
    /// Its file and line, for messages; none for one that stands in no file.
    pub place: Option<String>,
}

impl Files {
    /// All that the files describe.
    pub fn read(&self) -> Result<Content, CliError> {
        self.judged()?.accepted()
    }

    /// The merged Compose files, as Compose itself shows them.
    pub fn merged(&self) -> Result<serde_json::Value, CliError> {
        let Expanded { files, .. } = expanded(&self.given()?)?;
        let files = files.iter().map(|file| found(file)).collect::<Result<_, _>>()?;
        doors::merged(files, &self.reading)
    }

    /// The files that are meant: without any, those of Compose in this folder, as docker compose
    /// takes them.
    fn given(&self) -> Result<Vec<PathBuf>, CliError> {
        let given: Vec<PathBuf> = self.files.iter().chain(&self.named).cloned().collect();
        if !given.is_empty() {
            return Ok(given);
        }
        let project = compose::files_in(Path::new(""));
        match project.is_empty() {
            false => Ok(project),
            true => Err(CliError::usage("no file is given, and this folder has no compose.yaml")
                .hint(
                    "Name files or folders: shoal publish shop.yaml; or `-` for standard input.",
                )),
        }
    }

    /// The same with the reasons to refuse files of other tools, which describe nothing then.
    pub fn judged(&self) -> Result<Content, CliError> {
        let mut content = Content::default();
        let mut known: BTreeMap<WorkloadName, String> = BTreeMap::new();
        let mut foreign = Vec::new();
        let given = self.given()?;
        let Expanded { files, left } = expanded(&given)?;
        if self.files.is_empty() && self.named.is_empty() {
            let names: Vec<String> = files.iter().map(|it| it.display().to_string()).collect();
            content.notes.push(format!("reading {}", names.join(" and ")));
        }
        for file in files {
            let found = found(&file)?;
            match tool_of(&found.path, &found.text) {
                Tool::Kubernetes if doors::misplaced(&found.path, &found.text).is_some() => {
                    self.take(&mut content, &mut known, found)?
                }
                Tool::Shoal => self.take(&mut content, &mut known, found)?,
                tool => foreign.push((tool, found)),
            }
        }
        let Foreign { placed, values, mut warnings, explained, faults, read } =
            doors::load(foreign, &self.reading);
        warnings.splice(..0, left.into_iter().filter_map(|it| it.told(&read)));
        for Placed { workload, place } in placed {
            let place = place.unwrap_or_default();
            note(&mut known, workload.name(), place.clone())?;
            let workload = self.marked(workload, &place)?;
            content.placed.push(Placed { workload, place: Some(place) });
        }
        Ok(Content { values, warnings, explained, faults, ..content })
    }

    /// Adds the workloads of a manifest of shoal.
    fn take(
        &self,
        content: &mut Content,
        known: &mut BTreeMap<WorkloadName, String>,
        found: Found,
    ) -> Result<(), CliError> {
        if let Some((what, mend)) = doors::misplaced(&found.path, &found.text) {
            let why = format!("{}: {what}", found.name);
            return Err(CliError::usage(why).hint(format!("{mend}\nNothing was published.")));
        }
        let Found { path, name, text } = found;
        let here = Path::new(".");
        let base = if path == Path::new("-") { here } else { path.parent().unwrap_or(here) };
        let described =
            manifest::read(&text, base).map_err(|error| CliError::of_manifest(&name, error))?;
        let is_only = described.len() == 1;
        for (at, Described { workload, line }) in described.into_iter().enumerate() {
            let id = workload.name().clone();
            note(known, &id, format!("{name}, line {line}"))?;
            let place = match is_only {
                true => name.clone(),
                false => format!("{name}: document {}, `{id}`", at + 1),
            };
            let workload = self.marked(workload, &place)?;
            content.placed.push(Placed { workload, place: Some(place) });
        }
        Ok(())
    }

    /// The workload, as one of the set.
    fn marked(&self, workload: Workload, place: &str) -> Result<Workload, CliError> {
        match (&self.set, workload.set_name()) {
            (Some(set), Some(own)) if set != own => Err(CliError::usage(format!(
                "{place}: `set: {own}` contradicts --set {set}; nothing was published"
            ))),
            (Some(set), _) => Ok(workload.set(set.clone())),
            (None, _) => Ok(workload),
        }
    }
}

/// The files of a command.
struct Expanded {
    /// Those of folders in the order of their names.
    files: Vec<PathBuf>,
    left: Vec<Left>,
}

/// The files of a folder with a project of Compose that are not part of it.
struct Left {
    folder: PathBuf,
    files: Vec<PathBuf>,
}

impl Left {
    /// That they are not read, unless the project itself names them.
    fn told(self, read: &BTreeSet<PathBuf>) -> Option<String> {
        let same = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let read: BTreeSet<PathBuf> = read.iter().map(|it| same(it)).collect();
        let left = self.files.iter().filter(|file| !read.contains(&same(file)));
        let names: Vec<&str> = left.filter_map(|it| it.file_name()?.to_str()).collect();
        (!names.is_empty()).then(|| {
            let (folder, names) = (self.folder.display(), names.join(", "));
            format!(
                "{folder} is a project of Compose: not read are {names}; name them to publish \
                 them, too"
            )
        })
    }
}

/// The files that are given, and those that are left alone. A folder with a Compose file is a
/// project of Compose, and others in it are often settings of its programs.
fn expanded(given: &[PathBuf]) -> Result<Expanded, CliError> {
    let (mut all, mut left) = (Vec::new(), Vec::new());
    for path in given {
        if path.is_dir() {
            let mut inside = manifests_in(path).map_err(|error| unreadable(path, &error))?;
            if inside.is_empty() {
                let why = format!("{} has no file that ends in .yaml or .yml", path.display());
                return Err(CliError::usage(why));
            }
            inside.sort();
            let project = compose::files_in(path);
            if !project.is_empty() {
                inside.retain(|file| !project.contains(file));
                left.push(Left { folder: path.clone(), files: inside });
                inside = project;
            }
            all.append(&mut inside);
        } else if !path.exists() && path.to_string_lossy().contains(['*', '?', '[']) {
            return Err(CliError::usage(format!("`{}` matches no file", path.display())));
        } else {
            all.push(path.clone());
        }
    }
    if let Some(twice) = all.iter().enumerate().find(|(at, file)| all[..*at].contains(file)) {
        return Err(CliError::usage(format!("{} is given twice", twice.1.display())));
    }
    match all.len() {
        ..=MAX_FILES => Ok(Expanded { files: all, left }),
        many => Err(CliError::usage(format!("{many} files are more than {MAX_FILES}"))),
    }
}

fn manifests_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let is_manifest = |path: &PathBuf| {
        path.extension().is_some_and(|it| it == "yaml" || it == "yml") && path.is_file()
    };
    let entries = std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    Ok(entries.collect::<io::Result<Vec<_>>>()?.into_iter().filter(is_manifest).collect())
}

fn unreadable(file: &Path, error: &io::Error) -> CliError {
    CliError::usage(format!("{} cannot be read: {error}", file.display()))
}

/// Notes where a workload stands, and that it stands there alone.
fn note(
    known: &mut BTreeMap<WorkloadName, String>,
    id: &WorkloadName,
    place: String,
) -> Result<(), CliError> {
    match known.insert(id.clone(), place.clone()) {
        Some(first) => Err(CliError::usage(format!("`{id}` stands twice: {first}, and {place}"))
            .hint("Nothing was published.")),
        None => Ok(()),
    }
}

/// A file and its text.
fn found(file: &Path) -> Result<Found, CliError> {
    let from_stdin = file == Path::new("-");
    let name = if from_stdin { "standard input".to_owned() } else { file.display().to_string() };
    let text = read(file, from_stdin)
        .map_err(|error| CliError::usage(format!("{name} cannot be read: {error}")))?;
    if text.len() as u64 > MAX_FILE {
        let most = MAX_FILE / (1024 * 1024);
        return Err(CliError::usage(format!("{name} is larger than {most} MiB")));
    }
    Ok(Found { path: file.to_owned(), name, text })
}

fn read(file: &Path, from_stdin: bool) -> io::Result<String> {
    let mut text = String::new();
    // Reads one byte above the bound, so that the check reports it.
    let most = MAX_FILE + 1;
    if from_stdin {
        io::stdin().lock().take(most).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(file)?.take(most).read_to_string(&mut text)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(all: &[PathBuf], set: Option<&str>) -> Files {
        let set = set.map(|set| set.parse().unwrap());
        let reading = Reading::default();
        Files { files: all.to_vec(), named: Vec::new(), set, prune: false, reading }
    }

    fn refusal(files: &Files) -> String {
        files.read().err().expect("refused").message
    }

    /// A name in two files would be published twice, and the second would win by chance.
    #[test]
    fn name_in_two_files_is_refused_with_both_places() {
        let folder = tempfile::tempdir().unwrap();
        let [one, two] = ["a.yaml", "b.yml"].map(|name| folder.path().join(name));
        std::fs::write(&one, "name: a\nwasm: a\n---\nname: b\nwasm: a\n").unwrap();
        std::fs::write(&two, "# another\nname: b\nwasm: b\n").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "none").unwrap();
        for given in [vec![one.clone(), two.clone()], vec![folder.path().to_owned()]] {
            let why = refusal(&files(&given, None));
            assert!(
                why.contains("a.yaml, line 4, and ") && why.ends_with("b.yml, line 2"),
                "{why}"
            );
        }
        let again = refusal(&files(&[one.clone(), one.clone()], None));
        assert!(again.ends_with("a.yaml is given twice"), "{again}");
        assert_eq!(files(&[one], None).read().unwrap().placed.len(), 2);
    }

    #[test]
    fn pattern_or_folder_without_a_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let pattern = folder.path().join("*.yaml");
        assert!(refusal(&files(&[pattern], None)).ends_with("*.yaml` matches no file"));
        let empty = refusal(&files(&[folder.path().to_owned()], None));
        assert!(empty.ends_with("has no file that ends in .yaml or .yml"), "{empty}");
    }

    #[test]
    fn set_is_marked_and_another_one_contradicts() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.yaml");
        std::fs::write(&file, "name: a\nwasm: a\nset: shop\n").unwrap();
        let set_of = |set| {
            let all = files(std::slice::from_ref(&file), set).read()?.placed;
            Ok::<_, CliError>(all[0].workload.set_name().map(ToString::to_string))
        };
        assert_eq!(set_of(None).unwrap().as_deref(), Some("shop"));
        assert_eq!(set_of(Some("shop")).unwrap().as_deref(), Some("shop"));
        let why = set_of(Some("other")).unwrap_err().message;
        assert!(why.contains("`set: shop` contradicts --set other"), "{why}");
    }
}
