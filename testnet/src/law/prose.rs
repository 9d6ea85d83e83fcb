//! Text for people: lines fit into 100 columns, doc comments say more than one word.
//!
//! Rows of tables may be longer, since they cannot be broken, and targets of links do not count.
//! Raw strings and blocks of code in Markdown are lines like any other.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Violation, files, relative};

/// Columns of a line, counted in characters.
const MAX_COLUMNS: usize = 100;

/// Files that a program writes, and the program.
const GENERATED: &[(&str, &str)] = &[("docs/scale/figures.md", "cargo testnet scale --write")];

/// Reads all Rust and Markdown below `root`, packages outside the workspace included.
pub(super) fn check(root: &Path) -> Result<Vec<Violation>> {
    let mut violations = Vec::new();
    for path in files(root, &["rs", "md"])? {
        let file = relative(root, &path);
        if GENERATED.iter().any(|(generated, _)| *generated == file) {
            continue;
        }
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        violations.extend(judge(&file, &text));
    }
    Ok(violations)
}

/// Judges one file by its text; `file` says by its ending what it holds.
pub(super) fn judge(file: &str, text: &str) -> Vec<Violation> {
    let is_rust = file.ends_with(".rs");
    let mut violations = long_lines(file, text, is_rust);
    if is_rust {
        violations.extend(one_word_docs(file, text));
    }
    violations
}

fn long_lines(file: &str, text: &str, is_rust: bool) -> Vec<Violation> {
    let found = text.lines().enumerate().filter_map(|(index, line)| {
        let prose = if is_rust { comment(line) } else { Some(line.trim()) };
        let columns = line.chars().count() - link_targets(line, prose.is_some());
        if columns <= MAX_COLUMNS || prose.is_some_and(is_table_row) {
            return None;
        }
        Some(Violation {
            file: file.to_owned(),
            line: index + 1,
            rule: "lines fit into 100 columns",
            why: format!("{columns} columns: break the line, a long string with `concat!`"),
        })
    });
    found.collect()
}

/// The text of a line that is a comment and nothing else.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']).trim())
}

fn is_table_row(prose: &str) -> bool {
    prose.len() > 1 && prose.starts_with('|') && prose.ends_with('|')
}

/// Characters of URLs and, in prose, of what stands between `](` and `)`.
fn link_targets(line: &str, is_prose: bool) -> usize {
    let urls = line.split_whitespace().filter(|word| word.contains("://") && !word.contains("]("));
    let urls: usize = urls.map(|url| url.chars().count()).sum();
    let targets = line.split("](").skip(1).filter(|_| is_prose);
    let targets = targets.filter_map(|rest| rest.split_once(')'));
    urls + targets.map(|(target, _)| target.chars().count()).sum::<usize>()
}

fn one_word_docs(file: &str, text: &str) -> Vec<Violation> {
    let lines: Vec<_> = text.lines().map(doc).enumerate().collect();
    let marker = |doc: Option<(&'static str, _)>| doc.map(|(marker, _)| marker);
    let blocks = lines.chunk_by(|(_, one), (_, next)| marker(*one) == marker(*next));
    let found = blocks.filter_map(|block| {
        let texts = block.iter().filter_map(|(_, doc)| doc.map(|(_, text)| text));
        let words: Vec<&str> = texts.flat_map(str::split_whitespace).collect();
        let [word] = words[..] else { return None };
        Some(Violation {
            file: file.to_owned(),
            line: block[0].0 + 1,
            rule: "a doc comment says more than one word",
            why: format!("`{word}`: give the unit, the bound or the invariant, or remove it"),
        })
    });
    found.collect()
}

/// The marker and the text of a line of a doc comment.
fn doc(line: &str) -> Option<(&'static str, &str)> {
    let line = line.trim();
    let text = |marker: &'static str| line.strip_prefix(marker).map(|text| (marker, text));
    text("//!").or_else(|| text("///")).filter(|(_, text)| !text.starts_with('/'))
}
