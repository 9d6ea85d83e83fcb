//! Times as ages, for people.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970 by this machine's clock.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The time from the RFC 3339 time `at` to `now` (milliseconds since 1970): `5s`, `3m`, `2h`, `4d`.
/// `-` for text that is no time; a time ahead, by another device's clock, is `0s`.
pub fn age(at: &str, now: u64) -> String {
    parse(at).map_or_else(|| "-".into(), |at| age_of(at, now))
}

/// The time from `at` to `now`, both in milliseconds since 1970.
pub fn age_of(at: u64, now: u64) -> String {
    let seconds = now.saturating_sub(at) / 1000;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A duration in seconds, as in `1.2s`.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1}s", duration.as_secs_f64())
}

/// Parses `YYYY-MM-DDTHH:MM:SS[.fff]Z` to milliseconds since 1970.
fn parse(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<u64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock = clock.split(':').map(|part| part.parse::<u64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let millis: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(seconds * 1000 + millis)
}

/// Days after 1970-01-01 (Howard Hinnant's `days_from_civil`).
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_protocol::model::WallClock;

    #[test]
    fn protocol_times_are_parsed() {
        for millis in [0, 951_782_400_123, 1_795_219_199_999] {
            assert_eq!(parse(&WallClock(millis).to_string()), Some(millis));
        }
        assert_eq!(parse("2026-11-20T23:59:59Z"), Some(1_795_219_199_000));
        for wrong in
            ["", "yesterday", "2026-13-01T00:00:00Z", "2026-11-20 23:59:59Z", "2026-11-20T23:59Z"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ages_have_one_unit() {
        let at = WallClock(1_000_000_000_000).to_string();
        let after = |seconds: u64| age(&at, 1_000_000_000_000 + seconds * 1000);
        assert_eq!([after(0), after(119), after(120), after(7_199)], ["0s", "119s", "2m", "119m"]);
        assert_eq!([after(7_200), after(172_799), after(172_800)], ["2h", "47h", "2d"]);
        assert_eq!(age(&at, 0), "0s");
        assert_eq!(age("never", 0), "-");
    }
}
