//! Values as kubectl reads them, each by the type that its field has. A plain `010` is 8, `yes` is
//! true, and neither is a text: what a text field takes from another reader would be refused by
//! Kubernetes.

use std::ops::RangeInclusive;

use super::super::tree::{Entry, Position, Problem, Tag, Tree, Value};
use super::super::verdict::Judged;
use super::quantity::{NotAQuantity, Quantity};

/// A plain scalar in YAML 1.1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text,
}

/// Reads a scalar without quotes.
pub(super) fn plain(text: &str) -> Plain {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Plain::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "true" | "True" | "TRUE" => {
            return Plain::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "false" | "False" | "FALSE" => {
            return Plain::Bool(false);
        }
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => {
            return Plain::Float(f64::INFINITY);
        }
        "-.inf" | "-.Inf" | "-.INF" => return Plain::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Plain::Float(f64::NAN),
        _ => {}
    }
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return Plain::Text;
    }
    let bare = text.replace('_', "");
    if let Some(number) = integer(&bare) {
        return Plain::Int(number);
    }
    let is_float = bare.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b))
        && bare.bytes().any(|b| b.is_ascii_digit());
    match bare.parse() {
        Ok(number) if is_float => Plain::Float(number),
        _ => Plain::Text,
    }
}

fn integer(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let with = |digits: &str, base| {
        let is_number = !digits.is_empty() && !digits.starts_with(['+', '-']);
        i128::from_str_radix(digits, base).ok().filter(|_| is_number)
    };
    let behind = |signs: [char; 2]| digits.strip_prefix('0')?.strip_prefix(signs);
    let bases = [(['x', 'X'], 16), (['o', 'O'], 8), (['b', 'B'], 2)];
    let named = bases.into_iter().find_map(|(signs, base)| Some((behind(signs)?, base)));
    let octal = digits.len() > 1 && digits.starts_with('0');
    let (digits, base) = named.unwrap_or((digits, if octal { 8 } else { 10 }));
    Some(sign * with(digits, base)?)
}

/// A number, or a text that names something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum IntOrText {
    Int(i64),
    Text(String),
}

/// A field of an object, there or not, with its place and path.
#[derive(Clone, Debug)]
pub(super) struct Part<'a> {
    /// Its place; that of what it is in, if it is not there.
    pub at: Position,
    /// Its path in the object.
    pub path: String,
    /// Its value; none also for one that is null.
    pub tree: Option<&'a Tree>,
}

impl<'a> Part<'a> {
    /// A whole object.
    pub fn of(tree: &'a Tree) -> Part<'a> {
        Part { at: tree.at, path: String::new(), tree: Some(tree) }
    }

    /// A field of it.
    pub fn get(&self, key: &str) -> Part<'a> {
        let path = match self.path.as_str() {
            "" => key.to_owned(),
            path => format!("{path}.{key}"),
        };
        match self.tree.and_then(|tree| tree.entry(key)) {
            Some(Entry { at, value, .. }) => {
                Part { at: *at, path, tree: (!value.is_null()).then_some(value) }
            }
            None => Part { at: self.at, path, tree: None },
        }
    }

    /// The field below a path of names.
    pub fn at(&self, names: &[&str]) -> Part<'a> {
        names.iter().fold(self.clone(), |part, name| part.get(name))
    }

    /// Whether it is there.
    pub fn is_there(&self) -> bool {
        self.tree.is_some()
    }

    /// A fault of it.
    pub fn wrong(&self, message: impl Into<String>) -> Problem {
        Problem::new(self.at, message).field(self.path.clone())
    }

    /// Whether it is a list without items.
    pub fn is_empty_list(&self) -> bool {
        self.tree.is_some_and(|tree| matches!(&tree.value, Value::List(items) if items.is_empty()))
    }

    /// Its items, if it is a list.
    pub fn items(&self, out: &mut Judged) -> Vec<Part<'a>> {
        let Some(tree) = self.tree else { return Vec::new() };
        match &tree.value {
            Value::List(items) => {
                let item = |(index, tree): (usize, &'a Tree)| Part {
                    at: tree.at,
                    path: format!("{}[{index}]", self.path),
                    tree: (!tree.is_null()).then_some(tree),
                };
                items.iter().enumerate().map(item).collect()
            }
            _ => {
                out.refuse(self.wrong(format!("a list is expected, not {}", tree.what())));
                Vec::new()
            }
        }
    }

    /// Its fields with their names, if it is a mapping.
    pub fn fields(&self, out: &mut Judged) -> Vec<(&'a str, Part<'a>)> {
        let Some(tree) = self.tree else { return Vec::new() };
        match &tree.value {
            Value::Map(entries) => {
                let field = |entry: &'a Entry| {
                    let part = Part {
                        at: entry.at,
                        path: format!("{}.{}", self.path, entry.key),
                        tree: (!entry.value.is_null()).then_some(&entry.value),
                    };
                    (entry.key.as_str(), part)
                };
                entries.iter().map(field).collect()
            }
            _ => {
                out.refuse(self.wrong(format!("a mapping is expected, not {}", tree.what())));
                Vec::new()
            }
        }
    }

    /// The scalar and what it is, quoted ones as texts.
    fn scalar(&self, expected: &str, out: &mut Judged) -> Option<(&'a str, Plain)> {
        let tree = self.tree?;
        let Some(scalar) = tree.as_scalar() else {
            out.refuse(self.wrong(format!("{expected} is expected, not {}", tree.what())));
            return None;
        };
        let kind = match (scalar.is_plain, tree.tag) {
            (true, None) => plain(&scalar.text),
            _ => Plain::Text,
        };
        if tree.tag.is_some_and(|tag| tag != Tag::Text) {
            out.refuse(self.wrong("a tag stands before it; leave it away"));
            return None;
        }
        Some((&scalar.text, kind))
    }

    /// A text.
    pub fn text(&self, out: &mut Judged) -> Option<String> {
        let (text, kind) = self.scalar("a text", out)?;
        let what = match kind {
            Plain::Text => return Some(text.to_owned()),
            Plain::Null => return Some(String::new()),
            Plain::Bool(it) => format!("`{text}` without quotes is the value {it}"),
            Plain::Int(_) | Plain::Float(_) => format!("`{text}` without quotes is a number"),
        };
        let problem = self.wrong(format!("{what}, and a text is expected"));
        out.refuse(problem.hint(format!("Write it in quotes: \"{text}\"")));
        None
    }

    /// The text of it, or nothing for null.
    pub fn text_or_empty(&self, out: &mut Judged) -> Option<String> {
        if self.is_there() { self.text(out) } else { Some(String::new()) }
    }

    /// A whole number.
    pub fn int(&self, range: RangeInclusive<i64>, out: &mut Judged) -> Option<i64> {
        let (text, kind) = self.scalar("a number", out)?;
        let number = match kind {
            Plain::Int(number) => i64::try_from(number).ok(),
            // A template of Helm prints 1000000 as 1e+06.
            Plain::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
                Some(number as i64)
            }
            Plain::Text if matches!(plain(text), Plain::Int(_)) => {
                let problem = self.wrong(format!("\"{text}\" is a text, and a number is expected"));
                out.refuse(problem.hint(format!("Write it without quotes: {text}")));
                return None;
            }
            _ => {
                out.refuse(self.wrong(format!("`{text}` is no whole number")));
                return None;
            }
        };
        match number.filter(|number| range.contains(number)) {
            Some(number) => Some(number),
            None => {
                let (least, most) = (range.start(), range.end());
                let why = match *most {
                    i64::MAX => format!("{text} is less than {least}"),
                    most => format!("{text} is outside {least} to {most}"),
                };
                out.refuse(self.wrong(why));
                None
            }
        }
    }

    /// A number from 0 on.
    pub fn count(&self, out: &mut Judged) -> Option<u32> {
        self.int(0..=i64::from(u32::MAX), out).and_then(|it| u32::try_from(it).ok())
    }

    /// A port.
    pub fn port(&self, out: &mut Judged) -> Option<u16> {
        self.int(1..=65_535, out).and_then(|it| u16::try_from(it).ok())
    }

    /// True or false.
    pub fn bool(&self, out: &mut Judged) -> Option<bool> {
        let (text, kind) = self.scalar("true or false", out)?;
        if let Plain::Bool(is) = kind {
            return Some(is);
        }
        let problem = self.wrong(format!("`{text}` is not true or false"));
        out.refuse(match plain(text) {
            Plain::Bool(is) => problem.hint(format!("Write it without quotes: {is}")),
            _ => problem,
        });
        None
    }

    /// Whether it is there and true.
    pub fn is_true(&self, out: &mut Judged) -> bool {
        self.bool(out).unwrap_or_default()
    }

    /// A number, or a text: `port: "8080"` is the name of a port.
    pub fn int_or_text(&self, out: &mut Judged) -> Option<IntOrText> {
        let (text, kind) = self.scalar("a number or a text", out)?;
        match kind {
            Plain::Text => Some(IntOrText::Text(text.to_owned())),
            _ => self.int(i64::MIN..=i64::MAX, out).map(IntOrText::Int),
        }
    }

    /// A quantity.
    pub fn quantity(&self, out: &mut Judged) -> Option<Quantity> {
        let (text, kind) = self.scalar("a quantity", out)?;
        let read = match kind {
            Plain::Int(number) => number.to_string().parse(),
            Plain::Float(_) => text.replace('_', "").parse(),
            Plain::Text => text.parse(),
            Plain::Bool(_) | Plain::Null => Err(NotAQuantity::of(text)),
        };
        match read {
            Ok(quantity) => Some(quantity),
            Err(NotAQuantity { message, hint }) => {
                let problem = self.wrong(message);
                out.refuse(match hint {
                    Some(hint) => problem.hint(hint),
                    None => problem,
                });
                None
            }
        }
    }

    /// A list of texts, null ones empty.
    pub fn texts(&self, out: &mut Judged) -> Vec<String> {
        let items = self.items(out);
        items.iter().filter_map(|it| it.text_or_empty(out)).collect()
    }

    /// Names with texts, null ones empty.
    pub fn pairs(&self, out: &mut Judged) -> Vec<(String, String)> {
        let fields = self.fields(out);
        let pair =
            |(name, part): &(&str, Part)| Some(((*name).to_owned(), part.text_or_empty(out)?));
        fields.iter().filter_map(pair).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tree::{FileId, read};
    use super::*;

    fn with<T>(text: &str, read_as: impl Fn(&Part, &mut Judged) -> Option<T>) -> Result<T, String> {
        let tree = read(FileId(0), &format!("a: {text}\n")).unwrap().remove(0);
        let mut out = Judged::default();
        let value = read_as(&Part::of(&tree).get("a"), &mut out);
        match out.problems.first() {
            Some(problem) => Err(format!(
                "{problem}{}",
                problem.hint.as_ref().map(|it| format!(" ({it})")).unwrap_or_default()
            )),
            None => Ok(value.expect("a value or a problem")),
        }
    }

    /// The table of what kubectl was seen to do.
    #[test]
    fn plain_scalars_are_what_kubectl_takes_them_for() {
        let int = |text| with(text, |it, out| it.int(i64::MIN..=i64::MAX, out));
        for (text, number) in [
            ("010", 8),
            ("0o10", 8),
            ("0x10", 16),
            ("0b11", 3),
            ("1_000", 1000),
            ("3.0", 3),
            ("3e0", 3),
            ("1e+06", 1_000_000),
            ("1.34217728e+08", 134_217_728),
            ("1234567.0", 1_234_567),
            ("-1", -1),
            ("08", 8),
        ] {
            assert_eq!(int(text), Ok(number), "{text}");
        }
        let refused = int("\"3\"").unwrap_err();
        assert_eq!(
            refused,
            "a: \"3\" is a text, and a number is expected (Write it without quotes: 3)"
        );
        assert!(int("1.5").is_err() && int("yes").is_err() && int("a").is_err());
        let text = |text| with(text, |it, out| it.text(out));
        for taken in ["2026-11-28", "22:22", "1.2.3", "a", "0x", "1e", "+", "."] {
            assert_eq!(text(taken), Ok(taken.to_owned()));
        }
        assert_eq!(text("\"010\""), Ok("010".into()));
        assert_eq!(text("!!str 010"), Ok("010".into()));
        assert_eq!(
            text("yes").unwrap_err(),
            "a: `yes` without quotes is the value true, and a text is expected (Write it in \
             quotes: \"yes\")"
        );
        for number in ["010", "1e3", "1.10", "3", ".5"] {
            assert!(text(number).unwrap_err().contains("is a number"), "{number}");
        }
        let bool = |text| with(text, |it, out| it.bool(out));
        assert_eq!([bool("yes"), bool("on"), bool("y")], [Ok(true), Ok(true), Ok(true)]);
        assert_eq!([bool("no"), bool("False")], [Ok(false), Ok(false)]);
        assert!(bool("\"true\"").unwrap_err().ends_with("(Write it without quotes: true)"));
        let either = |text| with(text, |it, out| it.int_or_text(out));
        assert_eq!(either("\"8080\""), Ok(IntOrText::Text("8080".into())));
        assert_eq!(either("080"), Ok(IntOrText::Int(80)), "a float to kubectl, and whole");
        assert_eq!(either("http"), Ok(IntOrText::Text("http".into())));
        let quantity = |text| with(text, |it, out| it.quantity(out)).map(|it| it.bytes());
        assert_eq!([quantity("010"), quantity("\"010\"")], [Ok(8), Ok(10)]);
        assert_eq!([quantity("0x10"), quantity("1e3")], [Ok(16), Ok(1000)]);
        assert_eq!([quantity("1_000"), quantity("\" 1Gi \"")], [Ok(1000), Ok(1 << 30)]);
        assert!(quantity("\"0x10\"").is_err() && quantity("\"1_000\"").is_err());
    }
}
