//! Splits a line into words and parses the values in it.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::Target;

/// The longest duration in a scenario.
const LONGEST: Duration = Duration::from_secs(1_000 * 3_600);
/// The longest duration of a clock jump: a hundred years, in microseconds.
const AGE: f64 = 100.0 * 365.25 * 24.0 * 3_600e6;

/// Why a line was not understood: what it says, and what was expected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NotUnderstood(pub String);

impl fmt::Display for NotUnderstood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The words of one line, read from left to right.
pub struct Words<'a> {
    words: std::iter::Peekable<std::str::SplitWhitespace<'a>>,
}

impl<'a> Words<'a> {
    pub fn of(line: &'a str) -> Self {
        Words { words: line.split_whitespace().peekable() }
    }

    pub fn next(&mut self) -> Option<&'a str> {
        self.words.next()
    }

    /// The next word. The error names `what` as missing.
    pub fn some(&mut self, what: &str) -> Result<&'a str, NotUnderstood> {
        self.words.next().ok_or_else(|| NotUnderstood(format!("{what} is missing")))
    }

    /// Takes the next word if it equals `word`.
    pub fn skip(&mut self, word: &str) -> bool {
        self.words.next_if_eq(&word).is_some()
    }

    /// Fails if a word is left.
    pub fn end(&mut self) -> Result<(), NotUnderstood> {
        match self.words.next() {
            None => Ok(()),
            Some(word) => Err(NotUnderstood(format!("`{word}` is one word too many"))),
        }
    }

    pub fn is_at_end(&mut self) -> bool {
        self.words.peek().is_none()
    }

    pub fn number<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, NotUnderstood> {
        let word = self.some(what)?;
        word.parse().map_err(|_| NotUnderstood(format!("`{word}` is not {what}")))
    }

    /// A number within `range`, both ends included.
    pub fn number_in<T>(&mut self, range: RangeInclusive<T>, what: &str) -> Result<T, NotUnderstood>
    where
        T: std::str::FromStr + PartialOrd + fmt::Display,
    {
        let number = self.number(what)?;
        if range.contains(&number) {
            return Ok(number);
        }
        Err(NotUnderstood(format!(
            "{number} is not {what} from {} to {}",
            range.start(),
            range.end()
        )))
    }

    /// A rate per thousand. Below 1000, because a stream repeats a packet until it arrives.
    pub fn rate(&mut self) -> Result<u32, NotUnderstood> {
        self.number_in(0..=999, "a number of a thousand")
    }

    pub fn target(&mut self) -> Result<Target, NotUnderstood> {
        let word = self.some("a device")?;
        let wrong = || {
            NotUnderstood(format!(
                "`{word}` is no device: `n0`, `any`, `holder:web/0` or `owner:web` are"
            ))
        };
        if word == "any" {
            return Ok(Target::Any);
        }
        if let Some(name) = word.strip_prefix("owner:") {
            return Ok(Target::Owner(name.to_owned()));
        }
        if let Some(replica) = word.strip_prefix("holder:") {
            let (name, index) = replica.split_once('/').ok_or_else(wrong)?;
            return Ok(Target::Holder(name.to_owned(), index.parse().map_err(|_| wrong())?));
        }
        Ok(Target::Node(
            word.strip_prefix('n').and_then(|number| number.parse().ok()).ok_or_else(wrong)?,
        ))
    }

    /// A duration: `200ms`, `5s`, `3m`, `2h`.
    pub fn time(&mut self) -> Result<Duration, NotUnderstood> {
        let word = self.some("a time")?;
        let time = time(word).ok_or_else(|| {
            NotUnderstood(format!("`{word}` is no time: `200ms`, `5s`, `3m` or `2h` is"))
        })?;
        if time > LONGEST {
            return Err(NotUnderstood(format!("`{word}` is longer than {}", in_words(LONGEST))));
        }
        Ok(time)
    }

    /// A duration, in microseconds.
    pub fn micros(&mut self) -> Result<u64, NotUnderstood> {
        self.time().map(|time| time.as_micros() as u64)
    }
}

/// Parses a duration, up to [`AGE`].
pub fn time(word: &str) -> Option<Duration> {
    let unit = word.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = word.split_at(unit);
    let number: f64 = number.parse().ok()?;
    let micros = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 60e6,
        "h" => 3600e6,
        _ => return None,
    };
    let micros = (number * micros).round();
    (micros <= AGE).then(|| Duration::from_micros(micros as u64))
}

/// Formats a duration with the largest unit that divides it.
pub fn in_words(time: Duration) -> String {
    let micros = time.as_micros();
    match micros {
        0 => "0s".into(),
        _ if micros.is_multiple_of(3_600_000_000) => format!("{}h", micros / 3_600_000_000),
        _ if micros.is_multiple_of(60_000_000) => format!("{}m", micros / 60_000_000),
        _ if micros.is_multiple_of(1_000_000) => format!("{}s", micros / 1_000_000),
        _ if micros.is_multiple_of(1_000) => format!("{}ms", micros / 1_000),
        _ => format!("{micros}us"),
    }
}
