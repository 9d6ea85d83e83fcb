//! The objects of the files: of which kind, with which name, in which namespace; lists are taken
//! apart, and what is no object is refused.

use std::collections::BTreeMap;

use shoal_protocol::model::Label;
use shoal_protocol::model::name::DEFAULT_NAMESPACE;
use shoal_protocol::model::nearest::did_you_mean;

use super::super::tree::{Position, Problem, Sources, Tree, Value};
use super::super::verdict::{Judged, Note, Verdict};
use super::scalar::Part;
use super::served::{self, Owner};
use super::stream::documents;
use super::table::{self, Fate};

/// An object of a kind that is known.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub kind: &'static str,
    pub at: Position,
    /// As in the file.
    pub name: String,
    /// The place of its name.
    pub name_at: Position,
    pub namespace: Label,
    pub tree: Tree,
    /// The phases of a hook of Helm, and its weight.
    pub hook: Option<(Vec<String>, i64)>,
    /// The object of a cluster that made it there.
    pub owner: Option<Owner>,
}

impl Object {
    /// The object as people call it.
    pub fn shown(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    /// All of it.
    pub fn root(&self) -> Part<'_> {
        Part::of(&self.tree)
    }

    /// Adds what was found in it to all, with its name before each field.
    pub fn tell(&self, found: Judged, all: &mut Judged) {
        tell(&self.shown(), found, all);
    }
}

/// Adds what was found in an object to all, with its name before each field.
pub(super) fn tell(shown: &str, found: Judged, all: &mut Judged) {
    let named = |field: String| match field.as_str() {
        "" => shown.to_owned(),
        field => format!("{shown}: {field}"),
    };
    let Judged { notes, problems } = found;
    all.notes.extend(notes.into_iter().map(|it| Note { field: named(it.field), ..it }));
    let named = problems.into_iter().map(|it| Problem { field: named(it.field.clone()), ..it });
    all.problems.extend(named);
}

/// The objects of all texts, and what is wrong.
pub(super) fn objects(
    texts: &[(String, String)],
    namespace: Option<Label>,
    sources: &mut Sources,
    all: &mut Judged,
) -> Vec<Object> {
    let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.parse().unwrap_or_default());
    let mut reader =
        Reader { namespace, seen: BTreeMap::new(), objects: Vec::new(), owned: Vec::new(), all };
    for (name, text) in texts {
        let file = sources.add(name);
        let (trees, problems) = documents(file, text);
        let is_empty = trees.is_empty() && problems.is_empty();
        reader.all.problems.extend(problems);
        trees.into_iter().for_each(|tree| reader.document(tree));
        if is_empty {
            let at = Position { file, ..Position::default() };
            reader.all.refuse(Problem::new(at, "there is nothing in it"));
        }
    }
    reader.without_owned()
}

/// The ConfigMap with the certificates of a cluster, in each of its namespaces.
const CERTIFICATES: &str = "kube-root-ca.crt";

struct Reader<'a> {
    /// Objects that are refused unless another one of the files makes them.
    owned: Vec<(Problem, Label, Option<Owner>)>,
    namespace: Label,
    /// Where each object stands.
    seen: BTreeMap<(&'static str, Label, String), Position>,
    objects: Vec<Object>,
    all: &'a mut Judged,
}

impl Reader<'_> {
    /// The objects without those that others of them make.
    fn without_owned(self) -> Vec<Object> {
        let Reader { owned, seen, objects, all, .. } = self;
        let has = |namespace: &Label, owner: &Owner| {
            let mut known = seen.keys();
            known.any(|(kind, of, name)| {
                *kind == owner.kind && of == namespace && *name == owner.name
            })
        };
        for (problem, namespace, owner) in owned {
            match owner.filter(|owner| has(&namespace, owner)) {
                Some(owner) => all.notes.push(served::made_by(problem.at, problem.field, &owner)),
                None => all.refuse(problem),
            }
        }
        let mut kept = objects;
        kept.retain(|object| {
            let Some(owner) = object.owner.as_ref() else { return true };
            if !has(&object.namespace, owner) {
                return true;
            }
            // The words about its fields count no more.
            let shown = object.shown();
            let of_it = format!("{shown}: ");
            all.notes.retain(|it| it.field != shown && !it.field.starts_with(&of_it));
            all.problems.retain(|it| it.field != shown && !it.field.starts_with(&of_it));
            all.notes.push(served::made_by(object.name_at, shown, owner));
            false
        });
        kept
    }

    fn document(&mut self, mut tree: Tree) {
        let at = tree.at;
        if tree.as_map().is_none() {
            let what = tree.what();
            return self.all.refuse(Problem::new(at, format!("{what}, and no object")));
        }
        let kind = scalar(&tree, "kind");
        let Some(items) = kind.as_deref().and_then(|kind| kind.strip_suffix("List")) else {
            return self.object(tree, None);
        };
        let api = scalar(&tree, "apiVersion");
        let items = items.to_owned();
        match tree.remove("items") {
            None => {}
            Some(Tree { value: Value::List(all), .. }) => {
                for item in all {
                    self.item(item, &items, api.as_deref());
                }
            }
            Some(other) => {
                let message = format!("a list of objects is expected, not {}", other.what());
                self.all.refuse(Problem::new(other.at, message).field("items"));
            }
        }
    }

    fn item(&mut self, mut item: Tree, of: &str, api: Option<&str>) {
        let at = item.at;
        if item.as_map().is_none() {
            let message = format!("{} in a list of objects", item.what());
            return self.all.refuse(Problem::new(at, message).field("items"));
        }
        let kind = scalar(&item, "kind");
        if kind.as_deref().is_some_and(|kind| kind.ends_with("List")) {
            let problem = Problem::new(at, "a list within a list, which kubectl refuses, too");
            return self.all.refuse(problem.field("items"));
        }
        // `kubectl get --raw` names the kind of a typed list at the list alone.
        if kind.is_none() && !of.is_empty() {
            item.set("kind", at, Tree::scalar(at, of));
            if let (None, Some(api)) = (scalar(&item, "apiVersion"), api) {
                item.set("apiVersion", at, Tree::scalar(at, api));
            }
        }
        self.object(item, Some(of));
    }

    fn object(&mut self, mut tree: Tree, _of: Option<&str>) {
        let at = tree.at;
        let Some(kind) = scalar(&tree, "kind") else {
            let problem = Problem::new(at, "`kind` is missing, so it is no object of Kubernetes");
            let is = |key| tree.entry(key).is_some();
            return self.all.refuse(match () {
                () if is("services") => {
                    problem.hint("It looks like a file of Compose: publish it by itself.")
                }
                () if is("image") || is("wasm") => {
                    problem.hint("It looks like a manifest of shoal: publish it by itself.")
                }
                () => problem.hint("Every object begins with `apiVersion` and `kind`."),
            });
        };
        let kind_at = tree.entry("kind").map_or(at, |it| it.at);
        let Some(known) = table::kind(&kind) else {
            let hint = did_you_mean(&kind, table::KINDS.iter().map(|it| it.name));
            let read = table::KINDS.iter().filter(|it| matches!(it.fate, Fate::Read));
            let known: Vec<&str> = read.map(|it| it.name).collect();
            let hint = hint.unwrap_or_else(|| format!("Known are {}.", known.join(", ")));
            let problem = Problem::new(kind_at, format!("`{kind}` is no kind that shoal knows"));
            return self.all.refuse(problem.field("kind").hint(hint));
        };
        let Some(api) = scalar(&tree, "apiVersion") else {
            let problem = Problem::new(at, format!("`apiVersion` of the {kind} is missing"));
            return self
                .all
                .refuse(problem.hint(format!("Write `{}`.", known.apis.join("` or `"))));
        };
        if !known.apis.contains(&api.as_str()) {
            let api_at = tree.entry("apiVersion").map_or(at, |it| it.at);
            let problem = Problem::new(api_at, format!("`{api}` has no {kind} that shoal knows"));
            let problem = problem.field("apiVersion");
            let hint = format!("Write `{}`; its fields may differ.", known.apis.join("` or `"));
            return self.all.refuse(problem.hint(hint));
        }
        let status = tree.remove("status");
        let mut found = Judged::default();
        let root = Part::of(&tree);
        let metadata = root.get("metadata");
        let name = metadata.get("name");
        let (name_at, named) = (name.at, name.text(&mut found));
        let namespace = metadata.get("namespace");
        let in_namespace = match namespace.text(&mut found) {
            Some(text) if known.is_namespaced => match text.parse::<Label>() {
                Ok(label) => label,
                Err(error) => {
                    found.refuse(namespace.wrong(error.to_string()));
                    return self.all.problems.extend(found.problems);
                }
            },
            _ => self.namespace.clone(),
        };
        let Some(name) = named else {
            if found.problems.is_empty() {
                let problem = Problem::new(at, format!("the {kind} has no name"));
                let problem = problem.field("metadata.name");
                found.refuse(match metadata.get("generateName").is_there() {
                    true => problem.hint("`generateName` makes a new object each time: name it."),
                    false => problem,
                });
            }
            return self.all.problems.extend(found.problems);
        };
        let key = (known.name, in_namespace.clone(), name.clone());
        let shown = format!("{}/{name}", known.name);
        if let Some(first) = self.seen.get(&key) {
            let line = first.line;
            let message = match first.file == at.file {
                true => format!("stands here twice, first in line {line}"),
                false => format!("stands in two files, also in line {line} of another one"),
            };
            return self.all.refuse(Problem::new(name_at, message).field(shown));
        }
        self.seen.insert(key, at);
        let hook = match hook(&tree) {
            Some((at, Err(text))) => {
                return self.all.notes.push(Note {
                    at,
                    field: shown,
                    verdict: Verdict::Degraded,
                    text,
                });
            }
            Some((_, Ok(hook))) => Some(hook),
            None => None,
        };
        let owner = served::owner(&tree);
        match known.fate {
            Fate::Read if name == CERTIFICATES && known.name == "ConfigMap" => {
                let text = "left out: each namespace of a cluster has it";
                return self.all.degrade(kind_at, shown, text);
            }
            Fate::Read => {}
            // Known once all objects are read.
            Fate::Refused(why, mend) if owner.is_some() => {
                let problem = Problem::new(kind_at, why).field(shown);
                return self.owned.push((problem.hint(mend), in_namespace, owner));
            }
            Fate::LeftOut(why) => {
                let text = format!("left out: {why}");
                return self.all.degrade(kind_at, shown, text);
            }
            Fate::Refused(why, mend) => {
                let problem = Problem::new(kind_at, why).field(shown);
                return self.all.refuse(problem.hint(mend));
            }
        }
        without_words_of_tools(&mut tree);
        let is_served = served::is_served(status.as_ref());
        served::without_additions(known, &mut tree, is_served, &mut found);
        known.table().judge(&tree, "", &mut found);
        if let Some(note) = found.notes.iter_mut().find(|it| it.field == "kind") {
            note.text = known.becomes.to_owned();
        }
        let namespace = in_namespace;
        let owner = owner.filter(|_| is_served);
        let object = Object { kind: known.name, at, name, name_at, namespace, tree, hook, owner };
        object.tell(found, self.all);
        self.objects.push(object);
    }
}

fn scalar(tree: &Tree, key: &str) -> Option<String> {
    tree.get(key).and_then(Tree::as_scalar).map(|it| it.text.clone())
}

/// The phases of hooks that shoal runs: before all else, and after it.
pub(super) const BEFORE: &str = "pre-install";
pub(super) const AFTER: &str = "post-install";

/// The phases of a hook of Helm, and its weight.
type Phases = (Vec<String>, i64);

/// The phases of a hook of Helm and its weight, or why it never runs; none for no hook.
fn hook(tree: &Tree) -> Option<(Position, Result<Phases, String>)> {
    let annotations = tree.at_path(&["metadata", "annotations"])?;
    let entry = annotations.entry("helm.sh/hook")?;
    let text = &entry.value.as_scalar()?.text;
    let phases: Vec<String> = text.split(',').map(|it| it.trim().to_owned()).collect();
    let weight = scalar(annotations, "helm.sh/hook-weight").and_then(|it| it.parse().ok());
    if phases.iter().any(|it| [BEFORE, AFTER, "crd-install"].contains(&it.as_str())) {
        return Some((entry.at, Ok((phases, weight.unwrap_or(0)))));
    }
    let why = format!(
        "left out: a hook of Helm for {}; shoal runs those of {BEFORE} and {AFTER}",
        phases.join(", ")
    );
    Some((entry.at, Err(why)))
}

/// Annotations by which tools speak to themselves.
const OF_TOOLS: [&str; 9] = [
    "helm.sh/",
    "meta.helm.sh/",
    "kubectl.kubernetes.io/",
    "deployment.kubernetes.io/",
    "app.kubernetes.io/",
    "checksum/",
    "kubernetes.io/",
    "artifacthub.io/",
    "rollme",
];

/// Leaves out annotations that say nothing to a cluster.
fn without_words_of_tools(tree: &mut Tree) {
    match &mut tree.value {
        Value::Scalar(_) => {}
        Value::List(items) => items.iter_mut().for_each(without_words_of_tools),
        Value::Map(entries) => {
            for entry in &mut *entries {
                match (entry.key.as_str(), &mut entry.value.value) {
                    ("annotations", Value::Map(all)) => {
                        all.retain(|it| !OF_TOOLS.iter().any(|of| it.key.starts_with(of)))
                    }
                    _ => without_words_of_tools(&mut entry.value),
                }
            }
            entries.retain(|it| it.key != "annotations" || it.value.as_map() != Some(&[]));
        }
    }
}
