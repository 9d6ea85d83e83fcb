//! The amounts that rules compare: numbers with a unit, and versions.

use std::cmp::Ordering;

/// An amount that can be compared with one of its own kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Amount {
    /// In thousandths.
    Number(u64),
    /// Its numbers, and what stands behind a `-`.
    Version(Vec<u64>, String),
}

/// The text is no amount.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum NotAnAmount {
    #[error("a number is expected, as in `2`, `0.5` or `2GiB`, and not `{0}`")]
    NoNumber(String),
    #[error("`{0}` is negative, and no node has less than nothing")]
    Negative(String),
    #[error("`{0}` is no unit; known are KiB, MiB, GiB, TiB, kB, MB, GB, TB, B and m")]
    Unit(String),
    #[error("{0} is more than any node has")]
    TooMuch(String),
    #[error("a version is expected, as in `1.2.0`, and not `{0}`")]
    NoVersion(String),
}

/// Units of sizes, in lower case, and the bytes of one.
const UNITS: [(&str, u64); 26] = [
    ("", 1),
    ("b", 1),
    ("k", 1_000),
    ("kb", 1_000),
    ("m", 1_000_000),
    ("mb", 1_000_000),
    ("g", 1_000_000_000),
    ("gb", 1_000_000_000),
    ("t", 1_000_000_000_000),
    ("tb", 1_000_000_000_000),
    ("p", 1_000_000_000_000_000),
    ("pb", 1_000_000_000_000_000),
    ("e", 1_000_000_000_000_000_000),
    ("eb", 1_000_000_000_000_000_000),
    ("ki", 1 << 10),
    ("kib", 1 << 10),
    ("mi", 1 << 20),
    ("mib", 1 << 20),
    ("gi", 1 << 30),
    ("gib", 1 << 30),
    ("ti", 1 << 40),
    ("tib", 1 << 40),
    ("pi", 1 << 50),
    ("pib", 1 << 50),
    ("ei", 1 << 60),
    ("eib", 1 << 60),
];

/// Bytes of the greatest unit of a rule. Nodes of an older program know no greater one, and all
/// nodes must judge a rule alike.
const GREATEST_OF_A_RULE: u64 = 1 << 40;

/// How many bytes a unit of a size has, as in `MiB`, `Mi` (the same), `MB` and `M` (a million);
/// none for a text that is no unit. Upper and lower case are the same.
pub fn unit_of_size(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_lowercase();
    UNITS.iter().find(|(name, _)| *name == unit).map(|(_, bytes)| *bytes)
}

/// Bytes of an amount.
const MAX_AMOUNT: usize = 63;

impl Amount {
    /// Reads the amount of a label or fact: a version, if its name ends in that word.
    pub(super) fn parse(name: &str, text: &str) -> Result<Amount, NotAnAmount> {
        let short = || text.chars().take(MAX_AMOUNT).collect::<String>();
        let is_version = name.rsplit(['.', '/', '-', '_']).next() == Some("version");
        match is_version {
            _ if text.len() > MAX_AMOUNT => Err(NotAnAmount::NoNumber(short())),
            true => version(text).ok_or_else(|| NotAnAmount::NoVersion(short())),
            false => number(text),
        }
    }

    /// How it stands to another one; `None` if they are of different kinds.
    pub(super) fn order(&self, other: &Amount) -> Option<Ordering> {
        match (self, other) {
            (Amount::Number(a), Amount::Number(b)) => Some(a.cmp(b)),
            (Amount::Version(a, early), Amount::Version(b, late)) => {
                let longest = a.len().max(b.len());
                let at = |list: &[u64], at: usize| list.get(at).copied().unwrap_or_default();
                let numbers = (0..longest).map(|i| at(a, i).cmp(&at(b, i)));
                let order = numbers.fold(Ordering::Equal, Ordering::then);
                // `1.0.0-rc1` comes before `1.0.0`.
                let ends = (early.is_empty(), early).cmp(&(late.is_empty(), late));
                Some(order.then(ends))
            }
            _ => None,
        }
    }
}

fn number(text: &str) -> Result<Amount, NotAnAmount> {
    let text = text.trim();
    let digits = |c: char| c.is_ascii_digit() || c == '.';
    if text.strip_prefix('-').is_some_and(|rest| rest.trim_start().starts_with(digits)) {
        return Err(NotAnAmount::Negative(text.into()));
    }
    let (number, unit) = text.split_at(text.find(|c| !digits(c)).unwrap_or(text.len()));
    let unit = unit.trim();
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let is_number = !(part.contains('.') || whole.is_empty() && part.is_empty());
    if !is_number || part.len() > 9 {
        return Err(NotAnAmount::NoNumber(text.into()));
    }
    let factor = match unit {
        // A thousandth, and not a million: facts that are no sizes have it.
        "m" => 1,
        _ => match unit_of_size(unit).filter(|bytes| *bytes <= GREATEST_OF_A_RULE) {
            Some(factor) => u128::from(factor) * 1_000,
            None => return Err(NotAnAmount::Unit(unit.into())),
        },
    };
    let too_much = || NotAnAmount::TooMuch(text.into());
    // A number of digits alone that does not parse is too long.
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| too_much())? };
    let nano: u64 = format!("{part:0<9}").parse().map_err(|_| too_much())?;
    let thousandths = u128::from(whole) * factor + u128::from(nano) * factor / 1_000_000_000;
    u64::try_from(thousandths).map(Amount::Number).map_err(|_| too_much())
}

fn version(text: &str) -> Option<Amount> {
    let text = text.trim().trim_start_matches('v');
    let text = text.split('+').next().unwrap_or(text);
    let (numbers, early) = text.split_once('-').unwrap_or((text, ""));
    let numbers: Option<Vec<u64>> = numbers
        .split('.')
        .map(|it| it.bytes().all(|b| b.is_ascii_digit()).then(|| it.parse().ok())?)
        .collect();
    Some(Amount::Version(numbers?, early.to_owned()))
}
