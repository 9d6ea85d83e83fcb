//! A YAML text as a tree, each part of which knows where it stands: the files of other tools are
//! merged, interpolated and judged field by field before anything is made of them.
//!
//! Scalars keep their text and whether it was quoted, since readers of these files differ in what a
//! plain `010` or `yes` is.

mod read;
#[cfg(test)]
mod tests;
pub(super) mod words;

use std::fmt;

pub use read::read;

/// A file that was read, by its number in [`Sources`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct FileId(pub u16);

/// The place of a part in a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position {
    /// The file.
    pub file: FileId,
    /// The line, counted from 1; 0 where there is none.
    pub line: u32,
    /// The column in characters, counted from 1.
    pub column: u32,
}

/// The names of the files that were read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    names: Vec<String>,
}

impl Sources {
    /// Adds a file by the name that people know it by.
    pub fn add(&mut self, name: impl Into<String>) -> FileId {
        self.names.push(name.into());
        FileId(u16::try_from(self.names.len() - 1).unwrap_or(u16::MAX))
    }

    /// The names of all files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The name of a file.
    pub fn name(&self, file: FileId) -> &str {
        self.names.get(usize::from(file.0)).map_or("", String::as_str)
    }

    /// A place for people: `compose.yaml:4:7`.
    pub fn show(&self, at: Position) -> String {
        match at.line {
            0 => self.name(at.file).to_owned(),
            line => format!("{}:{line}:{}", self.name(at.file), at.column),
        }
    }
}

/// A part of a file.
#[derive(Clone, PartialEq, Debug)]
pub struct Tree {
    /// Its place.
    pub at: Position,
    /// Its tag, for the tools that know some.
    pub tag: Option<Tag>,
    /// Its content.
    pub value: Value,
}

/// A tag that stands before a part.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tag {
    /// `!reset`: Compose takes the field away.
    Reset,
    /// `!override`: Compose replaces the field instead of merging it.
    Override,
    /// `!!str`: it is a text.
    Text,
    /// Any other; no tool heeds it.
    Other,
}

/// The content of a part.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    /// A text, number, bool or nothing.
    Scalar(Scalar),
    /// A list.
    List(Vec<Tree>),
    /// A mapping, in the order of the file; no key stands in it twice.
    Map(Vec<Entry>),
}

/// A scalar as it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Scalar {
    /// Its text, without quotes.
    pub text: String,
    /// It was written without quotes, so that it may be a number, a bool or nothing.
    pub is_plain: bool,
}

/// A field of a mapping.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// Its name.
    pub key: String,
    /// The place of its name.
    pub at: Position,
    /// Its value.
    pub value: Tree,
}

impl Scalar {
    /// A text in quotes.
    pub fn text(text: impl Into<String>) -> Scalar {
        Scalar { text: text.into(), is_plain: false }
    }

    /// Whether it stands for nothing: `~`, `null`, or no text at all.
    pub fn is_null(&self) -> bool {
        self.is_plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

impl Tree {
    /// A scalar that stands nowhere but at `at`.
    pub fn scalar(at: Position, text: impl Into<String>) -> Tree {
        Tree { at, tag: None, value: Value::Scalar(Scalar::text(text)) }
    }

    /// An empty mapping.
    pub fn empty_map(at: Position) -> Tree {
        Tree { at, tag: None, value: Value::Map(Vec::new()) }
    }

    /// Whether it stands for nothing.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
            && self.tag != Some(Tag::Text)
    }

    /// The scalar, if it is one.
    pub fn as_scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            Value::List(_) | Value::Map(_) => None,
        }
    }

    /// The text of a scalar, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        self.as_scalar().map(|scalar| scalar.text.as_str())
    }

    /// The fields, if it is a mapping.
    pub fn as_map(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            Value::Scalar(_) | Value::List(_) => None,
        }
    }

    /// The items, if it is a list.
    pub fn as_list(&self) -> Option<&[Tree]> {
        match &self.value {
            Value::List(items) => Some(items),
            Value::Scalar(_) | Value::Map(_) => None,
        }
    }

    /// The value of a field, if it is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Tree> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// A field, if it is a mapping that has it.
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.as_map()?.iter().find(|entry| entry.key == key)
    }

    /// The value below a path of fields.
    pub fn at_path(&self, path: &[&str]) -> Option<&Tree> {
        path.iter().try_fold(self, |tree, key| tree.get(key))
    }

    /// Sets a field of a mapping, in its place if it has it, else as the last one.
    pub fn set(&mut self, key: &str, at: Position, value: Tree) {
        let Value::Map(entries) = &mut self.value else { return };
        match entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => (entry.at, entry.value) = (at, value),
            None => entries.push(Entry { key: key.to_owned(), at, value }),
        }
    }

    /// Takes a field out of a mapping.
    pub fn remove(&mut self, key: &str) -> Option<Tree> {
        let Value::Map(entries) = &mut self.value else { return None };
        let at = entries.iter().position(|entry| entry.key == key)?;
        Some(entries.remove(at).value)
    }

    /// The kind of its content, for messages.
    pub fn what(&self) -> &'static str {
        match &self.value {
            Value::Scalar(_) if self.is_null() => "nothing",
            Value::Scalar(_) => "a value",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }
}

/// A reason why a file cannot be read, or a field not be honoured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The place.
    pub at: Position,
    /// The field, as in `services.web.ports`; empty where it is about the whole file.
    pub field: String,
    /// The fault.
    pub message: String,
    /// The mend.
    pub hint: Option<String>,
}

impl Problem {
    /// A fault at a place.
    pub fn new(at: Position, message: impl Into<String>) -> Problem {
        Problem { at, field: String::new(), message: message.into(), hint: None }
    }

    /// The same with its field.
    pub fn field(self, field: impl Into<String>) -> Problem {
        Problem { field: field.into(), ..self }
    }

    /// The same with its mend.
    pub fn hint(self, hint: impl Into<String>) -> Problem {
        Problem { hint: Some(hint.into()), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}
