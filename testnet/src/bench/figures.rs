//! Measured values and how they are shown.

use std::fmt::Write;

use serde::Serialize;

/// The measured values of a case.
#[derive(Clone, Debug)]
pub(super) struct Figures {
    pub(super) bench: &'static str,
    pub(super) case: &'static str,
    pub(super) unit: &'static str,
    /// The goal in words; it is not judged here.
    pub(super) goal: &'static str,
    pub(super) values: Vec<f64>,
    /// The other program that was measured in turn.
    pub(super) against: Option<Against>,
}

/// The p50 of another program in the same run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Against {
    /// Name of the program, as in `swarm`.
    pub(super) name: &'static str,
    pub(super) p50: f64,
}

impl Figures {
    /// The value that `percent` of the values do not exceed (nearest rank); NaN without values.
    pub(super) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    #[cfg(test)]
    pub(super) fn json(&self) -> String {
        self.shown().json()
    }

    /// The figures as they are printed.
    pub(super) fn shown(&self) -> Shown<'_> {
        let against = self.against.map(|against| (against.name, against.p50));
        Shown { figures: self, p50: self.percentile(50), against }
    }

    fn four(&self) -> [f64; 4] {
        [self.percentile(50), self.percentile(99), self.percentile(0), self.percentile(100)]
    }
}

/// Figures as they are printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shown<'a> {
    pub(super) figures: &'a Figures,
    /// The p50 of all values, or the median of several rounds' p50s.
    pub(super) p50: f64,
    /// Name and p50 of the other program that was measured in turn.
    pub(super) against: Option<(&'a str, f64)>,
}

impl Shown<'_> {
    /// A line of JSON for programs.
    pub(super) fn json(&self) -> String {
        let [_, p99, min, max] = self.figures.four().map(rounded);
        let Figures { bench, case, unit, .. } = *self.figures;
        let (n, p50) = (self.figures.values.len(), rounded(self.p50));
        let against = self.against.map(|(name, _)| name);
        let line = Line { bench, case, unit, n, p50, p99, min, max, against, ratio: self.ratio() };
        serde_json::to_string(&line).expect("words and numbers are always JSON")
    }

    /// Our p50 divided by the other program's.
    fn ratio(&self) -> Option<f64> {
        self.against.map(|(_, theirs)| significant(self.p50 / theirs))
    }
}

/// The fields that programs read, in an order for people.
#[derive(Serialize)]
struct Line<'a> {
    bench: &'static str,
    case: &'static str,
    unit: &'static str,
    n: usize,
    p50: f64,
    p99: f64,
    min: f64,
    max: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
}

/// Rounds to three decimals, which is finer than any clock here.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// Rounds to three significant digits.
fn significant(value: f64) -> f64 {
    if !value.is_normal() {
        return value;
    }
    // Printed and parsed, since a multiplication would leave further digits.
    format!("{value:.2e}").parse().expect("a number that was printed as one")
}

/// A table for people.
pub(super) fn table<'a>(all: impl IntoIterator<Item = Shown<'a>>) -> String {
    let mut table = format!(
        "{:<17} {:<14} {:>5} {:>10} {:>10} {:>10} {:>10}  {:<8} goal\n",
        "bench", "case", "n", "p50", "p99", "min", "max", "unit"
    );
    for shown in all {
        let [_, p99, min, max] = shown.figures.four();
        let digits = |value: f64| format!("{value:.*}", if value < 10.0 { 3 } else { 1 });
        let [p50, p99, min, max] = [shown.p50, p99, min, max].map(digits);
        let Figures { bench, case, unit, goal, values, .. } = shown.figures;
        let beside = shown
            .against
            .zip(shown.ratio())
            .map(|((name, _), ratio)| format!("; {ratio} of {name}'s p50"));
        let beside = beside.unwrap_or_default();
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            table,
            "{bench:<17} {case:<14} {:>5} {p50:>10} {p99:>10} {min:>10} {max:>10}  {unit:<8} \
                {goal}{beside}",
            values.len()
        );
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(values: Vec<f64>) -> Figures {
        Figures {
            bench: "failover",
            case: "kill",
            unit: "ms",
            goal: "p50 200",
            values,
            against: None,
        }
    }

    /// Nearest rank: nothing is interpolated.
    #[test]
    fn percentiles_are_measured_values() {
        let hundred = figures((1..=100).rev().map(f64::from).collect());
        assert_eq!(hundred.four(), [50.0, 99.0, 1.0, 100.0]);
        assert_eq!(figures(vec![7.0]).four(), [7.0; 4]);
        // Of thirty values the greatest is the 99th percentile.
        assert_eq!(figures((1..=30).map(f64::from).collect()).percentile(99), 30.0);
    }

    #[test]
    fn json_line_has_its_fixed_fields() {
        let expected = concat!(
            r#"{"bench":"failover","case":"kill","unit":"ms","n":2,"#,
            r#""p50":212.0,"p99":501.0,"min":212.0,"max":501.0}"#
        );
        assert_eq!(figures(vec![212.0004, 501.0]).json(), expected);
    }

    #[test]
    fn ratio_is_ours_by_theirs_and_readable_when_small() {
        let against = Some(Against { name: "swarm", p50: 16_000.0 });
        let ours = Figures { against, ..figures(vec![27.0]) };
        assert!(
            ours.json().ends_with(r#""max":27.0,"against":"swarm","ratio":0.00169}"#),
            "{}",
            ours.json()
        );
        assert!(table([ours.shown()]).ends_with("p50 200; 0.00169 of swarm's p50\n"));
        assert_eq!(
            [significant(1234.0), significant(0.123_456), significant(0.0)],
            [1230.0, 0.123, 0.0]
        );
    }
}
