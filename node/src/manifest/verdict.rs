//! What becomes of each field of a file of another tool. **One table of rows per format decides it
//! and makes the format's page**, so that the two cannot disagree: a field that no row names is
//! refused, and none is dropped without a word.

use std::fmt::Write as _;

use super::tree::{Entry, Position, Problem, Tree, Value};
use crate::nearest::did_you_mean;

/// What becomes of a field.
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
    /// What becomes of it.
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
    /// What becomes of it.
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
    let pattern: Vec<&str> = path.split('.').filter(|it| !it.is_empty()).collect();
    walk(table, tree, &pattern, path, judged);
}

fn walk(table: &[Row], tree: &Tree, pattern: &[&str], shown: &str, judged: &mut Judged) {
    match &tree.value {
        Value::Map(entries) => {
            for entry in entries {
                walk_entry(table, entry, pattern, shown, judged);
            }
        }
        Value::List(items) => {
            let below = [pattern, &["*"]].concat();
            for (index, item) in items.iter().enumerate() {
                walk(table, item, &below, &format!("{shown}[{index}]"), judged);
            }
        }
        Value::Scalar(_) => {}
    }
}

fn walk_entry(table: &[Row], entry: &Entry, pattern: &[&str], shown: &str, judged: &mut Judged) {
    let name = match shown {
        "" => entry.key.clone(),
        _ => format!("{shown}.{}", entry.key),
    };
    let below = [pattern, &[entry.key.as_str()]].concat();
    let row = find(table, &below);
    match row {
        Some(Row { verdict: Verdict::Refused, text, .. }) => {
            judged.refuse(Problem::new(entry.at, *text).field(name));
            return;
        }
        Some(Row { verdict, text, .. }) => {
            judged.notes.push(Note {
                at: entry.at,
                field: name.clone(),
                verdict: *verdict,
                text: (*text).to_owned(),
            });
        }
        None => {}
    }
    match has_below(table, &below) {
        true => walk(table, &entry.value, &below, &name, judged),
        false if row.is_none() => {
            let known = names_below(table, pattern);
            let problem = Problem::new(entry.at, "there is no such field").field(name);
            judged.refuse(match did_you_mean(&entry.key, known.iter().copied()) {
                Some(hint) => problem.hint(hint),
                None => problem.hint(format!("Known are {}.", known.join(", "))),
            });
        }
        false => {}
    }
}

fn matches(row: &Row, path: &[&str]) -> bool {
    let mut parts = row.path.split('.');
    path.iter().all(|name| parts.next().is_some_and(|part| part == "*" || part == *name))
        && parts.next().is_none()
}

/// The row of a field: one with its name comes before one for any name.
pub(super) fn find<'a>(table: &'a [Row], path: &[&str]) -> Option<&'a Row> {
    let all = table.iter().filter(|row| matches(row, path));
    all.min_by_key(|row| row.path.split('.').filter(|part| *part == "*").count())
}

fn is_prefix(row: &Row, path: &[&str]) -> bool {
    let mut parts = row.path.split('.');
    path.iter()
        .all(|name| parts.next().is_some_and(|part| part == "*" || *name == "*" || part == *name))
        && parts.next().is_some()
}

fn has_below(table: &[Row], path: &[&str]) -> bool {
    table.iter().any(|row| is_prefix(row, path))
}

/// The names of the fields that a mapping may have.
fn names_below<'a>(table: &'a [Row], path: &[&str]) -> Vec<&'a str> {
    let below = table.iter().filter(|row| is_prefix(row, path));
    let mut names: Vec<&str> =
        below.filter_map(|row| row.path.split('.').nth(path.len())).collect();
    names.retain(|name| *name != "*");
    names.sort_unstable();
    names.dedup();
    names
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
