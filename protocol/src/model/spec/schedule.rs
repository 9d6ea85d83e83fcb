//! The schedule of a cron workload, as `crontab` and Kubernetes have it: five fields, read in a
//! time zone. It knows no clock: whoever asks says when.
//!
//! **Daylight saving**, as cronie does it. A schedule that names its minutes and hours (no `*` in
//! either) runs once for each wall time: a time that is skipped runs right after the gap, a time
//! that comes twice runs the first time only. A schedule with a `*` there is meant to run at a
//! pace: skipped wall times are left out, and repeated ones run again.

use chrono::{DateTime, LocalResult, NaiveDateTime, TimeDelta, TimeZone};
use chrono_tz::{TZ_VARIANTS, Tz};
use croner::parser::{CronParser, Seconds, Year};

use super::super::nearest::nearest;
use super::InvalidSpec;

/// Bytes of a schedule's text.
const MAX_TEXT: usize = 256;
/// Searches start at a whole second, in milliseconds.
const SECOND: u64 = 1_000;
/// No clock is put back by more than this.
const LONGEST_REPEAT: TimeDelta = TimeDelta::hours(25);
/// Nor put forward by more minutes: Samoa left out a day.
const LONGEST_GAP: i64 = 25 * 60;
/// The texts that stand for five fields.
const NICKNAMES: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// A schedule in its time zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: croner::Cron,
    zone: Tz,
    /// Its minutes and hours are named, so each wall time runs once.
    is_fixed: bool,
}

impl Schedule {
    /// Reads a schedule of five fields, or `@daily` and the like, and the name of a time zone.
    ///
    /// # Errors
    /// It is another dialect, a number is out of range, no day fits, or the zone is not known.
    pub fn new(text: &str, zone: &str) -> Result<Schedule, InvalidSpec> {
        let wrong = |why| InvalidSpec::Kind { field: "schedule", why };
        let zone = read_zone(zone).map_err(|why| InvalidSpec::Kind { field: "timezone", why })?;
        let plain = five_fields(text).map_err(wrong)?;
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed);
        let cron = parser.build().parse(&plain).map_err(|error| wrong(error.to_string()))?;
        let is_fixed = plain.split(' ').take(2).all(|field| !field.contains('*'));
        Ok(Schedule { cron, zone, is_fixed })
    }

    /// The first tick later than this instant, both in milliseconds since 1970. `None` when the
    /// calendar ends.
    pub fn next_after(&self, at: u64) -> Option<u64> {
        if !self.is_fixed {
            let from = self.local(at - at % SECOND)?;
            return millis(self.cron.find_next_occurrence(&from, false).ok()?);
        }
        let at = self.local(at)?;
        let mut wall = at.naive_local();
        loop {
            wall = self.cron.find_next_occurrence(&wall, false).ok()?;
            if let Some(tick) = self.once(wall).filter(|tick| *tick > at) {
                return millis(tick);
            }
        }
    }

    /// The last tick earlier than this instant, both in milliseconds since 1970. `None` if the
    /// first one is later.
    pub fn last_before(&self, at: u64) -> Option<u64> {
        if !self.is_fixed {
            let from = self.local(at.div_ceil(SECOND).checked_mul(SECOND)?)?;
            return millis(self.cron.find_previous_occurrence(&from, false).ok()?);
        }
        let at = self.local(at)?;
        let mut wall = at.naive_local().checked_add_signed(LONGEST_REPEAT)?;
        loop {
            wall = self.cron.find_previous_occurrence(&wall, false).ok()?;
            if let Some(tick) = self.once(wall).filter(|tick| *tick < at) {
                return millis(tick);
            }
        }
    }

    fn local(&self, at: u64) -> Option<DateTime<Tz>> {
        let utc = DateTime::from_timestamp_millis(i64::try_from(at).ok()?)?;
        Some(utc.with_timezone(&self.zone))
    }

    /// The instant at which a wall time runs: the first that shows it, or the end of the gap.
    fn once(&self, wall: NaiveDateTime) -> Option<DateTime<Tz>> {
        (0..=LONGEST_GAP).find_map(|late| {
            let wall = wall.checked_add_signed(TimeDelta::minutes(late))?;
            match self.zone.from_local_datetime(&wall) {
                LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at),
                LocalResult::None => None,
            }
        })
    }
}

fn millis(at: DateTime<Tz>) -> Option<u64> {
    u64::try_from(at.timestamp_millis()).ok()
}

fn read_zone(name: &str) -> Result<Tz, String> {
    if let Ok(zone) = name.parse() {
        return Ok(zone);
    }
    let names = || TZ_VARIANTS.iter().map(|zone| zone.name());
    // People write the city alone.
    let city = |full: &str| full.rsplit('/').next().is_some_and(|it| it.eq_ignore_ascii_case(name));
    let near = names().find(|full| city(full)).or_else(|| nearest(name, names()));
    let hint = match near {
        Some(near) => format!("did you mean `{near}`?"),
        None => "a name of the IANA database is expected, as in `Europe/Berlin` or `UTC`".into(),
    };
    Err(format!("`{name}` is no time zone that this version knows: {hint}"))
}

/// The text as five fields, checked: other dialects read some of them otherwise.
fn five_fields(text: &str) -> Result<String, String> {
    const FORM: &str = "five fields are expected: minute, hour, day of the month, month and day \
                        of the week, as in `*/5 * * * *`";
    if text.len() > MAX_TEXT {
        return Err(format!("{} bytes, at most {MAX_TEXT} are allowed", text.len()));
    }
    let lower = text.trim().to_lowercase();
    if let Some((_, plain)) = NICKNAMES.iter().find(|(name, _)| *name == lower) {
        return Ok((*plain).to_owned());
    }
    if lower.starts_with('@') {
        let why = match lower.split_whitespace().next() {
            Some("@every") => {
                "counts from a start, which a cluster does not have; write a step, as \
                               in `*/5 * * * *` for every five minutes"
            }
            Some("@reboot") => "means the start of a device; `kind: daemon` runs on every node",
            _ => {
                "is not known; there are @hourly, @daily, @midnight, @weekly, @monthly, @yearly \
                  and @annually"
            }
        };
        return Err(format!("`{text}` {why}"));
    }
    if lower.starts_with("tz=") || lower.starts_with("cron_tz=") {
        return Err(format!("`{text}` names a time zone; it has a field of its own"));
    }
    let fields: Vec<&str> = lower.split_whitespace().collect();
    match fields.len() {
        5 => {}
        6 | 7 => {
            let n = fields.len();
            return Err(format!(
                "`{text}` has {n} fields, as schedules with seconds or years do; {FORM}"
            ));
        }
        n => return Err(format!("`{text}` has {n} fields; {FORM}")),
    }
    let mut sets = Vec::new();
    for (field, (name, least, most, names)) in fields.iter().zip(FIELDS) {
        let set = read_field(field, least, most, names)
            .map_err(|why| format!("{name}: `{field}` {why}"))?;
        sets.push(set);
    }
    // Either of two restricted days will do, so a day of the week always comes.
    let longest = (1..=12).filter(|month| sets[3] & (1 << month) != 0).map(days).max();
    if fields[4] == "*" && sets[2].trailing_zeros() > longest.unwrap_or_default() {
        return Err(format!("`{text}` never comes: none of its months has such a day"));
    }
    let weekdays: Vec<String> =
        (0..=7).filter(|day| sets[4] & (1 << day) != 0).map(|day| (day % 7).to_string()).collect();
    let week = if fields[4] == "*" { "*".to_owned() } else { weekdays.join(",") };
    Ok(format!("{} {week}", fields[..4].join(" ")))
}

/// The most days of a month.
fn days(month: u32) -> u32 {
    match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Each field: its name, its least and greatest number, and names for the numbers from the least.
const FIELDS: [(&str, u32, u32, &[&str]); 5] = [
    ("minute", 0, 59, &[]),
    ("hour", 0, 23, &[]),
    ("day of the month", 1, 31, &[]),
    ("month", 1, 12, &MONTHS),
    ("day of the week", 0, 7, &DAYS),
];

/// The numbers of a field, as bits.
fn read_field(field: &str, least: u32, most: u32, names: &[&str]) -> Result<u64, String> {
    let number = |text: &str| -> Result<u32, String> {
        if let Some(index) = (least..).zip(names).find_map(|(n, name)| (*name == text).then_some(n))
        {
            return Ok(index);
        }
        let digits = !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
        let number = text.parse::<u32>().ok().filter(|_| digits);
        number.filter(|it| (least..=most).contains(it)).ok_or_else(|| match names {
            [] => format!("is outside {least} to {most}, or no number"),
            [first, ..] => format!("is outside {least} to {most}, or no name as in `{first}`"),
        })
    };
    let foreign = |c| match c {
        '?' => Some("is Quartz's; write `*`"),
        '#' => Some("names a day of a week of the month, which is not supported"),
        '~' => Some("is drawn at random, and nodes must agree; write a number"),
        '%' => Some("is of crontab's commands, and no part of a schedule"),
        '+' => Some("is not supported"),
        _ => None,
    };
    if let Some(why) = field.chars().find_map(foreign) {
        return Err(why.to_owned());
    }
    let mut bits = 0;
    for item in field.split(',') {
        let of_quartz = |text: &str| {
            let rest = text.trim_start_matches(|it: char| it.is_ascii_digit());
            names.iter().all(|name| *name != text) && matches!(rest, "l" | "w" | "lw")
        };
        if of_quartz(item) {
            return Err("has Quartz's L or W, the last day or the nearest working day, which is \
                        not supported"
                .to_owned());
        }
        if item == "h" || item.starts_with("h/") || item.starts_with("h(") {
            return Err("is Jenkins's H; write a number".to_owned());
        }
        let (range, step) = match item.split_once('/') {
            None => (item, 1),
            Some((range, step)) => {
                let digits = !step.is_empty() && step.bytes().all(|it| it.is_ascii_digit());
                let step = step.parse::<u32>().ok().filter(|it| digits && (1..=most).contains(it));
                (range, step.ok_or_else(|| format!("has a step outside 1 to {most}"))?)
            }
        };
        let (first, last) = match range.split_once('-') {
            None if range == "*" => (least, most.min(if names.len() == 7 { 6 } else { most })),
            None if step != 1 || item.contains('/') => {
                return Err(format!(
                    "is read otherwise by other programs; write `{range}-{most}/{step}`"
                ));
            }
            None => (number(range)?, number(range)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                // A week may end on Sunday.
                let last = if names.len() == 7 && last == 0 && first > 0 { 7 } else { last };
                if first > last {
                    return Err("runs backwards; write two ranges".to_owned());
                }
                (first, last)
            }
        };
        for n in (first..=last).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
            bits |= 1_u64 << n;
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn ms(text: &str) -> u64 {
        DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis().try_into().unwrap()
    }

    fn shown(at: u64) -> String {
        let at = DateTime::from_timestamp_millis(at as i64).unwrap().naive_utc();
        at.to_string().replace(' ', "T").chars().skip("2026-11-".len()).take(8).collect()
    }

    /// The ticks later than `from`, in UTC, and the same ones backwards.
    fn ticks(text: &str, zone: &str, from: &str, n: usize) -> Vec<String> {
        let schedule = Schedule::new(text, zone).unwrap();
        let mut at = ms(from);
        let forwards: Vec<u64> = (0..n)
            .map(|_| {
                at = schedule.next_after(at).unwrap();
                at
            })
            .collect();
        at += 1;
        let mut back: Vec<u64> = (0..n)
            .map(|_| {
                at = schedule.last_before(at).unwrap();
                at
            })
            .collect();
        back.reverse();
        assert_eq!(forwards, back, "{text} in {zone}");
        forwards.into_iter().map(shown).collect()
    }

    fn refusal(text: &str, zone: &str) -> String {
        Schedule::new(text, zone).unwrap_err().to_string()
    }

    #[test]
    fn five_fields_mean_what_crontab_means() {
        let from = "2026-11-30T10:07:31.250Z"; // A Monday.
        let first = |text: &str| ticks(text, "UTC", from, 1).remove(0);
        for (text, tick) in [
            ("*/5 * * * *", "30T10:10"),
            ("7 * * * *", "30T11:07"),
            ("8-10/2,40 9-10 * * *", "30T10:08"),
            ("0 0 1 */2 *", "01T00:00"),
            ("30 6 * DEC Sun", "06T06:30"),
            ("30 6 * 12 7", "06T06:30"),
            ("0 12 * * fri-sun", "04T12:00"),
            ("0 0 24 12 TUE", "01T00:00"), // Either day.
            ("@daily", "01T00:00"),
            ("@Hourly", "30T11:00"),
            ("@weekly", "06T00:00"),
            ("0 0 29 2 *", "29T00:00"),
        ] {
            assert_eq!(first(text), tick, "{text}");
        }
        let leap = Schedule::new("0 0 29 2 *", "UTC").unwrap();
        assert_eq!(leap.next_after(ms(from)), Some(ms("2028-02-29T00:00:00Z")));
    }

    /// A tick is neither after nor before itself, and parts of a second count.
    #[test]
    fn both_ends_are_left_out() {
        for text in ["0 10 * * *", "*/10 * * * *"] {
            let schedule = Schedule::new(text, "UTC").unwrap();
            let tick = ms("2026-11-30T10:00:00Z");
            assert!(schedule.next_after(tick) > Some(tick));
            assert!(schedule.last_before(tick) < Some(tick));
            assert_eq!(schedule.next_after(tick - 1), Some(tick));
            assert_eq!(schedule.last_before(tick + 1), Some(tick));
        }
        let daily = Schedule::new("@daily", "UTC").unwrap();
        assert_eq!(daily.last_before(0), None);
        assert_eq!(daily.next_after(u64::MAX), None);
    }

    /// Berlin, 29 March 2026: 02:00 to 03:00 is skipped, at 01:00 UTC.
    #[test]
    fn skipped_time_runs_once_right_after_the_gap() {
        let berlin = |text| ticks(text, "Europe/Berlin", "2026-03-28T12:00:00Z", 2);
        assert_eq!(berlin("30 2 * * *"), ["29T01:00", "30T00:30"]);
        assert_eq!(berlin("0,30 2 * * *"), ["29T01:00", "30T00:00"]);
        assert_eq!(berlin("0 3 * * *"), ["29T01:00", "30T01:00"]);
        assert_eq!(berlin("0 2,3 * * *"), ["29T01:00", "30T00:00"]);
        let pace = ticks("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:20:00Z", 3);
        assert_eq!(pace, ["29T00:30", "29T01:00", "29T01:30"]);
        let named = ticks("*/30 2 * * *", "Europe/Berlin", "2026-03-29T00:20:00Z", 1);
        assert_eq!(named, ["30T00:00"], "a pace within an hour that is not there");
    }

    /// Berlin, 25 October 2026: 02:00 to 03:00 comes twice, from 00:00 UTC and from 01:00 UTC.
    #[test]
    fn repeated_time_runs_the_first_time_only() {
        let berlin = |text| ticks(text, "Europe/Berlin", "2026-10-24T12:00:00Z", 2);
        assert_eq!(berlin("30 2 * * *"), ["25T00:30", "26T01:30"]);
        assert_eq!(berlin("0,30 2 * * *"), ["25T00:00", "25T00:30"]);
        let pace = ticks("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:50:00Z", 5);
        assert_eq!(pace, ["25T00:00", "25T00:30", "25T01:00", "25T01:30", "25T02:00"]);
        let schedule = Schedule::new("30 2 * * *", "Europe/Berlin").unwrap();
        let between = ms("2026-10-25T01:10:00Z");
        assert_eq!(schedule.next_after(between), Some(ms("2026-10-26T01:30:00Z")));
        assert_eq!(schedule.last_before(between), Some(ms("2026-10-25T00:30:00Z")));
    }

    /// Lord Howe shifts by half an hour: on 4 October 2026 02:00 to 02:30 is skipped (at 15:30 UTC
    /// of the 3rd), on 5 April 01:30 to 02:00 comes twice (from 14:30 and from 15:00 UTC).
    #[test]
    fn shift_of_half_an_hour() {
        let howe = |text, from| ticks(text, "Australia/Lord_Howe", from, 2);
        assert_eq!(howe("15 2 * * *", "2026-10-03T12:00:00Z"), ["03T15:30", "04T15:15"]);
        assert_eq!(howe("45 2 * * *", "2026-10-03T12:00:00Z"), ["03T15:45", "04T15:45"]);
        assert_eq!(howe("45 1 * * *", "2026-04-04T12:00:00Z"), ["04T14:45", "05T15:15"]);
        let pace = ticks("*/15 * * * *", "Australia/Lord_Howe", "2026-04-04T14:29:00Z", 5);
        assert_eq!(pace, ["04T14:30", "04T14:45", "04T15:00", "04T15:15", "04T15:30"]);
    }

    /// A pace goes on in real time, whatever clocks do: over three years of changes.
    #[test]
    fn pace_is_kept_over_every_change() {
        for zone in ["Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns"] {
            let schedule = Schedule::new("0,30 * * * *", zone).unwrap();
            let mut at = ms("2026-01-01T00:00:00Z");
            while at < ms("2029-01-01T00:00:00Z") {
                let next = schedule.next_after(at).unwrap();
                assert_eq!(next - at, HOUR / 2, "{zone} after {}", shown(at));
                assert_eq!(schedule.last_before(next), Some(at));
                at = next;
            }
        }
    }

    /// Samoa left out 30 December 2011.
    #[test]
    fn skipped_day_runs_once() {
        let ticks = ticks("0 8 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 3);
        assert_eq!(ticks, ["29T18:00", "30T10:00", "30T18:00"]);
    }

    #[test]
    fn other_dialects_are_refused_with_the_difference() {
        for (text, why) in [
            ("", "0 fields"),
            ("* * * *", "4 fields; five fields are expected"),
            ("0 */5 * * * *", "6 fields, as schedules with seconds or years do"),
            ("0 0 0 1 1 * 2027", "7 fields"),
            ("@every 5m", "`*/5 * * * *`"),
            ("@reboot", "`kind: daemon`"),
            ("@fortnightly", "@hourly"),
            ("TZ=Europe/Berlin 0 0 * * *", "a field of its own"),
            ("0 0 ? * *", "Quartz's; write `*`"),
            ("0 0 L * *", "day of the month: `l` has Quartz's L or W"),
            ("0 0 15W * *", "Quartz's L or W"),
            ("0 0 * * 5L", "Quartz's L or W"),
            ("0 0 * * mon#2", "a day of a week of the month"),
            ("H * * * *", "Jenkins's H"),
            ("0~30 * * * *", "at random"),
            ("5/15 * * * *", "write `5-59/15`"),
            ("*/0 * * * *", "a step outside 1 to 59"),
            ("60 * * * *", "minute: `60` is outside 0 to 59"),
            ("0 24 * * *", "hour: `24` is outside 0 to 23"),
            ("0 0 0 * *", "day of the month: `0` is outside 1 to 31"),
            ("0 0 * foo *", "month: `foo` is outside 1 to 12, or no name as in `jan`"),
            ("0 0 * * 8", "day of the week: `8` is outside 0 to 7"),
            ("0 22-4 * * *", "runs backwards"),
            ("+5 * * * *", "not supported"),
            ("1,,2 * * * *", "`1,,2` is outside"),
            ("0 0 30 2 *", "never comes"),
            ("0 0 31 2,4,6,9,11 *", "never comes"),
        ] {
            let refusal = refusal(text, "UTC");
            assert!(refusal.starts_with("schedule: ") && refusal.contains(why), "{refusal}");
        }
        assert!(refusal(&"0,".repeat(200), "UTC").contains("at most 256"));
        assert!(Schedule::new("0 0 30 2 mon", "UTC").is_ok(), "either day");
    }

    #[test]
    fn unknown_zone_is_refused_with_the_nearest() {
        let zone = |zone| refusal("@daily", zone);
        let berlin = "timezone: `Europe/Berln` is no time zone that this version knows: did you \
                      mean `Europe/Berlin`?";
        assert_eq!(zone("Europe/Berln"), berlin);
        assert!(zone("Berlin").ends_with("did you mean `Europe/Berlin`?"));
        assert!(zone("").contains("as in `Europe/Berlin` or `UTC`"));
    }
}
