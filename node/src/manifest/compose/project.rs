//! The files of a project as one tree: read, interpolated, extended, included, merged, and without
//! the services that no profile switches on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::tree::{Entry, Position, Problem, Scalar, Tree, Value, read};
use super::super::verdict::{Judged, Note, Verdict};
use super::interpolate::{Variables, interpolate};
use super::merge::{by_name, merge};
use super::reading::{Files, MAX_FILE};
use super::{Request, env_file, schema};

/// Files that include or extend one another.
pub(super) const MAX_DEPTH: usize = 32;
/// Bytes of all values after their variables were replaced.
const MAX_TEXT: usize = 16 << 20;
/// Values of all files together, those that services extend each time anew.
const MAX_PARTS: usize = 2_000_000;
/// All that the files say, as one tree.
pub(super) struct Project {
    pub name: String,
    pub tree: Tree,
    /// Services that no profile switches on.
    pub off: BTreeSet<String>,
    pub files: Files,
    pub judged: Judged,
    /// All files were read, with a value for each variable. Else what is missing has faults that
    /// only follow from that.
    pub is_whole: bool,
}

/// Variables of the shell and of files of variables.
#[derive(Clone, Default)]
pub(super) struct Vars {
    pub all: BTreeMap<String, String>,
    /// Differs for the files that one `include` names.
    pub id: usize,
}

/// Reads the files of a project.
pub(super) fn read_project(request: &Request<'_>) -> Project {
    let folder = request.files.first().map(|it| folder_of(it)).unwrap_or_default();
    let files = Files::new(request.env.clone());
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
    // Names without a value take that of the project's file of variables, too.
    loader.files.shell.clone_from(&vars.all);
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
    let is_whole = loader.judged.problems.is_empty();
    if is_whole {
        schema::check(&tree, &mut loader.judged);
    }
    let off = switch_off(&mut tree, &profiles, &mut loader.judged);
    let Loader { files, judged, .. } = loader;
    Project { name, tree, off, files, judged, is_whole }
}

pub(super) fn folder_of(file: &Path) -> PathBuf {
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

/// Reads the files of a project and lays them over one another.
pub(super) struct Loader<'a> {
    pub files: Files,
    judged: Judged,
    stdin: Option<&'a str>,
    texts: usize,
    unset: BTreeSet<String>,
    pub scopes: usize,
    parts: usize,
    /// Files that services extend, by their paths and the variables that count in them.
    pub extended: BTreeMap<(PathBuf, usize), Option<Tree>>,
}

/// A file that is being read, and the service of it that another one extends.
pub(super) type Stack = Vec<(PathBuf, String)>;

impl Loader<'_> {
    pub fn refuse(&mut self, at: Position, field: &str, why: impl Into<String>) {
        self.judged.refuse(Problem::new(at, why).field(field));
    }

    /// Whether there is room for the values of another part.
    pub fn has_room(&mut self, tree: &Tree) -> bool {
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
    pub fn add_file_of_variables(
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
        match env_file::read(&text, &|name| above.get(name).cloned(), &BTreeMap::new()) {
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
    pub fn layer(
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
    pub fn documents(&mut self, file: &Path, base: &Path, vars: &Vars, stack: &Stack) -> Vec<Tree> {
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
