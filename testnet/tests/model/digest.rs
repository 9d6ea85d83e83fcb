//! Decides when two states are equal: by their `Debug` text, without the parts that cannot
//! influence the future.
//!
//! Times count from now, so that a longer history gives the same state; times long past are all
//! equal. Batches count from the last durable one. Configuration, the random generator (it orders
//! questions and spreads delays) and the notes for `explain` are left out.

use std::hash::{DefaultHasher, Hasher};

use shoal_protocol::model::Time;

/// How far back a time can matter: no rule looks back further.
const PAST_MICROS: i128 = 120_000_000;

/// `Debug` blocks that cannot influence the future.
const LEFT_OUT: [&str; 5] = ["Summary {", "Config {", "ChaCha8Rng", "summaries: [", "KeyPair("];

/// The digest of a `Debug` text, as seen at `now` with all batches up to `stored` durable.
pub fn of_text(text: &str, now: Time, stored: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    walk(text.as_bytes(), now, stored, &mut |bytes| hasher.write(bytes));
    hasher.finish()
}

fn walk(text: &[u8], now: Time, stored: u64, put: &mut dyn FnMut(&[u8])) {
    let (mut at, mut from) = (0, 0);
    while at < text.len() {
        let begins = matches!(text[at], b'T' | b'P' | b'S' | b'C' | b's' | b'K')
            && (at == 0 || !(text[at - 1].is_ascii_alphanumeric() || text[at - 1] == b'_'));
        if !begins {
            at += 1;
            continue;
        }
        let rest = &text[at..];
        if let Some((micros, end)) = number(rest, b"Time(") {
            put(&text[from..at]);
            let ahead = (i128::from(micros) - i128::from(now.as_micros())).max(-PAST_MICROS);
            put(&ahead.to_le_bytes());
            (at, from) = (at + end, at + end);
        } else if let Some((batch, end)) = number(rest, b"PersistId(") {
            put(&text[from..at]);
            put(&batch.saturating_sub(stored).to_le_bytes());
            (at, from) = (at + end, at + end);
        } else if let Some(opening) =
            LEFT_OUT.iter().find(|opening| rest.starts_with(opening.as_bytes()))
        {
            put(&text[from..at]);
            let end = at + block(&rest[opening.len() - 1..]) + opening.len() - 1;
            (at, from) = (end, end);
        } else {
            at += 1;
        }
    }
    put(&text[from..]);
}

/// The number after `name`, and the length of both with the closing bracket.
fn number(rest: &[u8], name: &[u8]) -> Option<(u64, usize)> {
    let digits = rest.strip_prefix(name)?;
    let len = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    let value = std::str::from_utf8(&digits[..len]).ok()?.parse().ok()?;
    Some((value, name.len() + len + 1))
}

/// The length of the block that opens with the first bracket.
fn block(rest: &[u8]) -> usize {
    let mut depth = 0;
    for (at, byte) in rest.iter().enumerate() {
        match byte {
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' => {
                depth -= 1;
                if depth <= 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    rest.len()
}

/// A state that waits equally long at another time must count as the same state.
#[test]
fn digest_is_the_same_later() {
    let at = |now: u64, text: &str| of_text(text, Time::from_micros(now), 0);
    assert_eq!(at(5, "a { until: Time(7) }"), at(6, "a { until: Time(8) }"));
    assert_ne!(at(5, "a { until: Time(7) }"), at(5, "a { until: Time(8) }"));
    assert_eq!(at(5, "a { Summary { at: [1, (2)] }, 3 }"), at(5, "a { Summary { }, 3 }"));
    assert_ne!(at(5, "a { Summary { at: 1 }, 3 }"), at(5, "a { Summary { at: 1 }, 4 }"));
}
