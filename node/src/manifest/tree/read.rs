//! Reads the documents of a YAML text. Its size when all aliases are replaced is bounded, and so is
//! its depth.

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span};

use super::words;
use super::{Entry, FileId, Position, Problem, Scalar, Tag, Tree, Value};

/// The parts of one text, with aliases replaced: some 20 MiB, and ten times a large chart.
const MAX_PARTS: usize = 300_000;
/// Parts within parts.
const MAX_DEPTH: usize = 64;
/// Documents of one text.
const MAX_DOCUMENTS: usize = 4_096;

/// The documents of a text; those without content are left out.
pub fn read(file: FileId, text: &str) -> Result<Vec<Tree>, Problem> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let options = granit_parser::options! {
        disallow_directives: true,
        block_nesting_limit: MAX_DEPTH,
        flow_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder::new(file);
    for event in Parser::new_from_str_with_options(text, options) {
        let (event, span) = event.map_err(|error| scan_error(file, text, &error))?;
        builder.take(event, span)?;
    }
    Ok(builder.documents)
}

fn scan_error(file: FileId, text: &str, error: &ScanError) -> Problem {
    let at = position(file, error.marker());
    let line = usize::try_from(at.line).ok().and_then(|line| text.lines().nth(line.max(1) - 1));
    let info = error.info();
    let message = info.lines().next().unwrap_or("this is not YAML").to_owned();
    match line.filter(|line| line.trim_start_matches(' ').starts_with('\t')) {
        Some(_) => Problem::new(at, "a tab indents this line, and YAML takes only spaces there")
            .hint("Replace each tab by two spaces."),
        None => match words::plain(&message) {
            Some((fault, mend)) => Problem::new(at, fault).hint(mend),
            None => Problem::new(at, message),
        },
    }
}

fn position(file: FileId, mark: &granit_parser::Marker) -> Position {
    let number = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
    Position { file, line: number(mark.line()), column: number(mark.col()).saturating_add(1) }
}

/// A list or mapping whose end has not come.
struct Open {
    tree: Tree,
    anchor: usize,
    /// The key of a mapping whose value comes next.
    key: Option<(Scalar, Position)>,
    /// Mappings that `<<` names, in their order.
    merged: Vec<Tree>,
    has_merged: bool,
}

struct Builder {
    file: FileId,
    open: Vec<Open>,
    /// Anchored parts, each with its number of parts.
    anchors: HashMap<usize, (Tree, usize)>,
    parts: usize,
    documents: Vec<Tree>,
}

impl Builder {
    fn new(file: FileId) -> Builder {
        Builder { file, open: Vec::new(), anchors: HashMap::new(), parts: 0, documents: Vec::new() }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Problem> {
        let at = position(self.file, &span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain;
                let value = Value::Scalar(Scalar { text: text.into_owned(), is_plain });
                let tag = tag.as_deref().map(tag_of);
                self.count(at, 1)?;
                self.place(Tree { at, tag, value }, anchor, 1)
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.begin(at, anchor, tag.as_deref().map(tag_of), Value::List(Vec::new()))
            }
            Event::MappingStart(_, anchor, tag) => {
                self.begin(at, anchor, tag.as_deref().map(tag_of), Value::Map(Vec::new()))
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => {
                let Some((tree, parts)) = self.anchors.get(&anchor).cloned() else {
                    return Err(Problem::new(at, "an alias stands within its own anchor"));
                };
                self.count(at, parts)?;
                self.place(tree, 0, parts)
            }
            Event::DocumentEnd => {
                self.anchors.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn count(&mut self, at: Position, parts: usize) -> Result<(), Problem> {
        self.parts = self.parts.saturating_add(parts);
        match self.parts > MAX_PARTS {
            true => Err(Problem::new(
                at,
                format!("with its aliases replaced, the file has more than {MAX_PARTS} values"),
            )),
            false => Ok(()),
        }
    }

    fn begin(
        &mut self,
        at: Position,
        anchor: usize,
        tag: Option<Tag>,
        value: Value,
    ) -> Result<(), Problem> {
        self.count(at, 1)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(Problem::new(
                at,
                format!("more than {MAX_DEPTH} levels within one another"),
            ));
        }
        let tree = Tree { at, tag, value };
        self.open.push(Open { tree, anchor, key: None, merged: Vec::new(), has_merged: false });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(mut open) = self.open.pop() else { return Ok(()) };
        if let Value::Map(entries) = &mut open.tree.value {
            for merged in open.merged {
                let Value::Map(others) = merged.value else { continue };
                for other in others {
                    if !entries.iter().any(|entry| entry.key == other.key) {
                        entries.push(other);
                    }
                }
            }
        }
        let parts = if open.anchor > 0 { size(&open.tree) } else { 0 };
        self.place(open.tree, open.anchor, parts)
    }

    /// Puts a part where it belongs: the key or the value of a mapping, an item, a document.
    fn place(&mut self, tree: Tree, anchor: usize, parts: usize) -> Result<(), Problem> {
        if anchor > 0 {
            self.anchors.insert(anchor, (tree.clone(), parts));
        }
        let Some(open) = self.open.last_mut() else {
            if !tree.is_null() {
                if self.documents.len() >= MAX_DOCUMENTS {
                    let message = format!("the file has more than {MAX_DOCUMENTS} documents");
                    return Err(Problem::new(tree.at, message));
                }
                self.documents.push(tree);
            }
            return Ok(());
        };
        match (&mut open.tree.value, open.key.take()) {
            (Value::List(items), _) => items.push(tree),
            (Value::Map(_), None) => {
                let at = tree.at;
                let Value::Scalar(key) = tree.value else {
                    return Err(Problem::new(at, "the name of a field is a text"));
                };
                open.key = Some((key, at));
            }
            (Value::Map(entries), Some((key, at))) => {
                if key.is_plain && key.text == "<<" {
                    if std::mem::replace(&mut open.has_merged, true) {
                        return Err(Problem::new(at, "`<<` stands here twice")
                            .hint("Write one, with a list: <<: [*one, *two]"));
                    }
                    open.merged = mappings(tree)?;
                    return Ok(());
                }
                if let Some(first) = entries.iter().find(|entry| entry.key == key.text) {
                    let message = format!(
                        "`{}` stands here twice, first in line {}",
                        key.text, first.at.line
                    );
                    return Err(Problem::new(at, message));
                }
                entries.push(Entry { key: key.text, at, value: tree });
            }
            (Value::Scalar(_), _) => {}
        }
        Ok(())
    }
}

/// The mappings that `<<` names.
fn mappings(tree: Tree) -> Result<Vec<Tree>, Problem> {
    let all = match tree.value {
        Value::List(items) => items,
        _ => vec![tree],
    };
    match all.iter().find(|it| it.as_map().is_none()) {
        Some(wrong) => Err(Problem::new(wrong.at, "`<<` takes a mapping, or a list of mappings")),
        None => Ok(all),
    }
}

fn size(tree: &Tree) -> usize {
    match &tree.value {
        Value::Scalar(_) => 1,
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|it| size(&it.value)).sum::<usize>(),
    }
}

fn tag_of(tag: &granit_parser::Tag) -> Tag {
    match (tag.handle(), tag.suffix()) {
        ("!", "reset") => Tag::Reset,
        ("!", "override") => Tag::Override,
        ("tag:yaml.org,2002:", "str") => Tag::Text,
        _ => Tag::Other,
    }
}
