//! Files of variables: `.env`, `--env-file` and `env_file`.

use std::collections::BTreeMap;

use super::interpolate::{Variables, interpolate};

/// A variable, and its value; none if it is the one of the shell.
pub(super) type Pair = (String, Option<String>);

/// Reads a file of variables as Compose does. `outer` are variables that come before those of the
/// file itself, `earlier` those that come after them.
///
/// # Errors
/// The number of the line, and what is wrong in it.
pub(super) fn read(
    text: &str,
    outer: &dyn Fn(&str) -> Option<String>,
    earlier: &BTreeMap<String, Option<String>>,
) -> Result<Vec<Pair>, (u32, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
    let mut all: Vec<Pair> = Vec::new();
    let (mut rest, mut line) = (text.as_str(), 0);
    while !rest.is_empty() {
        line += 1;
        let (first, after) = rest.split_once('\n').unwrap_or((rest, ""));
        let trimmed = first.trim();
        rest = after;
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let trimmed = trimmed.strip_prefix("export ").unwrap_or(trimmed).trim_start();
        let Some((name, value)) = trimmed.split_once(['=', ':']) else {
            let name = trimmed.split(" #").next().unwrap_or(trimmed).trim();
            all.push((checked(name, line)?, None));
            continue;
        };
        let name = checked(name.trim(), line)?;
        let value = value.trim_start();
        let mut chars = value.chars();
        let value = match chars.next() {
            Some(quote @ ('"' | '\'')) => {
                let begun = line;
                let mut quoted = chars.as_str().to_owned();
                // A quoted value goes on in the next lines.
                let inner = loop {
                    if let Some(end) = closing(&quoted, quote) {
                        quoted.truncate(end);
                        break quoted;
                    }
                    if rest.is_empty() {
                        return Err((begun, format!("{name}: the quote {quote} is not closed")));
                    }
                    let (next, after) = rest.split_once('\n').unwrap_or((rest, ""));
                    quoted.push('\n');
                    quoted.push_str(next);
                    (rest, line) = (after, line + 1);
                };
                match quote {
                    '"' => expanded(&unescaped(&inner), outer, (&all, earlier))
                        .map_err(|why| (begun, why))?,
                    _ => inner.replace("\\'", "'"),
                }
            }
            _ => {
                let value = value.split(" #").next().unwrap_or(value).trim_end();
                expanded(value, outer, (&all, earlier)).map_err(|why| (line, why))?
            }
        };
        all.push((name, Some(value)));
    }
    Ok(all)
}

/// Reads a file of variables as docker does: each line as it is.
pub(super) fn read_raw(text: &str) -> Vec<Pair> {
    let lines = text.lines().filter(|line| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#')
    });
    let pair = |line: &str| match line.split_once('=') {
        Some((name, value)) => (name.trim_start().to_owned(), Some(value.to_owned())),
        None => (line.trim().to_owned(), None),
    };
    lines.map(pair).collect()
}

fn checked(name: &str, line: u32) -> Result<String, (u32, String)> {
    match name.contains(char::is_whitespace) {
        true => Err((line, format!("`{name}`: the name of a variable has no blanks"))),
        false => Ok(name.to_owned()),
    }
}

fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at),
            _ => {}
        }
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                Some('t') => out.push('\t'),
                Some('$') => out.push_str("$$"),
                Some(other @ ('"' | '\\')) => out.push(other),
                Some(other) => out.extend(['\\', other]),
                None => out.push('\\'),
            },
            c => out.push(c),
        }
    }
    out
}

fn expanded(
    text: &str,
    outer: &dyn Fn(&str) -> Option<String>,
    (own, earlier): (&[Pair], &BTreeMap<String, Option<String>>),
) -> Result<String, String> {
    // The names are few: each is looked up before the text is replaced.
    let of_file = |name: &str| match own.iter().rev().find(|(it, _)| it == name) {
        Some((_, value)) => value.clone(),
        None => earlier.get(name)?.clone(),
    };
    let mut all = Looked(BTreeMap::new());
    for part in text.split('$').skip(1) {
        let part = part.trim_start_matches('{');
        let is_other = |c: char| c != '_' && !c.is_ascii_alphanumeric();
        let name = part.split(is_other).next().unwrap_or_default();
        if let Some(value) = outer(name).or_else(|| of_file(name)) {
            all.0.insert(name.to_owned(), value);
        }
    }
    interpolate(text, &mut all)
}

struct Looked(BTreeMap<String, String>);

impl Variables for Looked {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    fn unset(&mut self, _: &str) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<(String, Option<String>)> {
        read(text, &|name| (name == "HOST").then(|| "host".to_owned()), &BTreeMap::new()).unwrap()
    }

    #[test]
    fn default_format_is_read_as_compose_reads_it() {
        for (text, name, value) in [
            ("export A=b", "A", Some("b")),
            ("A=\"b c\" rest", "A", Some("b c")),
            ("A='$HOST'", "A", Some("$HOST")),
            ("A='it\\'s'", "A", Some("it's")),
            ("A=\"a\\$b\"", "A", Some("a$b")),
            ("A=b # c", "A", Some("b")),
            ("A=b#c", "A", Some("b#c")),
            ("A=\"x\ny\"", "A", Some("x\ny")),
            ("A='x\ny'", "A", Some("x\ny")),
            ("A=\"x\\ny\"", "A", Some("x\ny")),
            ("A='x\\ny'", "A", Some("x\\ny")),
            ("HOST=own\nA=$HOST", "A", Some("host")),
            ("OWN=own\nA=${OWN}", "A", Some("own")),
            ("A", "A", None),
            ("X: v", "X", Some("v")),
            ("1X=a", "1X", Some("a")),
            ("a.b=c", "a.b", Some("c")),
        ] {
            let last = of(text).pop().unwrap();
            assert_eq!(last, (name.to_owned(), value.map(str::to_owned)), "{text}");
        }
        let outer = |_: &str| None;
        assert_eq!(read("# a\nA B=c", &outer, &BTreeMap::new()).unwrap_err().0, 2);
        assert!(read("A=\"b", &outer, &BTreeMap::new()).unwrap_err().1.contains("not closed"));
        assert_eq!(read_raw("A='b' # c\n")[0].1.as_deref(), Some("'b' # c"));
    }
}
