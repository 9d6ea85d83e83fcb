//! Scalars and lists of a Compose file, read as Compose reads them.

use std::time::Duration;

use super::super::tree::{Position, Scalar, Tree};

/// A scalar as the text that Compose makes of it: a plain number is written anew.
pub(super) fn text(tree: &Tree) -> Result<String, String> {
    match tree.as_scalar() {
        Some(scalar) => Ok(shown(scalar)),
        None => Err(format!("a text is expected, found {}", tree.what())),
    }
}

fn shown(scalar: &Scalar) -> String {
    let text = &scalar.text;
    if !scalar.is_plain {
        return text.clone();
    }
    match (integer(text), float(text)) {
        (Some(number), _) => number.to_string(),
        (None, Some(number)) => as_go(number),
        (None, None) if is_date(text) => format!("{text} 00:00:00 +0000 UTC"),
        (None, None) if matches!(text.as_str(), "True" | "TRUE") => "true".into(),
        (None, None) if matches!(text.as_str(), "False" | "FALSE") => "false".into(),
        _ => text.clone(),
    }
}

/// The number that YAML makes of a plain text, if it is one.
pub(super) fn number(text: &str) -> Option<serde_json::Value> {
    let float = || float(text).map(serde_json::Value::from);
    integer(text).map(serde_json::Value::from).or_else(float)
}

/// A whole number of YAML, in whatever base.
fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let digits = digits.replace('_', "");
    let lower = digits.to_ascii_lowercase();
    let bases = [("0x", 16), ("0o", 8), ("0b", 2), ("0", 8)];
    let found = bases.iter().find_map(|(start, base)| Some((*base, lower.strip_prefix(start)?)));
    let (base, digits) = found.filter(|_| lower != "0").unwrap_or((10, lower.as_str()));
    i64::from_str_radix(&format!("{sign}{digits}"), base).ok()
}

fn float(text: &str) -> Option<f64> {
    let body = text.trim_start_matches(['-', '+']);
    let is_number = body.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && body.contains(|c: char| c.is_ascii_digit())
        && body.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    text.parse().ok().filter(|number: &f64| is_number && number.is_finite())
}

/// A number in the words of Go.
fn as_go(number: f64) -> String {
    let text = format!("{number:e}");
    let Some((mantissa, exponent)) = text.split_once('e') else { return text };
    match exponent.parse::<i32>() {
        Ok(exponent @ (..-4 | 21..)) | Ok(exponent @ 6..21) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", exponent.abs())
        }
        _ => number.to_string(),
    }
}

/// Whether it is a date, which Compose writes anew in a form that nobody expects.
pub(super) fn is_date(text: &str) -> bool {
    text.len() == 10
        && text.bytes().enumerate().all(|(at, b)| match at {
            4 | 7 => b == b'-',
            _ => b.is_ascii_digit(),
        })
}

/// A whole number, also as a text.
pub(super) fn int(tree: &Tree) -> Result<i64, String> {
    let wrong = || "a whole number is expected, as in `3`".to_owned();
    let scalar = tree.as_scalar().ok_or_else(wrong)?;
    if !scalar.is_plain {
        return scalar.text.parse().map_err(|_| wrong());
    }
    let whole = |number: &f64| number.fract() == 0.0 && number.abs() < 1e15;
    let number = integer(&scalar.text);
    #[allow(clippy::cast_possible_truncation)] // it is whole and small
    number.or_else(|| float(&scalar.text).filter(whole).map(|it| it as i64)).ok_or_else(wrong)
}

/// A whole number that is not negative.
pub(super) fn count(tree: &Tree) -> Result<u32, String> {
    let number = int(tree)?;
    u32::try_from(number).map_err(|_| format!("{number}: a number from 0 on is expected"))
}

/// True or false, with the words that Compose takes.
pub(super) fn boolean(tree: &Tree) -> Result<bool, String> {
    match tree.as_text().map(str::to_lowercase).as_deref() {
        Some("true" | "yes" | "on" | "y") => Ok(true),
        Some("false" | "no" | "off" | "n") => Ok(false),
        _ => Err("true or false is expected".into()),
    }
}

/// Bytes, with docker's units: each is 1024 of the one before.
pub(super) fn size(tree: &Tree) -> Result<u64, String> {
    let wrong = |text: &str| {
        format!(
            "`{text}` is no size: a number with one of b, k, m, g, t and p is expected, as in 64m"
        )
    };
    let scalar = tree.as_scalar().ok_or_else(|| wrong("a list or mapping"))?;
    let text = scalar.text.as_str();
    // No limit, as 0 is.
    if text == "-1" {
        return Ok(0);
    }
    if scalar.is_plain
        && let Some(number) = integer(text)
    {
        return u64::try_from(number).map_err(|_| wrong(text));
    }
    if scalar.is_plain && float(text).is_some() {
        return Err(format!(
            "`{text}` without quotes is no limit at all for Compose; write whole bytes, or a unit \
             as in 64m"
        ));
    }
    bytes(text).ok_or_else(|| wrong(text))
}

/// Bytes of a text as `64m`, `1.5GiB` or `"50 m"`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let end = lower.find(|c: char| !c.is_ascii_digit() && !".e+".contains(c));
    let (number, unit) = lower.split_at(end.unwrap_or(lower.len()));
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let power = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        "p" | "pb" | "pib" => 5,
        _ => return None,
    };
    let number: f64 = number.parse().ok().filter(|it: &f64| it.is_finite() && *it >= 0.0)?;
    let bytes = number * 1024f64.powi(power);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // it is in bounds
    (bytes < 9e15).then_some(bytes as u64)
}

/// Thousandths of a core.
pub(super) fn cores(tree: &Tree) -> Result<u32, String> {
    let wrong = || "an amount of CPU is expected, in cores as in 0.5".to_owned();
    let number: f64 = tree.as_text().and_then(|it| it.parse().ok()).ok_or_else(wrong)?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // it is in bounds
    match number {
        0.0..=100_000.0 => Ok((number * 1000.0).round() as u32),
        _ => Err(wrong()),
    }
}

/// A duration in the words of Go, and in days and weeks.
pub(super) fn duration(tree: &Tree) -> Result<Duration, String> {
    let text = text(tree)?;
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let wrong = || format!("`{text}` is no duration: it is written as in `30s` or `1m30s`");
    if text.starts_with('-') {
        return Err(format!("`{text}` is negative"));
    }
    let is_digit = |c: char| c.is_ascii_digit() || c == '.';
    let mut rest = text.as_str();
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c| !is_digit(c)).ok_or_else(wrong)?);
        let (unit, after) = after.split_at(after.find(is_digit).unwrap_or(after.len()));
        rest = after;
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())?;
        sum = sum.saturating_add(part);
    }
    Ok(sum)
}

/// The items of a list, or the one text that stands for it.
pub(super) fn texts(tree: &Tree) -> Result<Vec<(Position, String)>, String> {
    match tree.as_list() {
        Some(items) => items.iter().map(|it| Ok((it.at, text(it)?))).collect(),
        None => Ok(vec![(tree.at, text(tree)?)]),
    }
}

/// A value of a mapping, or of a list of `NAME=VALUE`; none where there is no value.
pub(super) struct Pair {
    pub name: String,
    pub value: Option<String>,
    pub at: Position,
    /// A plain date, which Compose writes anew.
    pub is_date: bool,
    /// A name that Compose takes for an extension in a mapping.
    pub is_extension: bool,
}

/// Names with their values, in whichever of the two forms.
pub(super) fn pairs(field: &str, tree: &Tree) -> Result<Vec<Pair>, String> {
    let is_list = tree.as_list().is_some();
    let mut hold = None;
    let tree = super::project::named(field, tree, &mut hold);
    let Some(entries) = tree.as_map() else {
        return Err(
            "names with their values are expected: a mapping, or a list of NAME=VALUE".into()
        );
    };
    let pair = |entry: &super::super::tree::Entry| {
        let value = if entry.value.is_null() { None } else { Some(text(&entry.value)?) };
        let scalar = entry.value.as_scalar();
        Ok(Pair {
            name: entry.key.clone(),
            value,
            at: entry.at,
            is_date: scalar.is_some_and(|it| it.is_plain && is_date(&it.text)),
            is_extension: !is_list && entry.key.starts_with("x-"),
        })
    };
    entries.iter().map(pair).collect()
}

/// The words of a command. A text is split as Compose splits it, but **not cut**: Compose drops all
/// from the first of `;`, `|`, `<`, `>` and `&` on.
pub(super) fn words(tree: &Tree) -> Result<Vec<String>, String> {
    if let Some(items) = tree.as_list() {
        return items.iter().map(text).collect();
    }
    let text = text(tree)?;
    let (mut quote, mut before) = (None, ' ');
    let mut word: Option<String> = None;
    let mut words = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (Some(open), c) if open == c => {
                quote = None;
                if matches!(c, ')' | '`') {
                    word.get_or_insert_default().push(c);
                }
            }
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ';' | '|' | '<' | '>' | '&') => {
                return Err(format!(
                    "Compose drops all from `{c}` on, since no shell reads this; write `[sh, -c, \
                     \"..\"]`, and the whole text in place of the dots"
                ));
            }
            (None, '(') if before != '$' => {
                return Err("`(` is for a shell; write `[sh, -c, \"..\"]`".into());
            }
            // They stay as they are, since no shell reads them.
            (None, '(' | '`') => {
                quote = Some(if c == '(' { ')' } else { c });
                word.get_or_insert_default().push(c);
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
        before = c;
    }
    words.extend(word);
    match quote {
        Some(_) => Err(format!("`{text}`: a quote is not closed")),
        None => Ok(words),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tree::{FileId, read};
    use super::*;

    fn of(text: &str) -> Tree {
        read(FileId(0), &format!("a: {text}\n")).unwrap().remove(0).remove("a").unwrap()
    }

    #[test]
    fn plain_scalars_are_texts_as_compose_writes_them() {
        for (plain, expected) in [
            ("010", "8"),
            ("08", "8"),
            ("0o10", "8"),
            ("0x10", "16"),
            ("0b11", "3"),
            ("1_000", "1000"),
            ("yes", "yes"),
            ("1e3", "1000"),
            ("1.10", "1.1"),
            ("1234567.0", "1.234567e+06"),
            ("22:22", "22:22"),
            ("1.2.3", "1.2.3"),
            ("2026-11-28", "2026-11-28 00:00:00 +0000 UTC"),
            ("\"010\"", "010"),
        ] {
            assert_eq!(text(&of(plain)).unwrap(), expected, "{plain}");
        }
    }

    #[test]
    fn numbers_are_cast() {
        for (text, number) in [("3.0", 3), ("1e1", 10), ("010", 8), ("\"3\"", 3)] {
            assert_eq!(count(&of(text)), Ok(number), "{text}");
        }
        for text in ["-1", "1.5", "three", "[1]"] {
            assert!(count(&of(text)).is_err(), "{text}");
        }
        assert_eq!((boolean(&of("on")), boolean(&of("\"no\""))), (Ok(true), Ok(false)));
        assert!(boolean(&of("1")).is_err() && boolean(&of("t")).is_err());
        assert_eq!((cores(&of("0.5")), cores(&of("\"0.50\""))), (Ok(500), Ok(500)));
        assert!(cores(&of("500m")).is_err());
    }

    /// A plain float is no limit at all for Compose, and a limit is what its author meant.
    #[test]
    fn sizes_are_those_of_docker() {
        for same in ["50M", "50m", "50mb", "50MiB", "\"50 m\"", "52428800"] {
            assert_eq!(size(&of(same)), Ok(50 << 20), "{same}");
        }
        assert_eq!((size(&of("1.5g")), size(&of("100b"))), (Ok(3 << 29), Ok(100)));
        assert_eq!(size(&of("\"1e6\"")), Ok(1_000_000));
        for wrong in ["50Mi", "1gi", "\" 50m\"", "\"\"", "\"50,5m\"", "-5"] {
            assert!(size(&of(wrong)).is_err(), "{wrong}");
        }
        for float in ["1e9", "1.5"] {
            assert!(size(&of(float)).unwrap_err().contains("no limit at all"), "{float}");
        }
    }

    #[test]
    fn durations_are_those_of_go() {
        for (text, seconds) in [("1d12h", 129_600.0), (".5s", 0.5), ("\"0\"", 0.0), ("1m30s", 90.0)]
        {
            assert_eq!(duration(&of(text)).map(|it| it.as_secs_f64()), Ok(seconds), "{text}");
        }
        for wrong in ["90", "\"90\"", "1m 30s", "30S", "-1s"] {
            assert!(duration(&of(wrong)).is_err(), "{wrong}");
        }
    }

    /// Compose runs `a` alone of `a; b`.
    #[test]
    fn command_that_compose_cuts_is_refused() {
        for wrong in ["a; b", "a | b", "a > b", "a & b", "a < b", "a (b)", "a 'b"] {
            assert!(words(&of(&format!("{wrong:?}"))).is_err(), "{wrong}");
        }
        assert_eq!(words(&of("a 'b; c' \"d|e\" f#g #h")).unwrap(), ["a", "b; c", "d|e", "f#g"]);
        assert_eq!(words(&of("\"a #b $(c) *\"")).unwrap(), ["a", "#b", "$(c)", "*"]);
        assert_eq!(words(&of("\"a $(b c) `d e`f\"")).unwrap(), ["a", "$(b c)", "`d e`f"]);
        assert_eq!(words(&of("[a, 010]")).unwrap(), ["a", "8"]);
    }
}
