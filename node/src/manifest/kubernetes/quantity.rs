//! Quantities of Kubernetes: `100m`, `64Mi`, `1e3`, exactly.

use std::str::FromStr;

/// An amount in billionths, rounded up as Kubernetes rounds it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Quantity {
    nano: i128,
}

/// A text that is no quantity, and the mend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct NotAQuantity {
    pub message: String,
    pub hint: Option<String>,
}

impl NotAQuantity {
    /// The refusal of a text.
    pub fn of(text: &str) -> NotAQuantity {
        let shown: String = text.chars().take(40).collect();
        let message =
            format!("`{shown}` is no quantity: a number with a unit is expected, as in `64Mi`");
        NotAQuantity { message, hint: None }
    }
}

const NANO: i128 = 1_000_000_000;
/// The greatest amount of Kubernetes; more is taken for it.
const MOST: i128 = i64::MAX as i128 * NANO;

impl Quantity {
    /// A whole number.
    pub const fn whole(number: i64) -> Quantity {
        Quantity { nano: number as i128 * NANO }
    }

    /// The sum of two.
    pub fn plus(self, other: Quantity) -> Quantity {
        Quantity { nano: self.nano.saturating_add(other.nano).min(MOST) }
    }

    /// In whole units, rounded up.
    pub fn bytes(self) -> u64 {
        u64::try_from(up(self.nano, NANO)).unwrap_or_default()
    }

    /// In thousandths, rounded up.
    pub fn millis(self) -> u32 {
        u32::try_from(up(self.nano, NANO / 1_000).max(0)).unwrap_or(u32::MAX)
    }

    /// The number, if it is whole.
    pub fn count(self) -> Option<u64> {
        (self.nano % NANO == 0).then(|| u64::try_from(self.nano / NANO).ok())?
    }

    /// Whether it is less than nothing.
    pub fn is_negative(self) -> bool {
        self.nano < 0
    }

    /// Whether it is a part of one and less than one, which no amount of bytes is.
    pub fn is_fraction(self) -> bool {
        (1..NANO).contains(&self.nano)
    }

    /// How often the other one is in it, rounded up, as the fields of resources are given to
    /// containers.
    pub fn divided(self, by: Quantity) -> i128 {
        up(self.nano, by.nano.max(1))
    }
}

fn up(number: i128, by: i128) -> i128 {
    number.div_euclid(by) + i128::from(number.rem_euclid(by) != 0)
}

/// Units, and their value in billionths.
const UNITS: [(&str, i128); 16] = [
    ("", NANO),
    ("n", 1),
    ("u", 1_000),
    ("m", 1_000_000),
    ("k", 1_000 * NANO),
    ("M", 1_000_000 * NANO),
    ("G", 1_000_000_000 * NANO),
    ("T", 1_000_000_000_000 * NANO),
    ("P", 1_000_000_000_000_000 * NANO),
    ("E", 1_000_000_000_000_000_000 * NANO),
    ("Ki", NANO << 10),
    ("Mi", NANO << 20),
    ("Gi", NANO << 30),
    ("Ti", NANO << 40),
    ("Pi", NANO << 50),
    ("Ei", NANO << 60),
];

impl FromStr for Quantity {
    type Err = NotAQuantity;

    fn from_str(text: &str) -> Result<Quantity, NotAQuantity> {
        let wrong = || NotAQuantity::of(text);
        let trimmed = text.trim();
        let (is_negative, rest) = match trimmed.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, unit) = rest.split_at(end);
        let (whole, part) = number.split_once('.').unwrap_or((number, ""));
        // Kubernetes takes `+` and `.` for 0, and nothing for no quantity.
        if trimmed.is_empty() || part.contains('.') || (number.is_empty() && !unit.is_empty()) {
            return Err(wrong());
        }
        let (unit, exponent) =
            unit_of(unit).ok_or_else(|| NotAQuantity { hint: better(number, unit), ..wrong() })?;
        let part = part.trim_end_matches('0');
        let digits: String = whole.chars().chain(part.chars()).collect();
        let digits = digits.trim_start_matches('0');
        let scale = exponent - i32::try_from(part.len()).map_err(|_| wrong())?;
        let nano = match digits {
            "" => 0,
            digits => scaled(digits, scale, unit).ok_or_else(wrong)?,
        };
        let nano = nano.min(MOST);
        Ok(Quantity { nano: if is_negative { -nano } else { nano } })
    }
}

/// The value of a unit, and its power of ten.
fn unit_of(text: &str) -> Option<(i128, i32)> {
    if let Some((_, value)) = UNITS.iter().find(|(name, _)| *name == text) {
        return Some((*value, 0));
    }
    let exponent = text.strip_prefix(['e', 'E'])?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let is_number = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
    let exponent: i32 = exponent.parse().ok().filter(|_| is_number)?;
    (exponent.abs() <= 40).then_some((NANO, exponent))
}

fn scaled(digits: &str, scale: i32, unit: i128) -> Option<i128> {
    let number: i128 = match digits.len() {
        ..=30 => digits.parse().ok()?,
        _ => return (scale >= 0).then_some(MOST),
    };
    let power = 10i128.checked_pow(scale.unsigned_abs());
    match scale {
        // Too much is the most that there is.
        0.. => {
            let all = power.and_then(|power| number.checked_mul(power));
            Some(all.and_then(|all| all.checked_mul(unit)).unwrap_or(MOST))
        }
        _ => match (power, number.checked_mul(unit)) {
            (Some(power), Some(all)) => Some(up(all, power)),
            (None, _) => Some(1),
            (_, None) => Some(MOST),
        },
    }
}

/// The quantity that was meant by a unit of another tool.
fn better(number: &str, unit: &str) -> Option<String> {
    let bare = unit.trim().trim_end_matches(['B', 'b']);
    let mut letters = bare.chars();
    let first = letters.next()?;
    let binary = match letters.as_str() {
        "" => false,
        "i" | "I" => true,
        _ => return None,
    };
    let upper = first.to_ascii_uppercase();
    if !"KMGTPE".contains(upper) {
        return None;
    }
    let decimal = if upper == 'K' { 'k' } else { upper };
    Some(match binary {
        true => format!("Write `{number}{upper}i`."),
        false => format!(
            "Write `{number}{decimal}` for a power of 1000, or `{number}{upper}i` for one of 1024."
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> u64 {
        text.parse::<Quantity>().unwrap_or_else(|it| panic!("{it:?}")).bytes()
    }

    #[test]
    fn quantities_are_exact() {
        for (text, expected) in [
            ("64Mi", 64 << 20),
            ("1e3", 1000),
            ("1E3", 1000),
            ("1.34217728e+08", 134_217_728),
            ("0.1Ki", 103),
            (".5", 1),
            ("5.", 5),
            ("+1Gi", 1 << 30),
            ("1E", 1_000_000_000_000_000_000),
            ("1Ei", 1 << 60),
            ("9Ei", i64::MAX as u64),
            ("200k", 200_000),
            ("010", 10),
            (" 1Gi ", 1 << 30),
            ("+", 0),
            (".", 0),
            ("1500m", 2),
            ("99999999999999999999999999999999999999", i64::MAX as u64),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
        let millis = |text: &str| text.parse::<Quantity>().unwrap().millis();
        assert_eq!([millis("100m"), millis("0.1"), millis("2")], [100, 100, 2000]);
        assert_eq!([millis("1n"), millis("1u"), millis("0.00000000001n")], [1, 1, 1]);
        assert!("-1".parse::<Quantity>().unwrap().is_negative());
    }

    #[test]
    fn wrong_units_are_answered_with_the_right_ones() {
        for (text, hint) in [
            ("200MB", "Write `200M` for a power of 1000, or `200Mi` for one of 1024."),
            ("200K", "Write `200k` for a power of 1000, or `200Ki` for one of 1024."),
            ("200ki", "Write `200Ki`."),
            ("200mi", "Write `200Mi`."),
            ("512MiB", "Write `512Mi`."),
            ("1 Gi", "Write `1Gi`."),
            ("200g", "Write `200G` for a power of 1000, or `200Gi` for one of 1024."),
        ] {
            let wrong = text.parse::<Quantity>().unwrap_err();
            assert_eq!(wrong.hint.as_deref(), Some(hint), "{text}");
        }
        for text in ["1Zi", "1R", "", "1e", "1e3Mi", "1_000", "0x10", "Mi", "1.2.3", "a"] {
            assert!(text.parse::<Quantity>().is_err(), "{text}");
        }
    }
}
