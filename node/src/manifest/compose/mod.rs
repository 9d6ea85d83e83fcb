//! Compose files: what they say becomes workloads, and **every field gets a verdict**. The table in
//! `table` decides each field and makes the page; a value that its row does not cover is decided
//! where it is read.
//!
//! The way of a file: `project` reads, interpolates, extends, includes and merges it to one tree;
//! the table judges the tree; `service` makes a workload of each service, with the readers of the
//! options of `shoal run`. All reasons to refuse are told at once, and then nothing is returned.

mod after;
mod deploy;
mod env_file;
mod extends;
mod extra;
mod given;
mod hooks;
mod include;
mod interpolate;
mod merge;
mod merged;
mod own_names;
mod ports;
mod project;
mod reading;
mod schema;
mod service;
mod table;
mod values;
mod volumes;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use shoal_protocol::model::Label;

use super::bundle::{Bundle, Item, Refusal};
use super::tree::{Entry, Problem, Tree, Value};
use super::verdict::{self, Judged, Verdict};
#[doc(hidden)]
pub use merged::merged;
use project::{Project, read_project};
pub use reading::files_in;
use service::{Service, Shared};

/// Services of one project: more than people write, and few enough to compare each with all.
const MAX_SERVICES: usize = 1_000;

/// The files of a project, and what decides how they are read.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The files, each laid over those before it; `-` is standard input. The folder of the first is
    /// that of the project.
    pub files: Vec<PathBuf>,
    /// The text of standard input.
    pub stdin: Option<String>,
    /// The variables of the shell.
    pub env: &'a BTreeMap<String, String>,
    /// Files of variables instead of the project's `.env`.
    pub env_files: Vec<PathBuf>,
    /// The profiles that are switched on, besides those of `COMPOSE_PROFILES`; `*` is all.
    pub profiles: Vec<String>,
    /// The name of the project; the file's or the folder's without it.
    pub project: Option<String>,
}

/// Reads the files of a project.
///
/// # Errors
/// Every reason for which the files are refused.
pub fn load(request: Request<'_>) -> Result<Bundle, Refusal> {
    let Project { name, mut tree, off, mut files, mut judged, is_whole } = read_project(&request);
    if !is_whole {
        let Judged { mut notes, mut problems } = judged;
        notes.sort_by_key(|it| it.at);
        problems.sort_by_key(|it| it.at);
        problems.dedup();
        return Err(Refusal { problems, notes, sources: files.sources });
    }
    let services = tree.get("services").and_then(Tree::as_map).unwrap_or_default().len();
    if services > MAX_SERVICES {
        let why = format!("{services} services, at most {MAX_SERVICES} are allowed");
        let problem = Problem::new(tree.at, why).field("services");
        return Err(Refusal::one(problem, files.sources));
    }
    take_extensions(&mut tree, &mut Vec::new());
    take_neutral(&mut tree, &mut Vec::new());
    verdict::judge(table::TABLE, &tree, "", &mut judged);
    let mut renamed = Vec::new();
    let namespace = namespace(&name, &mut renamed, &tree, &mut judged);
    let empty = Tree::empty_map(tree.at);
    let services = tree.get("services").unwrap_or(&empty);
    if services.as_map().is_none() {
        let why = format!("a mapping of services is expected, found {}", services.what());
        judged.refuse(Problem::new(services.at, why).field("services"));
    } else if tree.get("services").is_none() && judged.problems.is_empty() {
        judged.refuse(Problem::new(tree.at, "there are no services").field("services"));
    }
    let names = names(services, &mut renamed, &mut judged);
    let awaited = after::ends(services, &mut judged);
    check_networks(&tree, services, &mut judged);
    let volumes = users(services);
    let is_read_only = is_read_only(&tree, &mut judged);
    let shared = Shared { tree: &tree, namespace, names, off, awaited, is_read_only, volumes };
    let mut workloads = Vec::new();
    for Entry { key, at, value } in services.as_map().unwrap_or_default() {
        if value.as_map().is_none() {
            let why = format!("a mapping is expected, found {}", value.what());
            judged.refuse(Problem::new(*at, why).field(format!("services.{key}")));
            continue;
        }
        let (judged, files) = (&mut judged, &mut files);
        let service = Service { name: key, at: *at, tree: value, shared: &shared, judged, files };
        workloads.extend(service.workload().map(|workload| Item { workload, at: *at }));
    }
    let used: Vec<_> = workloads.iter().flat_map(|it| it.workload.values().to_vec()).collect();
    let values = given::values(&tree, &used, &shared.namespace, &mut files, &mut judged);
    let Judged { mut notes, mut problems } = judged;
    notes.sort_by_key(|it| it.at);
    if !problems.is_empty() {
        problems.sort_by_key(|it| it.at);
        problems.dedup();
        return Err(Refusal { problems, notes, sources: files.sources });
    }
    Ok(Bundle { workloads, values, notes, renamed, sources: files.sources })
}

/// The DNS label that is nearest to a name.
fn label_of(name: &str) -> String {
    let lower = name.to_lowercase();
    let label: String =
        lower.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(63).collect();
    label.trim_matches('-').to_owned()
}

fn namespace(
    name: &str,
    renamed: &mut Vec<(String, String)>,
    tree: &Tree,
    judged: &mut Judged,
) -> Label {
    let label = label_of(name);
    if label != name {
        renamed.push((name.to_owned(), label.clone()));
    }
    label.parse().unwrap_or_else(|_| {
        // A project without a name was refused already.
        if !name.is_empty() {
            let why = format!("`{name}` leaves no name of a namespace");
            judged.refuse(Problem::new(tree.at, why).field("name"));
        }
        Label::default()
    })
}

/// The name of each service as a workload has it.
fn names(
    services: &Tree,
    renamed: &mut Vec<(String, String)>,
    judged: &mut Judged,
) -> BTreeMap<String, Label> {
    let mut names: BTreeMap<String, Label> = BTreeMap::new();
    for entry in services.as_map().unwrap_or_default() {
        let field = format!("services.{}", entry.key);
        let is_legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let Some(label) =
            label_of(&entry.key).parse::<Label>().ok().filter(|_| entry.key.chars().all(is_legal))
        else {
            let why = "a name has letters, digits, `.`, `_` and `-`";
            judged.refuse(Problem::new(entry.at, why).field(field));
            continue;
        };
        if let Some((other, _)) = names.iter().find(|(_, it)| **it == label) {
            let why = format!("it is called `{label}` here, and so is `{other}`: rename one");
            judged.refuse(Problem::new(entry.at, why).field(field));
            continue;
        }
        if label.as_str() != entry.key {
            renamed.push((entry.key.clone(), label.as_str().to_owned()));
        }
        names.insert(entry.key.clone(), label);
    }
    names
}

/// Whether the file says that its relative paths are only read.
fn is_read_only(tree: &Tree, judged: &mut Judged) -> bool {
    let Some(tree) = tree.at_path(&["x-shoal", "files"]) else { return false };
    if tree.as_text() != Some("read-only") {
        judged.refuse(Problem::new(tree.at, "`read-only` is expected").field("x-shoal.files"));
    }
    true
}

/// The services that use each named volume.
fn users(services: &Tree) -> BTreeMap<String, BTreeSet<String>> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in services.as_map().unwrap_or_default() {
        for item in entry.value.get("volumes").and_then(Tree::as_list).unwrap_or_default() {
            let part = |name: &str| item.get(name).and_then(Tree::as_text);
            let source = match item.as_text().map(volumes::parts) {
                Some(Ok(it)) => (it.kind == "volume").then_some(it.source),
                Some(Err(_)) => None,
                None => part("source").filter(|_| part("type") == Some("volume")),
            };
            if let Some(source) = source.filter(|it| !it.is_empty()) {
                all.entry(source.to_owned()).or_default().insert(entry.key.clone());
            }
        }
    }
    all
}

/// Refuses networks that keep services from one another, which is isolation that shoal lacks.
fn check_networks(tree: &Tree, services: &Tree, judged: &mut Judged) {
    for entry in tree.get("networks").and_then(Tree::as_map).unwrap_or_default() {
        let driver = entry.value.entry("driver").filter(|it| !it.value.is_null());
        let text = driver.and_then(|it| it.value.as_text()).unwrap_or("bridge");
        if !matches!(text, "bridge" | "overlay" | "default" | "") {
            let at = driver.map_or(entry.at, |it| it.at);
            let why = format!(
                "`{text}` is none of bridge and overlay; for the device's own network \
                 write `network_mode: host`"
            );
            judged.refuse(Problem::new(at, why).field(format!("networks.{}.driver", entry.key)));
        }
    }
    let mut all: Vec<(&Entry, BTreeSet<String>)> = Vec::new();
    for service in services.as_map().unwrap_or_default() {
        if service.value.get("network_mode").is_some_and(|it| !it.is_null()) {
            continue;
        }
        let mut hold = None;
        let networks = service.value.get("networks").filter(|it| !it.is_null());
        let Some(networks) = networks else {
            all.push((service, ["default".to_owned()].into()));
            continue;
        };
        let entries = project::named("networks", networks, &mut hold).as_map().unwrap_or_default();
        for network in entries {
            let field = format!("services.{}.networks.{}", service.key, network.key);
            let is_known =
                network.key == "default" || tree.at_path(&["networks", &network.key]).is_some();
            if !is_known {
                let why = format!("the network `{}` is not declared", network.key);
                judged.refuse(Problem::new(network.at, why).field(&field));
            }
        }
        all.push((service, entries.iter().map(|it| it.key.clone()).collect()));
    }
    let is_open = tree.at_path(&["x-shoal", "networks"]).and_then(Tree::as_text) == Some("open");
    let apart = all.iter().enumerate().find_map(|(at, (one, nets))| {
        let (other, _) = all[..at].iter().find(|(_, others)| nets.is_disjoint(others))?;
        Some((*one, *other))
    });
    if let Some((one, other)) = apart {
        let at = one.value.entry("networks").map_or(one.at, |it| it.at);
        let field = format!("services.{}.networks", one.key);
        let why = format!(
            "it shares no network with `{}`, and here each could reach the other",
            other.key
        );
        if is_open {
            judged.degrade(at, field, why);
        } else {
            let hint = "If they may, write at the top of the file:  x-shoal: { networks: open }";
            judged.refuse(Problem::new(at, why).field(field).hint(hint));
        }
    }
}

/// Mappings whose names are those of people, so that `x-..` is one of them.
const NAMES_OF_PEOPLE: [&str; 9] = [
    "environment",
    "labels",
    "annotations",
    "sysctls",
    "args",
    "options",
    "driver_opts",
    "ulimits",
    "extra_hosts",
];

/// Takes out the extensions that nobody reads.
fn take_extensions(tree: &mut Tree, path: &mut Vec<String>) {
    let is_section = path.len() == 1 && path[0] != "x-shoal";
    match &mut tree.value {
        Value::Map(entries) => {
            let is_ours = |key: &str| key == "x-shoal" && matches!(path.len(), 0 | 2);
            entries.retain(|it| is_section || !it.key.starts_with("x-") || is_ours(&it.key));
            for Entry { key, value, .. } in entries {
                if key == "x-shoal" || NAMES_OF_PEOPLE.contains(&key.as_str()) {
                    continue;
                }
                path.push(key.clone());
                take_extensions(value, path);
                path.pop();
            }
        }
        Value::List(items) => {
            path.push("*".into());
            items.iter_mut().for_each(|item| take_extensions(item, path));
            path.pop();
        }
        Value::Scalar(_) => {}
    }
}

/// Takes out fields that would be refused and that say nothing: empty ones, and what is switched
/// off.
fn take_neutral(tree: &mut Tree, path: &mut Vec<String>) {
    match &mut tree.value {
        Value::Map(entries) => {
            entries.retain(|it| {
                let mut below: Vec<&str> = path.iter().map(String::as_str).collect();
                below.push(&it.key);
                let row = verdict::find(table::TABLE, &below);
                let is_refused = row.is_some_and(|row| row.verdict == Verdict::Refused);
                !(is_refused && is_neutral(&it.value))
            });
            for Entry { key, value, .. } in entries {
                path.push(key.clone());
                take_neutral(value, path);
                path.pop();
            }
        }
        Value::List(items) => {
            path.push("*".into());
            items.iter_mut().for_each(|item| take_neutral(item, path));
            path.pop();
        }
        Value::Scalar(_) => {}
    }
}

fn is_neutral(tree: &Tree) -> bool {
    match &tree.value {
        Value::Scalar(scalar) => tree.is_null() || scalar.text.is_empty() || scalar.text == "false",
        Value::List(items) => items.is_empty(),
        Value::Map(entries) => entries.is_empty(),
    }
}
