//! Quantities as people write them: `64MiB`, `0.1` cores, `5s`.

use std::time::Duration;

use shoal_protocol::model::spec::{NO_CPU_LIMIT, unit_of_size};

/// A text that is not of the expected form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}")]
pub struct NotAQuantity {
    text: String,
    what: &'static str,
}

/// Bytes: `64MiB`, `64Mi`, `64M` (each in its own sense: `M` is a million), `1.5GiB`, or plain
/// bytes.
pub fn size(text: &str) -> Result<u64, NotAQuantity> {
    let wrong = || NotAQuantity {
        text: text.to_owned(),
        what: "a size: a number with a unit is expected, as in `64MiB`",
    };
    let (number, unit) = split(text);
    let factor = unit_of_size(unit).ok_or_else(wrong)?;
    let thousandths = thousandths(number).ok_or_else(wrong)?;
    thousandths
        .checked_mul(u128::from(factor))
        .and_then(|size| u64::try_from(size / 1000).ok())
        .ok_or_else(wrong)
}

/// Bytes of memory, as [`size`] reads them. So few bytes without a unit are a slip: other tools
/// read such a number as mebibytes.
pub fn memory(text: &str) -> Result<u64, NotAQuantity> {
    let bytes = size(text)?;
    let is_plain = text.trim().bytes().all(|digit| digit.is_ascii_digit());
    if is_plain && (1..LEAST_PLAIN_MEMORY).contains(&bytes) {
        return Err(NotAQuantity {
            text: text.to_owned(),
            what: "an amount of memory: without a unit it is a number of bytes, and so few hold no \
                   program; write the unit, as in `64MiB`",
        });
    }
    Ok(bytes)
}

/// Bytes of disk, as [`size`] reads them; so few bytes without a unit are a slip, as of memory.
pub fn disk(text: &str) -> Result<u64, NotAQuantity> {
    memory(text).map_err(|wrong| match size(text) {
        Ok(_) => NotAQuantity {
            what: "an amount of disk: without a unit it is a number of bytes; write the unit, as \
                   in `1GiB`",
            ..wrong
        },
        Err(_) => wrong,
    })
}

/// Bytes of memory that nobody means who writes fewer without a unit.
const LEAST_PLAIN_MEMORY: u64 = 1 << 20;

/// Thousandths of a core: `0.1` (cores) or `100m`.
pub fn cpu(text: &str) -> Result<u32, NotAQuantity> {
    let wrong = || NotAQuantity {
        text: text.to_owned(),
        what: "an amount of CPU: cores as in `0.1`, or thousandths as in `100m`",
    };
    let (number, unit) = split(text);
    let value = match unit {
        "" => thousandths(number),
        "m" => number.parse().ok(),
        _ => None,
    };
    value.and_then(|value| u32::try_from(value).ok()).ok_or_else(wrong)
}

/// A count: decimal digits alone. `+2` and `-2` ask for a change of a number, and some readers of
/// YAML take `010` for eight: such texts are refused instead of guessed.
pub fn count(text: &str) -> Result<u32, NotAQuantity> {
    let wrong = || NotAQuantity {
        text: text.to_owned(),
        what: "a number: digits alone are expected, as in `2`, with no sign, unit or leading zero",
    };
    let plain =
        text.bytes().all(|digit| digit.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain).ok_or_else(wrong)
}

/// A duration: `500ms`, `5s`, `2m`, `1h`, `90d`.
pub fn duration(text: &str) -> Result<Duration, NotAQuantity> {
    let wrong = || NotAQuantity {
        text: text.to_owned(),
        what: "a duration: a number with a unit is expected, as in `5s`, `500ms` or `2m`",
    };
    let (number, unit) = split(text);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 24 * 3_600_000,
        _ => return Err(wrong()),
    };
    let thousandths = thousandths(number).ok_or_else(wrong)?;
    // The bound is longer than any sensible wait, and keeps sums of durations far from overflow.
    const YEAR: u64 = 366 * 24 * 3_600_000;
    let total = u64::try_from(thousandths.saturating_mul(millis) / 1000).unwrap_or(u64::MAX);
    if total <= YEAR { Ok(Duration::from_millis(total)) } else { Err(wrong()) }
}

/// `67108864` as `64 MiB`: the largest unit that leaves at most one decimal.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 6] = [
        ("EiB", 1 << 60),
        ("PiB", 1 << 50),
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    let Some((unit, size)) = UNITS.iter().find(|(_, size)| bytes >= *size) else {
        return format!("{bytes} B");
    };
    let tenths = (u128::from(bytes) * 10 + u128::from(size / 2)) / u128::from(*size);
    if tenths % 10 == 0 {
        format!("{} {unit}", tenths / 10)
    } else {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

/// `100` thousandths as `0.1`.
pub fn show_cpu(millis: u32) -> String {
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The most CPU of a replica in words: `0.5 of a core`, or that there is no limit.
pub fn show_cpu_limit(millis: u32) -> String {
    match millis {
        NO_CPU_LIMIT.. => "any CPU that is free".to_owned(),
        _ => format!("{} of a core", show_cpu(millis)),
    }
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim_start())
}

/// A decimal number in thousandths, exactly; `None` for more than three decimals, a sign, or no
/// number.
fn thousandths(number: &str) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && part.is_empty()) || part.len() > 3 || part.contains('.') {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
    let part: u128 = format!("{part:0<3}").parse().ok()?;
    Some(whole * 1000 + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_exactly() {
        assert_eq!(size("64MiB"), Ok(64 << 20));
        assert_eq!(size("64Mi"), Ok(64 << 20));
        assert_eq!(size("64M"), Ok(64_000_000));
        assert_eq!(size("1.5 GiB"), Ok(3 << 29));
        assert_eq!(size("4096"), Ok(4096));
        // Kubernetes and Docker have the greater ones, too.
        assert_eq!(size("1PiB"), size("1024TiB"));
        assert_eq!([size("1Pi"), size("2EiB")], [Ok(1 << 50), Ok(2 << 60)]);
        assert_eq!([size("1T"), size("1TB")], [Ok(1_000_000_000_000), Ok(1_000_000_000_000)]);
        assert_eq!(size("3PB"), size("3000T"));
        assert_eq!(size("3P"), Ok(3_000_000_000_000_000));
        assert_eq!(size("1E"), Ok(1_000_000_000_000_000_000));
        for wrong in [
            "",
            "MiB",
            "-1M",
            "64 furlongs",
            "1.2.3M",
            "99999999999999999999",
            "18446744073709551615G",
            "16EiB",
            "1e3",
            "é",
        ] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    /// `--memory 64` was 64 bytes, and the refusal spoke of 6 MiB.
    #[test]
    fn few_bytes_of_memory_need_a_unit() {
        assert_eq!(memory("64MiB"), Ok(64 << 20));
        assert_eq!(memory("67108864"), Ok(64 << 20));
        assert_eq!(memory("64B"), Ok(64), "that is what it says");
        let error = memory("64").unwrap_err().to_string();
        assert!(error.starts_with("`64` is not an amount of memory"), "{error}");
        assert!(error.ends_with("write the unit, as in `64MiB`"), "{error}");
    }

    #[test]
    fn cpu_is_cores_or_thousandths() {
        assert_eq!(cpu("0.1"), Ok(100));
        assert_eq!(cpu(".25"), Ok(250));
        assert_eq!(cpu("100m"), Ok(100));
        assert_eq!(cpu("2"), Ok(2000));
        assert!(cpu("0.1m").is_err());
        assert!(cpu("lots").is_err());
        assert_eq!(
            cpu("lots").unwrap_err().to_string(),
            "`lots` is not an amount of CPU: cores as in `0.1`, or thousandths as in `100m`"
        );
    }

    /// `+2`, `2.0`, `0x2` and the like mean different things to different readers: only plain
    /// digits are taken.
    #[test]
    fn a_number_is_digits_alone() {
        assert_eq!([count("0"), count("3"), count("10000")], [Ok(0), Ok(3), Ok(10_000)]);
        for wrong in [
            "",
            "+2",
            "-2",
            " 2",
            "2 ",
            "02",
            "2.0",
            "1e3",
            "2k",
            "1_000",
            "0x2",
            "4294967296",
            "٣",
        ] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("5").is_err());
        assert!(duration("999999999h").is_err());
    }

    #[test]
    fn shown_sizes_parse_back() {
        for bytes in [0, 1023, 1024, 64 << 20, 3 << 29, 1 << 40, 3 << 50, u64::MAX / 2] {
            let read = size(&show_size(bytes)).unwrap();
            assert!(read.abs_diff(bytes) * 20 <= bytes, "{bytes} came back as {read}");
        }
        assert_eq!(show_size(64 << 20), "64 MiB");
        assert_eq!(show_size(1_610_612_736), "1.5 GiB");
        assert_eq!(show_size(1 << 50), "1 PiB");
        assert_eq!(show_size(1), "1 B");
        assert_eq!(show_cpu(100), "0.1");
        assert_eq!(show_cpu(2000), "2");
        assert_eq!(show_cpu(1250), "1.25");
        assert_eq!(show_cpu_limit(1250), "1.25 of a core");
        assert_eq!(show_cpu_limit(NO_CPU_LIMIT), "any CPU that is free");
    }
}
