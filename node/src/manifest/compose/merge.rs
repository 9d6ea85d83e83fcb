//! Lays one part of a Compose file over another: files, documents and `extends` alike.

use super::super::tree::{Entry, Scalar, Tag, Tree, Value};

/// Fields whose two forms, a list and a mapping, are merged by their names.
const BY_NAME: [&str; 9] = [
    "environment",
    "labels",
    "args",
    "sysctls",
    "annotations",
    "depends_on",
    "networks",
    "additional_contexts",
    "driver_opts",
];
/// Lists whose items are told apart by where they are in the container.
const BY_TARGET: [&str; 4] = ["volumes", "devices", "configs", "secrets"];
/// Fields that the later file replaces.
const REPLACED: [&str; 4] = ["command", "entrypoint", "test", "extends"];

/// Lists in which an item that stands there twice counts once.
const UNIQUE: [&str; 10] = [
    "cap_add",
    "cap_drop",
    "dns",
    "dns_opt",
    "dns_search",
    "expose",
    "links",
    "ports",
    "profiles",
    "tmpfs",
];

/// `over` laid over `base`. `path` is the path of both.
pub(super) fn merge(path: &[&str], base: Option<Tree>, over: Tree) -> Option<Tree> {
    let field = path.last().copied().unwrap_or_default();
    // No field below an `x-` field is one of Compose, whatever its name.
    let is_service =
        matches!(path, ["services", _, ..]) && !path.get(2).is_some_and(|it| it.starts_with("x-"));
    match over.tag {
        Some(Tag::Reset) => return None,
        Some(Tag::Override) => return Some(plain(path, over)),
        _ => {}
    }
    let over = if is_service && BY_NAME.contains(&field) { by_name(field, over) } else { over };
    let Some(base) = base else { return Some(plain(path, over)) };
    let is_variable = matches!(path, ["services", _, "environment", _]);
    if over.is_null() {
        let is_cleared = matches!(path, ["services", _, "command" | "entrypoint"]) || is_variable;
        return Some(if is_cleared { over } else { base });
    }
    if is_service && REPLACED.contains(&field) {
        return Some(over);
    }
    let base = if is_service && BY_NAME.contains(&field) { by_name(field, base) } else { base };
    let other_driver = field == "logging" && {
        let driver = |it: &Tree| it.get("driver").and_then(Tree::as_text).map(str::to_owned);
        driver(&over).is_some() && driver(&over) != driver(&base)
    };
    let Tree { at, tag, value } = over;
    let value = match (base.value, value) {
        (_, value @ Value::Map(_)) if other_driver => value,
        (Value::Map(entries), Value::Map(others)) => Value::Map(merged(path, entries, others)),
        (Value::List(items), Value::List(others)) => {
            let by_target = is_service && path.len() == 3 && BY_TARGET.contains(&field);
            Value::List(appended(items, others, by_target))
        }
        // A text stands for a list of one, as in `dns`.
        (Value::List(mut items), Value::Scalar(scalar)) if is_list(field) => {
            items.push(Tree { at, tag: None, value: Value::Scalar(scalar) });
            Value::List(items)
        }
        (Value::Scalar(scalar), Value::List(others)) if is_list(field) => {
            let first = Tree { at: base.at, tag: None, value: Value::Scalar(scalar) };
            Value::List(appended(vec![first], others, false))
        }
        (_, value) => value,
    };
    Some(Tree { at, tag, value })
}

fn is_list(field: &str) -> bool {
    matches!(field, "dns" | "dns_search" | "tmpfs" | "env_file" | "label_file")
}

fn merged(path: &[&str], mut entries: Vec<Entry>, others: Vec<Entry>) -> Vec<Entry> {
    for Entry { key, at, value } in others {
        let old = entries.iter().position(|it| it.key == key);
        let base = old.map(|at| entries[at].value.clone());
        let below = [path, &[key.as_str()]].concat();
        match (merge(&below, base, value), old) {
            (Some(value), Some(old)) => entries[old] = Entry { key, at, value },
            (Some(value), None) => entries.push(Entry { key, at, value }),
            (None, Some(old)) => drop(entries.remove(old)),
            (None, None) => {}
        }
    }
    entries
}

/// A part without the fields that `!reset` takes away, when there is nothing below it.
fn plain(path: &[&str], tree: Tree) -> Tree {
    let Tree { at, tag, value } = tree;
    let value = match value {
        Value::Map(entries) => Value::Map(merged(path, Vec::new(), entries)),
        Value::List(items) if matches!(path, ["services", _, it] if UNIQUE.contains(it)) => {
            Value::List(appended(Vec::new(), items, false))
        }
        value => value,
    };
    Tree { at, tag: tag.filter(|it| *it == Tag::Text), value }
}

fn appended(mut items: Vec<Tree>, others: Vec<Tree>, by_target: bool) -> Vec<Tree> {
    // Two mounts at one place in one list are left to the reader, which names them.
    let before = if by_target { items.len() } else { usize::MAX };
    for other in others {
        let is_same = |it: &Tree| match by_target {
            true => target(it).is_some() && target(it) == target(&other),
            false => same(it, &other),
        };
        match items.iter().take(before).position(is_same) {
            Some(at) => items[at] = other,
            None => items.push(other),
        }
    }
    items
}

/// Whether two parts say the same, wherever they stand.
fn same(a: &Tree, b: &Tree) -> bool {
    match (&a.value, &b.value) {
        (Value::Scalar(a), Value::Scalar(b)) => a.text == b.text,
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.iter().all(|a| b.iter().any(|b| a.key == b.key && same(&a.value, &b.value)))
        }
        _ => false,
    }
}

/// The place in the container of a volume, device, config or secret.
fn target(tree: &Tree) -> Option<String> {
    let text = match tree.as_text() {
        Some(text) => {
            let mut parts = text.split(':');
            let first = parts.next().unwrap_or_default();
            parts.next().unwrap_or(first).to_owned()
        }
        None => {
            let part = |name| tree.get(name).and_then(Tree::as_text);
            part("target").or_else(|| part("source"))?.to_owned()
        }
    };
    Some(text.trim_end_matches('/').to_owned())
}

/// A list of `NAME=VALUE` as a mapping.
pub(super) fn by_name(field: &str, tree: Tree) -> Tree {
    let Tree { at, tag, value } = tree;
    let Value::List(items) = value else { return Tree { at, tag, value } };
    // An item of another form is left to the reader, which names it.
    if items.iter().any(|it| it.as_text().is_none()) {
        return Tree { at, tag, value: Value::List(items) };
    }
    let mut entries: Vec<Entry> = Vec::new();
    for item in items {
        let text = item.as_text().unwrap_or_default();
        let (key, value) = match text.split_once('=') {
            _ if field == "depends_on" || field == "networks" => (text, None),
            Some((key, value)) => (key, Some(value)),
            None => (text, None),
        };
        let scalar = match value {
            Some(value) => Scalar::text(value),
            None => Scalar { text: String::new(), is_plain: true },
        };
        let value = Tree { at: item.at, tag: None, value: Value::Scalar(scalar) };
        let entry = Entry { key: key.to_owned(), at: item.at, value };
        match entries.iter_mut().find(|it| it.key == entry.key) {
            Some(old) => *old = entry,
            None => entries.push(entry),
        }
    }
    Tree { at, tag, value: Value::Map(entries) }
}
