//! YAML as it is written: one way for each value.

use std::collections::BTreeMap;
use std::fmt::Write;

/// The columns that a list may take in its line.
const WIDE: usize = 96;

/// A value of YAML, as far as manifests have them.
#[derive(Clone, Debug)]
pub(super) enum Yaml {
    /// A text, in quotes where it could be taken for something else.
    Text(String),
    /// A number, a truth value or a quantity: never in quotes.
    Plain(String),
    List(Vec<Yaml>),
    Map(Vec<(String, Yaml)>),
}

impl Yaml {
    pub fn text(text: impl Into<String>) -> Yaml {
        Yaml::Text(text.into())
    }

    pub fn plain(value: impl ToString) -> Yaml {
        Yaml::Plain(value.to_string())
    }

    pub fn texts<T: ToString>(all: impl IntoIterator<Item = T>) -> Yaml {
        Yaml::List(all.into_iter().map(|it| Yaml::Text(it.to_string())).collect())
    }

    pub fn pairs(all: &BTreeMap<String, String>) -> Yaml {
        Yaml::Map(all.iter().map(|(name, value)| (name.clone(), Yaml::text(value))).collect())
    }

    /// The value in one line.
    fn flow(&self) -> String {
        match self {
            Yaml::Text(text) => quoted(text),
            Yaml::Plain(text) => text.clone(),
            Yaml::List(all) => {
                format!("[{}]", all.iter().map(Yaml::flow).collect::<Vec<_>>().join(", "))
            }
            Yaml::Map(all) if all.is_empty() => "{}".into(),
            Yaml::Map(all) => {
                let pairs = all.iter().map(|(key, it)| format!("{}: {}", quoted(key), it.flow()));
                format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
            }
        }
    }

    pub fn document(&self) -> String {
        let mut text = String::new();
        self.block(0, &mut text);
        text
    }

    /// The entries of a mapping in lines of their own, and those of a list that is too long.
    fn block(&self, depth: usize, out: &mut String) {
        let Yaml::Map(all) = self else { return };
        let indent = "  ".repeat(depth);
        for (key, value) in all {
            let key = quoted(key);
            let flow = value.flow();
            // Writing to a String cannot fail.
            let _ = match value {
                Yaml::Map(inner) if !inner.is_empty() => {
                    let _ = writeln!(out, "{indent}{key}:");
                    value.block(depth + 1, out);
                    Ok(())
                }
                Yaml::List(items) if indent.len() + key.len() + flow.len() > WIDE => {
                    let _ = writeln!(out, "{indent}{key}:");
                    items.iter().for_each(|it| it.item(depth, out));
                    Ok(())
                }
                _ => writeln!(out, "{indent}{key}: {flow}"),
            };
        }
    }
}

impl Yaml {
    /// An item of a list of a mapping: one that is too long has a line for each of its entries.
    fn item(&self, depth: usize, out: &mut String) {
        let indent = "  ".repeat(depth);
        let flow = self.flow();
        let is_long = indent.len() + flow.len() + 4 > WIDE;
        if let (Yaml::Map(_), true) = (self, is_long) {
            let mut text = String::new();
            self.block(depth + 2, &mut text);
            // The mark of the item stands where the first entry is indented.
            let _ = write!(out, "{indent}  - {}", text.trim_start());
        } else {
            let _ = writeln!(out, "{indent}  - {flow}");
        }
    }
}

/// A text that every reader of YAML takes for this text.
fn quoted(text: &str) -> String {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'/' | b'-');
    // A number begins with a digit, a sign or a point; and these are truth values, or nothing.
    let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'/');
    let word = text.to_ascii_lowercase();
    let is_word =
        ["true", "false", "yes", "no", "on", "off", "y", "n", "null"].contains(&word.as_str());
    if begins && !is_word && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    let mut out = String::from('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            // What some readers take for the end of a line, or for nothing.
            ' '..='~' => out.push(letter),
            '\u{a1}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' => out.push(letter),
            _ => {
                let _ = write!(out, "\\U{:08x}", u32::from(letter));
            }
        }
    }
    out.push('"');
    out
}

/// Entries of a mapping that are there.
pub(super) struct Entries(pub Vec<(String, Yaml)>);

impl Entries {
    pub fn put(&mut self, key: &str, value: Yaml) {
        self.0.push((key.to_owned(), value));
    }

    pub fn put_if(&mut self, key: &str, is_given: bool, value: Yaml) {
        if is_given {
            self.put(key, value);
        }
    }

    pub fn put_some(&mut self, key: &str, value: Option<Yaml>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }
}
