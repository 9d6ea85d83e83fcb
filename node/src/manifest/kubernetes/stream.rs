//! Texts as kubectl divides them into documents: at each line that begins with `---`, and between
//! objects of JSON. Each document is read by itself, so that a broken one does not hide the others.

use super::super::tree::{FileId, Position, Problem, Tree, Value, read};
use super::scalar::{Plain, plain};

/// Bytes of one file: several times a large chart.
const MAX_TEXT: usize = 16 << 20;
/// Texts under which a field has texts with names: null in them is an empty text.
const OF_TEXTS: [&str; 8] = [
    "data",
    "stringData",
    "binaryData",
    "labels",
    "annotations",
    "nodeSelector",
    "matchLabels",
    "selector",
];
/// Fields of `metadata` that a cluster writes, and that mean nothing in a file.
const OF_A_CLUSTER: [&str; 8] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "managedFields",
    "generation",
    "selfLink",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
];

/// The documents of a text, and what is wrong with the others.
pub(super) fn documents(file: FileId, text: &str) -> (Vec<Tree>, Vec<Problem>) {
    let (mut trees, mut problems) = (Vec::new(), Vec::new());
    let at = |line: usize| Position { file, line: number(line), column: 1 };
    if text.len() > MAX_TEXT {
        let message = format!("the file is larger than {} MiB", MAX_TEXT >> 20);
        return (trees, vec![Problem::new(Position { file, ..Position::default() }, message)]);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for Chunk { line, text, wrong } in chunks(text) {
        if let Some(wrong) = wrong {
            problems.push(Problem::new(at(line - 1), wrong.0).hint(wrong.1));
        }
        let lines: Vec<&str> = text.lines().collect();
        if let Some(end) = lines.iter().position(|it| it.trim_end() == "...") {
            let more = |it: &&str| !it.trim().is_empty() && !it.trim_start().starts_with('#');
            if let Some(next) = lines[end + 1..].iter().position(more) {
                let message = "what follows `...` is dropped by kubectl, without a word";
                let problem = Problem::new(at(line + end + 1 + next), message);
                problems.push(problem.hint("Write `---` before the next document."));
                continue;
            }
        }
        for (skipped, part) in objects_of_json(text) {
            match read(file, part) {
                Ok(read) => trees.extend(read.into_iter().map(|mut tree| {
                    let lines: Vec<&str> = part.lines().collect();
                    tidy(&mut tree, &lines, "", 0);
                    shift(&mut tree, number(line + skipped - 1));
                    tree
                })),
                Err(mut problem) => {
                    shift_one(&mut problem.at, number(line + skipped - 1));
                    problems.push(problem);
                }
            }
        }
    }
    (trees, problems)
}

fn number(line: usize) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

/// A part of a text, from the line `line` on, counted from 1.
struct Chunk<'a> {
    line: usize,
    text: &'a str,
    /// The fault of the line that divides it from what is before it, and the mend.
    wrong: Option<(String, &'static str)>,
}

fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let (mut start, mut first, mut wrong) = (0, 1, None);
    let mut offset = 0;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        if let Some(rest) = line.strip_prefix("---") {
            let rest = rest.trim();
            chunks.push(Chunk {
                line: first,
                text: part(text, start, offset),
                wrong: wrong.take(),
            });
            (start, first) = (offset + line.len(), index + 2);
            if !rest.is_empty() && !rest.starts_with('#') {
                let shown: String = line.trim_end().chars().take(40).collect();
                let message = format!("`{shown}` is no division: kubectl drops what follows `---`");
                wrong = Some((message, "Write it in the next line."));
            }
        }
        offset += line.len();
    }
    chunks.push(Chunk { line: first, text: part(text, start, text.len()), wrong });
    chunks
}

/// A part of a text between two of its own boundaries.
fn part(text: &str, from: usize, to: usize) -> &str {
    text.get(from..to).unwrap_or_default()
}

/// The objects of a text in JSON, each with the number of lines before it; any other text is one.
fn objects_of_json(text: &str) -> Vec<(usize, &str)> {
    let whole = vec![(0, text)];
    if !text.trim_start().starts_with('{') {
        return whole;
    }
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0usize);
    let (mut in_text, mut escaped) = (false, false);
    let mut lines = 0;
    let mut lines_before = 0;
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            b'\n' => lines += 1,
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => {
                if depth == 0 && !part(text, start, index).trim().is_empty() {
                    parts.push((lines_before, part(text, start, index)));
                    (lines_before, start) = (lines, index);
                }
                depth += 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    // Not JSON after all: one mapping in braces, as YAML has it.
    if depth != 0 || in_text {
        return whole;
    }
    parts.push((lines_before, part(text, start, text.len())));
    parts
}

fn shift(tree: &mut Tree, by: u32) {
    if by == 0 {
        return;
    }
    shift_one(&mut tree.at, by);
    match &mut tree.value {
        Value::Scalar(_) => {}
        Value::List(items) => items.iter_mut().for_each(|it| shift(it, by)),
        Value::Map(entries) => entries.iter_mut().for_each(|it| {
            shift_one(&mut it.at, by);
            shift(&mut it.value, by);
        }),
    }
}

fn shift_one(at: &mut Position, by: u32) {
    at.line = at.line.saturating_add(by);
}

/// Leaves out what is null or of a cluster, and writes plain keys as kubectl reads them: `yes` is
/// `true`, `1` is `1`.
fn tidy(tree: &mut Tree, lines: &[&str], key: &str, depth: usize) {
    match &mut tree.value {
        Value::Scalar(_) => {}
        Value::List(items) => items.iter_mut().for_each(|it| tidy(it, lines, key, depth + 1)),
        Value::Map(entries) => {
            let is_of_texts = depth > 0 && OF_TEXTS.contains(&key);
            if !is_of_texts {
                entries.retain(|it| !it.value.is_null());
            }
            if key == "metadata" {
                entries.retain(|it| !OF_A_CLUSTER.contains(&it.key.as_str()));
            }
            for entry in entries {
                let kind = plain(&entry.key);
                if !matches!(kind, Plain::Text | Plain::Null) && !is_quoted(lines, entry.at) {
                    entry.key = match kind {
                        Plain::Bool(is) => is.to_string(),
                        Plain::Int(number) => number.to_string(),
                        Plain::Float(number) => number.to_string(),
                        Plain::Text | Plain::Null => continue,
                    };
                }
                tidy(&mut entry.value, lines, &entry.key, depth + 1);
            }
        }
    }
}

fn is_quoted(lines: &[&str], at: Position) -> bool {
    let line = usize::try_from(at.line).ok().and_then(|line| lines.get(line.checked_sub(1)?));
    let column = usize::try_from(at.column).unwrap_or_default().saturating_sub(1);
    line.and_then(|line| line.chars().nth(column)).is_some_and(|it| it == '"' || it == '\'')
}
