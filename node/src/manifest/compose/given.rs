//! The configs and secrets of a project.

use shoal_protocol::model::Label;
use shoal_protocol::model::spec::{ValueKind, ValueUse};

use super::super::bundle::Given;
use super::super::tree::{Entry, Problem, Scalar, Tree};
use super::super::verdict::Judged;
use super::reading::Files;
use super::service::Service;
use super::{label_of, values};
use crate::publish::given as options;

const KINDS: [(ValueKind, &str); 2] =
    [(ValueKind::Secret, "secrets"), (ValueKind::Config, "configs")];

/// The values that a service gets.
pub(super) fn uses(service: &mut Service<'_>) -> Vec<ValueUse> {
    let mut all = Vec::new();
    for (kind, section) in KINDS {
        let items = service.find(section).and_then(Tree::as_list).unwrap_or_default();
        for (index, item) in items.iter().enumerate() {
            match one(service, kind, section, item) {
                Ok(given) => all.push(given),
                Err(why) => service.refuse(item.at, &format!("{section}[{index}]"), why),
            }
        }
    }
    all
}

fn one(
    service: &Service<'_>,
    kind: ValueKind,
    section: &str,
    item: &Tree,
) -> Result<ValueUse, String> {
    let text = |name: &str| item.get(name).filter(|it| !it.is_null()).map(values::text).transpose();
    let source = match item.as_text() {
        Some(source) => source.to_owned(),
        None => text("source")?.ok_or("`source` is missing")?,
    };
    let declared = service.shared.tree.at_path(&[section, &source]);
    let declared = declared.ok_or_else(|| {
        format!("`{source}` is not declared: write `{section}: {{ {source}: {{ file: .. }} }}`")
    })?;
    let target = text("target")?.unwrap_or_else(|| source.clone());
    let mode = match item.get("mode").and_then(Tree::as_scalar) {
        Some(scalar) => octal(scalar)?,
        None => "0444".to_owned(),
    };
    if let Some(bad) = [&source, &target].into_iter().find(|it| it.contains([',', '='])) {
        return Err(format!("`{bad}`: no comma and no `=` are expected"));
    }
    let name = name_of(&source, declared);
    let mut option = format!("source={name},target={target},mode={mode}");
    for id in ["uid", "gid"] {
        if let Some(value) = text(id)? {
            option.push_str(&format!(",{id}={value}"));
        }
    }
    match kind {
        ValueKind::Secret => options::secret(&option),
        ValueKind::Config => options::config(&option),
    }
}

/// Permissions in octal digits. A plain `440` is the decimal number for Compose.
fn octal(scalar: &Scalar) -> Result<String, String> {
    let text = &scalar.text;
    if scalar.is_plain && !text.starts_with('0') {
        return Err(format!("`{text}` is a decimal number for Compose: write 0{text}, in octal"));
    }
    Ok(text.clone())
}

/// The name of a value in the namespace.
fn name_of(key: &str, declared: &Tree) -> String {
    label_of(declared.get("name").and_then(Tree::as_text).unwrap_or(key))
}

/// The values whose content the files hold, of those that a service gets.
pub(super) fn values(
    tree: &Tree,
    used: &[ValueUse],
    namespace: &Label,
    files: &mut Files,
    judged: &mut Judged,
) -> Vec<Given> {
    let mut all: Vec<Given> = Vec::new();
    for (kind, section) in KINDS {
        let entries = tree.get(section).and_then(Tree::as_map).unwrap_or_default();
        for entry in entries {
            let text = name_of(&entry.key, &entry.value);
            let Ok(name) = text.parse::<Label>() else {
                let why = format!("`{}` leaves no name", entry.key);
                judged
                    .refuse(Problem::new(entry.at, why).field(format!("{section}.{}", entry.key)));
                continue;
            };
            if !used.iter().any(|it| it.kind == kind && it.name == name) {
                continue;
            }
            let twice = all.iter().any(|it| it.kind == kind && it.name == name);
            let content = match twice {
                true => Err(format!("two of them are called `{name}` here")),
                false => content(kind, section, entry, files),
            };
            match content {
                Ok(Some(content)) => {
                    let namespace = namespace.clone();
                    all.push(Given { kind, namespace, name, content, at: entry.at });
                }
                Ok(None) => {}
                Err(why) => {
                    let field = format!("{section}.{}", entry.key);
                    judged.refuse(Problem::new(entry.at, why).field(field));
                }
            }
        }
    }
    for (name, (path, at)) in std::mem::take(&mut files.mounted) {
        let content = match name.parse::<Label>() {
            Ok(name) if all.iter().any(|it| it.kind == ValueKind::Config && it.name == name) => {
                Err(format!("there is a config `{name}`, and this file is called so, too"))
            }
            Ok(name) => files.open(&path).map(|content| (name, content)),
            Err(_) => Err(format!("`{}` leaves no name", path.display())),
        };
        match content {
            Ok((name, content)) => {
                let (kind, namespace) = (ValueKind::Config, namespace.clone());
                all.push(Given { kind, namespace, name, content, at });
            }
            Err(why) => judged.refuse(Problem::new(at, why).field("volumes")),
        }
    }
    all
}

fn content(
    kind: ValueKind,
    section: &str,
    entry: &Entry,
    files: &mut Files,
) -> Result<Option<Vec<u8>>, String> {
    let tree = &entry.value;
    let is_there = |name: &&str| tree.get(name).is_some_and(|it| !it.is_null());
    let is_external = match tree.get("external").filter(|it| !it.is_null()) {
        // An old form names it there.
        Some(it) if it.as_map().is_some() => {
            return Err("`external: true` is expected, with `name` beside it".into());
        }
        Some(it) => values::boolean(it)?,
        None => false,
    };
    let sources: Vec<&str> =
        ["file", "content", "environment"].into_iter().filter(is_there).collect();
    let text = |name: &str| tree.get(name).map_or(Ok(String::new()), values::text);
    match (sources.as_slice(), is_external) {
        ([], true) => Ok(None),
        (["file"], false) => {
            let at = tree.get("file").map_or(tree.at, |it| it.at);
            let path = files.path(at, &text("file")?);
            files.open(&path).map(Some)
        }
        (["content"], false) if kind == ValueKind::Secret => {
            Err("a secret has no `content` in Compose; write `file` or `environment`".into())
        }
        (["content"], false) => Ok(Some(text("content")?.into_bytes())),
        (["environment"], false) => {
            let name = text("environment")?;
            let value = files.shell.get(&name).cloned();
            let why = || format!("the variable {name} is not set in the shell");
            value.map(|it| Some(it.into_bytes())).ok_or_else(why)
        }
        _ => {
            let more = if kind == ValueKind::Config { ", content" } else { "" };
            Err(format!("{section} have exactly one of file, environment{more} and external"))
        }
    }
}
