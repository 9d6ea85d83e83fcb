//! The fate of each field of a file of another tool. **One table of rows per format decides it
//! and makes the format's page**, so that the two cannot disagree: a field that no row names is
//! refused, and none is dropped without a word.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::tree::{Entry, Position, Problem, Tree, Value};
use crate::nearest::did_you_mean;

/// The fate of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It does what it does elsewhere.
    Honoured,
    /// It does less or nothing here, and only makes things worse in degree: people are told once.
    Degraded,
    /// It would change isolation, data, placement or the program, and is not there: the file is
    /// refused.
    Refused,
}

impl Verdict {
    /// The word that people see.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Honoured => "honoured",
            Verdict::Degraded => "degraded",
            Verdict::Refused => "refused",
        }
    }
}

/// A field of a format, by its path: `services.*.ports`, where `*` is any name or item. A row
/// without rows below it stands for all that the field has.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The path.
    pub path: &'static str,
    /// Its fate.
    pub verdict: Verdict,
    /// What it becomes, or why it does not count, and what to do instead.
    pub text: &'static str,
}

/// Makes rows of a table short to read.
pub const fn row(path: &'static str, verdict: Verdict, text: &'static str) -> Row {
    Row { path, verdict, text }
}

/// A word about a field of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// The place of the field.
    pub at: Position,
    /// The field, as in `services.web.ports`.
    pub field: String,
    /// Its fate.
    pub verdict: Verdict,
    /// What it becomes, or why it does not count.
    pub text: String,
}

/// The judgement of a file: notes for what counts or counts less, problems for what is refused.
#[derive(Clone, Default, Debug)]
pub struct Judged {
    /// A note for each field that is not refused.
    pub notes: Vec<Note>,
    /// All reasons to refuse the file.
    pub problems: Vec<Problem>,
}

impl Judged {
    /// A field that counts less, by its value.
    pub fn degrade(&mut self, at: Position, field: impl Into<String>, text: impl Into<String>) {
        let (field, text) = (field.into(), text.into());
        self.notes.retain(|note| note.at != at || note.field != field);
        self.notes.push(Note { at, field, verdict: Verdict::Degraded, text });
    }

    /// A field that is refused, by its value.
    pub fn refuse(&mut self, problem: Problem) {
        self.problems.push(problem);
    }
}

/// Judges every field below `tree`, whose own path is `path` (empty for a whole file).
pub fn judge(table: &[Row], tree: &Tree, path: &str, judged: &mut Judged) {
    Table::new().with("", table).judge(tree, path, judged);
}

/// The rows of a format by their paths: a field is found in as many steps as its path has parts,
/// however many rows there are.
#[derive(Clone, Debug)]
pub struct Table {
    /// The first one stands for the whole file.
    nodes: Vec<Node>,
    /// A field that is refused may be there without content: templates write `{}` and `[]`.
    takes_empty: bool,
}

#[derive(Clone, Default, Debug)]
struct Node {
    row: Option<Row>,
    names: BTreeMap<String, usize>,
    /// The node of any name or item.
    any: Option<usize>,
}

impl Default for Table {
    fn default() -> Table {
        Table::new()
    }
}

impl Table {
    /// A table without rows.
    pub fn new() -> Table {
        Table { nodes: vec![Node::default()], takes_empty: false }
    }

    /// The same for a format in which a mapping or list without content means that the field is
    /// not there.
    pub fn takes_empty(self) -> Table {
        Table { takes_empty: true, ..self }
    }

    /// The same with these rows below the path `prefix`. Of two rows of one path the first counts.
    pub fn with(mut self, prefix: &str, rows: &[Row]) -> Table {
        for row in rows {
            let parts = prefix.split('.').chain(row.path.split('.')).filter(|it| !it.is_empty());
            let mut at = 0;
            for part in parts {
                at = self.below(at, part);
            }
            self.nodes[at].row.get_or_insert(*row);
        }
        self
    }

    fn below(&mut self, at: usize, part: &str) -> usize {
        let node = &self.nodes[at];
        let known = if part == "*" { node.any } else { node.names.get(part).copied() };
        if let Some(known) = known {
            return known;
        }
        let new = self.nodes.len();
        self.nodes.push(Node::default());
        match part {
            "*" => self.nodes[at].any = Some(new),
            name => _ = self.nodes[at].names.insert(name.to_owned(), new),
        }
        new
    }

    /// Judges every field below `tree`, whose own path is `path` (empty for a whole file).
    pub fn judge(&self, tree: &Tree, path: &str, judged: &mut Judged) {
        let parts = path.split('.').filter(|it| !it.is_empty());
        let at = parts.fold(vec![0], |at, part| self.step(&at, Some(part)));
        self.walk(tree, &at, path, judged);
    }

    /// The nodes below these for a field of this name, or for an item of a list. One with the name
    /// comes before one for any name.
    fn step(&self, at: &[usize], name: Option<&str>) -> Vec<usize> {
        let named = at.iter().filter_map(|at| self.nodes[*at].names.get(name?).copied());
        named.chain(at.iter().filter_map(|at| self.nodes[*at].any)).collect()
    }

    fn walk(&self, tree: &Tree, at: &[usize], shown: &str, judged: &mut Judged) {
        match &tree.value {
            Value::Map(entries) => {
                for entry in entries {
                    self.walk_entry(entry, at, shown, judged);
                }
            }
            Value::List(items) => {
                let below = self.step(at, None);
                for (index, item) in items.iter().enumerate() {
                    self.walk(item, &below, &format!("{shown}[{index}]"), judged);
                }
            }
            Value::Scalar(_) => {}
        }
    }

    fn walk_entry(&self, entry: &Entry, at: &[usize], shown: &str, judged: &mut Judged) {
        let name = match shown {
            "" => entry.key.clone(),
            _ => format!("{shown}.{}", entry.key),
        };
        let below = self.step(at, Some(&entry.key));
        let row = below.iter().find_map(|at| self.nodes[*at].row);
        match row {
            Some(Row { verdict: Verdict::Refused, .. })
                if self.takes_empty && is_empty(&entry.value) =>
            {
                return;
            }
            Some(Row { verdict: Verdict::Refused, text, .. }) => {
                judged.refuse(Problem::new(entry.at, text).field(name));
                return;
            }
            Some(Row { verdict, text, .. }) => {
                judged.notes.push(Note {
                    at: entry.at,
                    field: name.clone(),
                    verdict,
                    text: text.to_owned(),
                });
            }
            None => {}
        }
        let has_below = |at: &usize| {
            let Node { names, any, .. } = &self.nodes[*at];
            !names.is_empty() || any.is_some()
        };
        match below.iter().any(has_below) {
            true => self.walk(&entry.value, &below, &name, judged),
            false if row.is_none() => {
                let known: BTreeSet<&str> =
                    at.iter().flat_map(|at| self.nodes[*at].names.keys()).map(|it| &**it).collect();
                let problem = Problem::new(entry.at, "there is no such field").field(name);
                judged.refuse(match did_you_mean(&entry.key, known.iter().copied()) {
                    Some(hint) => problem.hint(hint),
                    None => {
                        let known: Vec<&str> = known.into_iter().collect();
                        problem.hint(format!("Known are {}.", known.join(", ")))
                    }
                });
            }
            false => {}
        }
    }
}

/// The row of a field: one with its name comes before one for any name.
pub(super) fn find<'a>(table: &'a [Row], path: &[&str]) -> Option<&'a Row> {
    let is_it = |row: &&Row| {
        let parts = row.path.split('.');
        parts.clone().count() == path.len()
            && parts.zip(path).all(|(part, name)| part == "*" || part == *name)
    };
    let all = table.iter().filter(is_it);
    all.min_by_key(|row| row.path.split('.').filter(|part| *part == "*").count())
}

fn is_empty(tree: &Tree) -> bool {
    match &tree.value {
        Value::Map(entries) => entries.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Scalar(_) => tree.is_null(),
    }
}

/// The rows as a table of a page.
pub fn page(table: &[Row]) -> String {
    let mut text = "| field | verdict | here |\n| --- | --- | --- |\n".to_owned();
    for Row { path, verdict, text: note } in table {
        let note = note.replace('|', "\\|");
        let _ = writeln!(text, "| `{path}` | {} | {note} |", verdict.as_str());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tree::{FileId, read};
    use super::Verdict::{Degraded, Honoured, Refused};
    use super::*;

    const TABLE: &[Row] = &[
        row("services.*.image", Honoured, "`image`"),
        row("services.*.labels", Honoured, "labels of the container"),
        row("services.*.ports.*.target", Honoured, "`ports`"),
        row("services.*.logging", Degraded, "shoal keeps the logs itself"),
        row("services.*.build", Refused, "shoal builds no images"),
    ];

    fn judged(text: &str) -> Judged {
        let mut judged = Judged::default();
        judge(TABLE, &read(FileId(0), text).unwrap()[0], "", &mut judged);
        judged
    }

    #[test]
    fn every_field_has_a_verdict_and_none_is_dropped() {
        let text = "services:\n  web:\n    image: a\n    labels: { a: { b: c } }\n    \
            logging: { driver: x }\n    ports:\n      - target: 80\n        targt: 81\n    \
            build: .\n    imge: b\n";
        let judged = judged(text);
        let notes: Vec<_> = judged.notes.iter().map(|it| (it.field.as_str(), it.verdict)).collect();
        let expected = [
            ("services.web.image", Honoured),
            ("services.web.labels", Honoured),
            ("services.web.logging", Degraded),
            ("services.web.ports[0].target", Honoured),
        ];
        assert_eq!(notes, expected);
        let problems: Vec<String> =
            judged.problems.iter().map(|it| format!("{}:{it}", it.at.line)).collect();
        let expected = [
            "8:services.web.ports[0].targt: there is no such field",
            "9:services.web.build: shoal builds no images",
            "10:services.web.imge: there is no such field",
        ];
        assert_eq!(problems, expected);
        assert!(judged.problems[2].hint.as_deref().unwrap().contains("image"));
    }

    #[test]
    fn page_has_a_line_for_each_row() {
        assert_eq!(page(TABLE).lines().count(), 2 + TABLE.len());
    }
}
