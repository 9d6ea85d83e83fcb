//! The files of a project as one tree: read, interpolated, extended, included, merged, and without
//! the services that no profile switches on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::tree::{Entry, FileId, Position, Problem, Scalar, Sources, Tree, Value, read};
use super::super::verdict::{Judged, Note, Verdict};
use super::interpolate::{Variables, interpolate};
use super::merge::{by_name, merge};
use super::{Request, env_file};

/// Bytes of one file.
const MAX_FILE: u64 = 1 << 20;
/// Files of one project, those of variables, configs and secrets as well.
const MAX_FILES: usize = 256;
/// Files that include or extend one another.
const MAX_DEPTH: usize = 32;
/// Bytes of all values after their variables were replaced.
const MAX_TEXT: usize = 16 << 20;
/// Values of all files together, those that services extend each time anew.
const MAX_PARTS: usize = 2_000_000;
/// The names that a Compose file has in its folder, the first that is there.
const NAMES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// The Compose files of a folder: the first of the known names, and the file that overrides it.
pub fn files_in(folder: &Path) -> Vec<PathBuf> {
    let exists = |name: &str| Some(folder.join(name)).filter(|it| it.is_file());
    let Some(first) = NAMES.iter().find_map(|name| exists(name)) else { return Vec::new() };
    let overrides = ["compose.override", "docker-compose.override"];
    let names = overrides.iter().flat_map(|stem| [".yaml", ".yml"].map(|it| format!("{stem}{it}")));
    let over = names.into_iter().find_map(|name| exists(&name));
    std::iter::once(first).chain(over).collect()
}

/// All that the files say, as one tree.
pub(super) struct Project {
    pub name: String,
    pub tree: Tree,
    /// Services that no profile switches on.
    pub off: BTreeSet<String>,
    pub files: Files,
    pub judged: Judged,
}

/// The files that were read, and the variables of the project.
pub(super) struct Files {
    pub sources: Sources,
    /// The folder to which the paths of a file are relative, by the number of the file.
    bases: Vec<PathBuf>,
    /// The variables of the shell.
    pub shell: BTreeMap<String, String>,
    read: usize,
}

impl Files {
    /// Reads a file that another one names.
    pub fn open(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        self.read += 1;
        if self.read > MAX_FILES {
            return Err(format!("the project has more than {MAX_FILES} files"));
        }
        let shown = path.display();
        let wrong = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("the file {shown} is not there"),
            _ => format!("the file {shown} cannot be read: {error}"),
        };
        let file = std::fs::File::open(path).map_err(wrong)?;
        let what = file.metadata().map_err(wrong)?;
        if !what.is_file() {
            return Err(format!("{shown} is no file"));
        }
        let mut content = Vec::new();
        let most = MAX_FILE.saturating_add(1);
        std::io::Read::read_to_end(&mut std::io::Read::take(file, most), &mut content)
            .map_err(wrong)?;
        match u64::try_from(content.len()).is_ok_and(|bytes| bytes <= MAX_FILE) {
            true => Ok(content),
            false => Err(format!("the file {shown} is larger than 1 MiB")),
        }
    }

    /// The same for a text.
    pub fn open_text(&mut self, path: &Path) -> Result<String, String> {
        let content = self.open(path)?;
        let text = String::from_utf8(content);
        text.map_err(|_| format!("the file {} is no text in UTF-8", path.display()))
    }

    /// A path as it is meant where it stands.
    pub fn path(&self, at: Position, path: &str) -> PathBuf {
        let base = self.bases.get(usize::from(at.file.0)).cloned().unwrap_or_default();
        base.join(path)
    }

    fn add(&mut self, name: impl Into<String>, base: &Path) -> FileId {
        self.bases.push(base.to_owned());
        self.sources.add(name)
    }
}

/// Variables of the shell and of files of variables.
#[derive(Clone, Default)]
struct Vars {
    all: BTreeMap<String, String>,
    /// Differs for the files that one `include` names.
    id: usize,
}

/// Reads the files of a project.
pub(super) fn read_project(request: &Request<'_>) -> Project {
    let folder = request.files.first().map(|it| folder_of(it)).unwrap_or_default();
    let files = Files {
        sources: Sources::default(),
        bases: Vec::new(),
        shell: request.env.clone(),
        read: 0,
    };
    let mut loader = Loader {
        files,
        judged: Judged::default(),
        stdin: request.stdin.as_deref(),
        texts: 0,
        unset: BTreeSet::new(),
        scopes: 0,
        parts: 0,
        extended: BTreeMap::new(),
    };
    let vars = loader.variables(request, &folder);
    let mut tree = None;
    let mut stack = Vec::new();
    for file in &request.files {
        tree = loader.layer(tree, file, &folder, &vars, &mut stack);
    }
    let mut tree = tree.unwrap_or_else(|| Tree::empty_map(Position::default()));
    let name = loader.name(request, &tree, &vars, &folder);
    let mut profiles: BTreeSet<String> = request.profiles.iter().cloned().collect();
    if let Some(more) = vars.all.get("COMPOSE_PROFILES") {
        profiles.extend(more.split(',').map(|it| it.trim().to_owned()));
    }
    let off = switch_off(&mut tree, &profiles, &mut loader.judged);
    let Loader { files, judged, .. } = loader;
    Project { name, tree, off, files, judged }
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        _ if file == Path::new("-") => PathBuf::from("."),
        Some(folder) if folder.as_os_str().is_empty() => PathBuf::from("."),
        Some(folder) => folder.to_owned(),
        None => PathBuf::from("."),
    }
}

/// The name of a project: lower case letters, digits, `-` and `_`.
fn normalised(text: &str) -> String {
    let text = text.to_lowercase();
    let kept: String =
        text.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
    kept.trim_start_matches(['-', '_']).to_owned()
}

/// Takes out the services that no profile switches on.
fn switch_off(
    tree: &mut Tree,
    profiles: &BTreeSet<String>,
    judged: &mut Judged,
) -> BTreeSet<String> {
    let mut off = BTreeSet::new();
    let Value::Map(entries) = &mut tree.value else { return off };
    let Some(services) = entries.iter_mut().find(|it| it.key == "services") else { return off };
    let Value::Map(services) = &mut services.value.value else { return off };
    services.retain(|service| {
        let named = service.value.get("profiles").and_then(Tree::as_list).unwrap_or_default();
        let mut named = named.iter().filter_map(Tree::as_text).peekable();
        let is_on = named.peek().is_none()
            || profiles.contains("*")
            || named.any(|it| profiles.contains(it));
        if !is_on {
            off.insert(service.key.clone());
            judged.notes.push(Note {
                at: service.at,
                field: format!("services.{}", service.key),
                verdict: Verdict::Honoured,
                text: "left out: none of its profiles is switched on".into(),
            });
        }
        is_on
    });
    off
}

struct Loader<'a> {
    files: Files,
    judged: Judged,
    stdin: Option<&'a str>,
    texts: usize,
    unset: BTreeSet<String>,
    scopes: usize,
    parts: usize,
    /// Files that services extend, by their paths and the variables that count in them.
    extended: BTreeMap<(PathBuf, usize), Option<Tree>>,
}

/// A file that is being read, and the service of it that another one extends.
type Stack = Vec<(PathBuf, String)>;

impl Loader<'_> {
    fn refuse(&mut self, at: Position, field: &str, why: impl Into<String>) {
        self.judged.refuse(Problem::new(at, why).field(field));
    }

    /// Whether there is room for the values of another part.
    fn has_room(&mut self, tree: &Tree) -> bool {
        self.parts = self.parts.saturating_add(size(tree));
        if self.parts > MAX_PARTS {
            let why = "with all that it extends and includes, it has more than 2 million values";
            self.refuse(Position { line: 0, column: 0, ..tree.at }, "", why);
        }
        self.parts <= MAX_PARTS
    }

    /// The variables of the project: those of the shell win.
    fn variables(&mut self, request: &Request<'_>, folder: &Path) -> Vars {
        let mut vars = Vars { all: request.env.clone(), id: 0 };
        let standard = [folder.join(".env")];
        let named = request.env_files.as_slice();
        let is_named = !named.is_empty();
        for file in if is_named { named } else { standard.as_slice() } {
            if is_named || file.is_file() {
                self.add_file_of_variables(&mut vars, file, &request.env.clone());
            }
        }
        vars
    }

    /// Adds what a file says and `above` does not.
    fn add_file_of_variables(
        &mut self,
        vars: &mut Vars,
        file: &Path,
        above: &BTreeMap<String, String>,
    ) {
        let id = self.files.add(file.display().to_string(), Path::new("."));
        let at = Position { file: id, line: 0, column: 0 };
        let text = match self.files.open_text(file) {
            Ok(text) => text,
            Err(why) => return self.refuse(at, "", why),
        };
        match env_file::read(&text, &|name| above.get(name).cloned()) {
            Ok(pairs) => {
                let own = pairs.into_iter().filter(|(name, _)| !above.contains_key(name));
                vars.all.extend(own.filter_map(|(name, value)| Some((name, value?))));
            }
            Err((line, why)) => self.refuse(Position { line, column: 1, ..at }, "", why),
        }
    }

    fn name(&mut self, request: &Request<'_>, tree: &Tree, vars: &Vars, folder: &Path) -> String {
        let of_env = vars.all.get("COMPOSE_PROJECT_NAME").filter(|it| !it.is_empty()).cloned();
        let of_file = tree.get("name").and_then(Tree::as_text).map(str::to_owned);
        let of_folder = || {
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
            let name = folder.components().next_back()?.as_os_str().to_str()?.to_owned();
            Some(name)
        };
        let given = request.project.clone().or(of_env).or(of_file).or_else(of_folder);
        let name = normalised(&given.clone().unwrap_or_default());
        if name.is_empty() {
            let at = tree.entry("name").map_or(tree.at, |it| it.at);
            let given = given.unwrap_or_default();
            let why = format!("`{given}` leaves no name of a project; write `name: shop`");
            self.refuse(at, "name", why);
        }
        name
    }

    /// Lays a file, with all that it includes, over what was read before.
    fn layer(
        &mut self,
        mut below: Option<Tree>,
        file: &Path,
        base: &Path,
        vars: &Vars,
        stack: &mut Stack,
    ) -> Option<Tree> {
        let documents = self.documents(file, base, vars, stack);
        let key = (file.to_owned(), String::new());
        stack.push(key);
        for mut document in documents {
            if let Some(entry) = document.entry("include").cloned() {
                document.remove("include");
                below = self.include(below, &entry, vars, stack);
            }
            let services = document.get("services").cloned();
            let extended = self.extended(services, below.as_ref(), file, vars, stack);
            if let (Some(services), Some(at)) = (extended, document.entry("services")) {
                let at = at.at;
                document.set("services", at, services);
            }
            below = merge(&[], below, document);
        }
        stack.pop();
        below
    }

    /// The documents of a file with their variables replaced.
    fn documents(&mut self, file: &Path, base: &Path, vars: &Vars, stack: &Stack) -> Vec<Tree> {
        let is_stdin = file == Path::new("-");
        let shown = if is_stdin { "standard input".to_owned() } else { file.display().to_string() };
        let id = self.files.add(shown, base);
        let at = Position { file: id, line: 0, column: 0 };
        if stack.len() > MAX_DEPTH || stack.iter().any(|(it, of)| it == file && of.is_empty()) {
            self.refuse(at, "include", "the file includes itself, by whatever way");
            return Vec::new();
        }
        let text = match self.stdin.filter(|_| is_stdin) {
            Some(text) if text.len() as u64 <= MAX_FILE => Ok(text.to_owned()),
            Some(_) => Err("it is larger than 1 MiB".to_owned()),
            None if is_stdin => Err("there is no text".to_owned()),
            None => self.files.open_text(file),
        };
        let documents = match text {
            Ok(text) => read(id, &text),
            Err(why) => Err(Problem::new(at, why)),
        };
        let mut documents = match documents {
            Ok(documents) => documents,
            Err(problem) => {
                self.judged.refuse(problem);
                return Vec::new();
            }
        };
        if documents.is_empty() {
            self.refuse(
                at,
                "",
                "the file is empty; the least is `services: { web: { image: .. } }`",
            );
        }
        if !documents.iter().all(|it| self.has_room(it)) {
            return Vec::new();
        }
        for document in &mut documents {
            if document.as_map().is_none() {
                let why = format!("a mapping is expected, found {}", document.what());
                self.refuse(document.at, "", why);
                *document = Tree::empty_map(document.at);
            }
            self.interpolated(document, vars, "");
        }
        documents
    }

    fn interpolated(&mut self, tree: &mut Tree, vars: &Vars, field: &str) {
        let at = tree.at;
        match &mut tree.value {
            Value::Map(entries) => {
                for Entry { key, value, .. } in entries {
                    let field =
                        if field.is_empty() { key.clone() } else { format!("{field}.{key}") };
                    self.interpolated(value, vars, &field);
                }
            }
            Value::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.interpolated(item, vars, &format!("{field}[{index}]"));
                }
            }
            Value::Scalar(Scalar { text, is_plain }) => {
                if !text.contains('$') {
                    return;
                }
                let mut seen = Seen { vars, unset: BTreeSet::new() };
                match interpolate(text, &mut seen) {
                    Ok(new) => {
                        self.texts = self.texts.saturating_add(new.len());
                        if self.texts > MAX_TEXT {
                            let why = "the values of all variables together have more than 16 MiB";
                            self.refuse(at, field, why);
                            return;
                        }
                        (*text, *is_plain) = (new, false);
                    }
                    Err(why) => self.refuse(at, field, why),
                }
                for name in seen.unset {
                    if self.unset.insert(name.clone()) {
                        let text =
                            format!("the variable {name} has no value: an empty text is taken");
                        self.judged.degrade(at, field, text);
                    }
                }
            }
        }
    }

    fn include(
        &mut self,
        mut below: Option<Tree>,
        entry: &Entry,
        vars: &Vars,
        stack: &mut Stack,
    ) -> Option<Tree> {
        let Some(items) = entry.value.as_list() else {
            self.refuse(entry.value.at, "include", "a list of files is expected");
            return below;
        };
        for (index, item) in items.iter().enumerate() {
            let field = format!("include[{index}]");
            let texts = |tree: Option<&Tree>| -> Vec<(Position, String)> {
                let Some(tree) = tree else { return Vec::new() };
                let all = tree.as_list().map_or(std::slice::from_ref(tree), |items| items);
                let text = |it: &Tree| Some((it.at, it.as_text()?.to_owned()));
                all.iter().filter_map(text).collect()
            };
            let paths = match item.as_map() {
                Some(entries) => {
                    let known = ["path", "project_directory", "env_file"];
                    for entry in entries.iter().filter(|it| !known.contains(&it.key.as_str())) {
                        let why = format!("there is no such field; known are {}", known.join(", "));
                        self.refuse(entry.at, &format!("{field}.{}", entry.key), why);
                    }
                    texts(item.get("path"))
                }
                None => texts(Some(item)),
            };
            let Some((at, first)) = paths.first() else {
                self.refuse(item.at, &field, "the path of a file is missing");
                continue;
            };
            if first.contains("://") || first.starts_with("git@") {
                let why = format!("`{first}` is on another machine: fetch it, and name the file");
                self.refuse(*at, &field, why);
                continue;
            }
            let given = item.get("project_directory").and_then(Tree::as_text);
            let base = match given {
                Some(folder) => self.files.path(item.at, folder),
                None => folder_of(&self.files.path(*at, first)),
            };
            // The variables of the project come before those of the include.
            self.scopes += 1;
            let mut own = Vars { id: self.scopes, ..vars.clone() };
            let named = texts(item.get("env_file"));
            for (at, file) in &named {
                let file = self.files.path(*at, file);
                self.add_file_of_variables(&mut own, &file, &vars.all);
            }
            let standard = base.join(".env");
            if named.is_empty() && standard.is_file() {
                self.add_file_of_variables(&mut own, &standard, &vars.all);
            }
            let mut included = None;
            for (at, path) in &paths {
                let path = self.files.path(*at, path);
                included = self.layer(included, &path, &base, &own, stack);
            }
            if let Some(mut included) = included {
                included.remove("name");
                below = merge(&[], below, included);
            }
        }
        below
    }

    /// The services of a document, each with what it extends.
    fn extended(
        &mut self,
        services: Option<Tree>,
        below: Option<&Tree>,
        file: &Path,
        vars: &Vars,
        stack: &mut Stack,
    ) -> Option<Tree> {
        let mut services = services?;
        let all = services.clone();
        let Value::Map(entries) = &mut services.value else { return Some(services) };
        for Entry { key, value, .. } in entries {
            if value.get("extends").is_some() {
                stack.push((file.to_owned(), key.clone()));
                *value = self.extend(key, value.clone(), (&all, below), vars, stack);
                stack.pop();
            }
        }
        Some(services)
    }

    /// A service laid over the one that it extends.
    fn extend(
        &mut self,
        name: &str,
        mut service: Tree,
        (all, below): (&Tree, Option<&Tree>),
        vars: &Vars,
        stack: &mut Stack,
    ) -> Tree {
        let Some(extends) = service.entry("extends").cloned() else { return service };
        service.remove("extends");
        let (at, field) = (extends.at, format!("services.{name}.extends"));
        let target = match extends.value.as_text() {
            Some(text) => Some(text),
            None => extends.value.get("service").and_then(Tree::as_text),
        };
        let Some(target) = target.map(str::to_owned) else {
            self.refuse(at, &field, "the name of a service is missing: extends: { service: base }");
            return service;
        };
        let here = stack.last().map(|(file, _)| file.clone()).unwrap_or_default();
        let other = extends.value.get("file").and_then(|it| Some((it.at, it.as_text()?)));
        let file = other.map_or(here, |(at, path)| self.files.path(at, path));
        let key = (file.clone(), target.clone());
        if stack.contains(&key) || stack.len() > MAX_DEPTH {
            self.refuse(at, &field, format!("`{target}` extends this service in turn"));
            return service;
        }
        stack.push(key);
        let base = match other {
            None => {
                let in_below = || below?.at_path(&["services", &target]).cloned();
                let base = all.get(&target).cloned().or_else(in_below);
                base.map(|base| self.extend(&target, base, (all, below), vars, stack))
            }
            Some(_) => {
                let merged = self.file_of_extended(&file, vars);
                let services = merged.as_ref().and_then(|it| it.get("services"));
                let found = services.and_then(|it| Some((it.clone(), it.get(&target)?.clone())));
                found.map(|(all, base)| self.extend(&target, base, (&all, None), vars, stack))
            }
        };
        stack.pop();
        let Some(base) = base else {
            let why = match other {
                Some(_) => format!("there is no service `{target}` in {}", file.display()),
                None => format!("there is no service `{target}`"),
            };
            self.refuse(at, &field, why);
            return service;
        };
        match self.has_room(&base) {
            true => merge(&["services", name], Some(base), service.clone()).unwrap_or(service),
            false => service,
        }
    }
}

impl Loader<'_> {
    fn file_of_extended(&mut self, file: &Path, vars: &Vars) -> Option<Tree> {
        let key = (file.to_owned(), vars.id);
        if let Some(tree) = self.extended.get(&key) {
            return tree.clone();
        }
        let mut merged = None;
        for document in self.documents(file, &folder_of(file), vars, &Vec::new()) {
            merged = merge(&[], merged, document);
        }
        self.extended.insert(key, merged.clone());
        merged
    }
}

fn size(tree: &Tree) -> usize {
    match &tree.value {
        Value::Scalar(_) => 1,
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|it| size(&it.value)).sum::<usize>(),
    }
}

struct Seen<'a> {
    vars: &'a Vars,
    unset: BTreeSet<String>,
}

impl Variables for Seen<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.vars.all.get(name).map(String::as_str)
    }

    fn unset(&mut self, name: &str) {
        self.unset.insert(name.to_owned());
    }
}

/// Names with their values, in whichever of the two forms.
pub(super) fn named<'a>(field: &str, tree: &'a Tree, hold: &'a mut Option<Tree>) -> &'a Tree {
    match tree.as_list() {
        Some(_) => hold.insert(by_name(field, tree.clone())),
        None => tree,
    }
}
