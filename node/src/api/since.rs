//! From which instant on lines are wanted.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use super::logs::rfc3339;
use crate::manifest::quantity;

/// `10m` ago, or an instant as in `2026-11-29T18:00:00Z`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Since {
    /// This long before now, by the clock of the node that runs the replica.
    Ago(Duration),
    /// From this instant in UTC on; its end may be left out.
    At(String),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(ago) = ago(text) {
            return Ok(Since::Ago(ago));
        }
        if let Some(at) = unix(text) {
            let text = rfc3339(at);
            return Ok(Since::At(text.strip_suffix('Z').unwrap_or(&text).to_owned()));
        }
        let instant = text.strip_suffix('Z').unwrap_or(text);
        // The form of the lines' own instants, or the begin of it.
        let fits = |(at, c): (usize, char)| match at {
            4 | 7 => c == '-',
            10 => c == 'T',
            13 | 16 => c == ':',
            19 => c == '.',
            _ => c.is_ascii_digit(),
        };
        match instant.len() >= 4 && instant.char_indices().all(fits) {
            true => Ok(Since::At(instant.to_owned())),
            false => Err(format!(
                "`{text}` is neither a duration, as in 10m or 1h30m, nor an instant in UTC, as in \
                 2026-11-29T18:00:00Z, nor seconds since 1970"
            )),
        }
    }
}

/// One duration or several after one another, as in `1h30m`.
fn ago(text: &str) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| c.is_ascii_alphabetic())?;
        let (_, from_unit) = rest.split_at(unit);
        let length = from_unit.find(|c: char| !c.is_ascii_alphabetic());
        let (part, after) = rest.split_at(unit + length.unwrap_or(from_unit.len()));
        sum = sum.checked_add(quantity::duration(part).ok()?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

/// Seconds since 1970, as `date +%s` has them, with or without a fraction. Fewer digits may be a
/// year.
fn unix(text: &str) -> Option<SystemTime> {
    let seconds = text.split_once('.').map_or(text, |(seconds, _)| seconds);
    if !(9..=11).contains(&seconds.len()) || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
    {
        return None;
    }
    let since = Duration::try_from_secs_f64(text.parse().ok()?).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Since::Ago(ago) => write!(f, "{}s", ago.as_secs()),
            Since::At(instant) => f.write_str(instant),
        }
    }
}

impl Since {
    /// Whether a line of this instant is wanted at `now`.
    pub(super) fn wants(&self, at: SystemTime, now: SystemTime) -> bool {
        match self {
            Since::Ago(ago) => now.duration_since(at).is_ok_and(|age| age <= *ago) || at > now,
            Since::At(instant) => rfc3339(at).as_str() >= instant.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_chosen_by_age_or_instant() {
        let at = |seconds| std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        let wants = |text: &str, line| text.parse::<Since>().unwrap().wants(at(line), at(1000));
        assert!(wants("10m", 400) && !wants("10m", 399) && wants("10m", 1001));
        // 600 seconds after the epoch.
        assert!(wants("1970-01-01T00:10:00Z", 600) && !wants("1970-01-01T00:10:00Z", 599));
        assert!(wants("1970-01-01", 0) && wants("1970", 0) && !wants("1971", 1000));
        // As `date +%s` and docker have them.
        let of = |text: &str| text.parse::<Since>().unwrap().to_string();
        assert_eq!((of("1h30m").as_str(), of("1m30s").as_str()), ("5400s", "90s"));
        let instant = of("1700000000");
        assert!(instant.starts_with("2023-11-14T22:13:20"), "{instant}");
        assert_eq!(of(&instant), instant, "it is passed on to other nodes");
        assert!(wants("100000000", 100_000_000) && !wants("100000000", 99_999_999));
        for bad in ["1h30", "h", "1700000000x", "1.2.3"] {
            assert!(bad.parse::<Since>().is_err(), "{bad}");
        }
        for bad in ["", "yesterday", "10", "2026-11-29 18:00", "2026-11-29T18:00:00+01:00"] {
            assert!(bad.parse::<Since>().is_err(), "{bad}");
        }
        for text in ["600s", "2026-11-29T18:00:00"] {
            assert_eq!(text.parse::<Since>().unwrap().to_string(), text);
        }
    }
}
