//! Rounds of two programs in turn, and the ratios of their figures.

use anyhow::Result;
use serde::Deserialize;

use super::figures::{Figures, Shown};

/// A case of the older commit, from one of its lines for programs. Other fields are ignored: they
/// differ between versions.
#[derive(Clone, PartialEq, Debug, Deserialize)]
pub(super) struct BaselineCase {
    bench: String,
    case: String,
    unit: String,
    /// Null where nothing was measured.
    p50: Option<f64>,
}

impl BaselineCase {
    /// Parses a line of output; none when it is a line for people.
    pub(super) fn of_line(line: &str) -> Option<Self> {
        serde_json::from_str(line.trim()).ok()
    }
}

/// A case, over all rounds.
#[derive(Debug)]
pub(super) struct Compared {
    /// The values of all rounds.
    ours: Figures,
    /// The median of the rounds' p50s.
    p50: f64,
    /// The same of the older commit; none where it has no such case, or where there is no ratio.
    theirs: Option<f64>,
}

/// Runs both `rounds` times, the older one first. They alternate, so that other load on the machine
/// affects both.
pub(super) fn in_turn(
    rounds: u32,
    mut theirs: impl FnMut() -> Result<Vec<BaselineCase>>,
    mut ours: impl FnMut() -> Result<Vec<Figures>>,
) -> Result<Vec<Compared>> {
    let (mut all_ours, mut all_theirs) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        println!("round {round}/{rounds}: the older commit");
        all_theirs.extend(theirs()?);
        println!("round {round}/{rounds}: today's");
        all_ours.extend(ours()?);
    }
    Ok(compared(all_ours, &all_theirs))
}

/// Matches cases by bench, name and unit: milliseconds by microseconds is no ratio.
fn compared(ours: Vec<Figures>, theirs: &[BaselineCase]) -> Vec<Compared> {
    let mut all: Vec<(Figures, Vec<f64>)> = Vec::new();
    for figures in ours {
        let p50 = figures.percentile(50);
        let key = |it: &Figures| (it.bench, it.case, it.unit);
        match all.iter_mut().find(|(known, _)| key(known) == key(&figures)) {
            Some((known, p50s)) => {
                known.values.extend(figures.values);
                p50s.push(p50);
            }
            None => all.push((figures, vec![p50])),
        }
    }
    let beside = |(ours, p50s): (Figures, Vec<f64>)| {
        let same = theirs
            .iter()
            .filter(|it| (&*it.bench, &*it.case, &*it.unit) == (ours.bench, ours.case, ours.unit));
        let p50 = median(p50s);
        let theirs = Some(median(same.filter_map(|it| it.p50).collect()));
        let theirs = theirs.filter(|theirs| (p50 / theirs).is_finite());
        Compared { ours, p50, theirs }
    };
    all.into_iter().map(beside).collect()
}

/// The middle value, or the mean of the two in the middle; NaN without values.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (None, _) => f64::NAN,
        (Some(value), 1) => *value,
        (Some(upper), _) => {
            values.get(middle - 1).map_or(*upper, |lower| f64::midpoint(*lower, *upper))
        }
    }
}

impl Compared {
    /// As printed, with the ratio to the commit, or to Swarm where the commit has no such case.
    pub(super) fn shown<'a>(&'a self, commit: &'a str) -> Shown<'a> {
        let own = self.ours.shown();
        Shown {
            p50: self.p50,
            against: self.theirs.map(|theirs| (commit, theirs)).or(own.against),
            ..own
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::figures::{Against, table};

    fn figures(case: &'static str, unit: &'static str, values: &[f64]) -> Figures {
        Figures {
            bench: "publish",
            case,
            unit,
            goal: "p50 10 ms",
            values: values.to_vec(),
            against: None,
        }
    }

    /// Output of an older commit, with a field and a line that this program does not know.
    const RECORDED: &str = concat!(
        r#"building the daemon for release and the example component
measuring /t/release/shoal on 2 cores, x86_64, load 0.31 (on a busy machine the figures are worse)
  warm: done

bench      case             n        p50        p99        min        max  unit     goal
publish    warm             3       11.0       13.1       10.2       13.1  ms       p50 10 ms

{"bench":"publish","case":"warm","unit":"ms","n":3,"#,
        r#""p50":11.0,"p99":13.1,"min":10.2,"max":13.1,"cores":2}
{"bench":"publish","case":"cold","unit":"ms","n":3,"#,
        r#""p50":80.0,"p99":90.0,"min":70.0,"max":90.0,"against":"swarm","ratio":0.1}
{"bench":"publish","case":"none","unit":"ms","n":0,"p50":null,"p99":null,"min":null,"max":null}
{"other":"line"}
{"bench":"publish"
"#
    );

    fn recorded() -> Vec<BaselineCase> {
        RECORDED.lines().filter_map(BaselineCase::of_line).collect()
    }

    #[test]
    fn json_lines_are_read_and_others_skipped() {
        let read = recorded();
        let cases: Vec<(&str, Option<f64>)> = read.iter().map(|it| (&*it.case, it.p50)).collect();
        assert_eq!(cases, [("warm", Some(11.0)), ("cold", Some(80.0)), ("none", None)]);
    }

    /// Three rounds, the older commit first in each. A case has no ratio where the units differ, or
    /// where the older commit measured nothing or has no such case.
    #[test]
    fn ratio_is_of_medians_of_same_case_and_unit() {
        let mut turns = Vec::new();
        let their_p50s = [11.0, 30.0, 10.0];
        let mut round = 0;
        let all = {
            let turns = std::cell::RefCell::new(&mut turns);
            in_turn(
                3,
                || {
                    turns.borrow_mut().push('A');
                    let mut theirs = recorded();
                    theirs[0].p50 = Some(their_p50s[round]);
                    round += 1;
                    Ok(theirs)
                },
                || {
                    turns.borrow_mut().push('B');
                    let n = turns.borrow().len() as f64;
                    Ok(vec![
                        figures("warm", "ms", &[20.0 + n, 22.0 + n]),
                        figures("cold", "us", &[80.0]),
                        figures("none", "ms", &[1.0]),
                        figures("new", "ms", &[5.0]),
                    ])
                },
            )
            .unwrap()
        };
        assert_eq!(turns, ['A', 'B', 'A', 'B', 'A', 'B']);
        let lines: Vec<String> = all.iter().map(|it| it.shown("HEAD~20").json()).collect();
        // The rounds' p50s are 22, 24, 26 by 10, 11, 30.
        let warm = concat!(
            r#"{"bench":"publish","case":"warm","unit":"ms","n":6,"p50":24.0,"p99":28.0,"#,
            r#""min":22.0,"max":28.0,"against":"HEAD~20","ratio":2.18}"#
        );
        assert_eq!(lines[0], warm);
        for (line, why) in lines[1..].iter().zip([
            "another unit",
            "they measured nothing",
            "they have no such case",
        ]) {
            assert!(!line.contains("against") && !line.contains("ratio"), "{why}: {line}");
        }
        let table = table(all.iter().map(|it| it.shown("HEAD~20")));
        assert!(table.contains("p50 10 ms; 2.18 of HEAD~20's p50\n"), "{table}");
    }

    /// A case that was measured beside Swarm keeps that ratio when the older commit has no such
    /// case.
    #[test]
    fn own_comparison_stays_where_the_commit_lacks_the_case() {
        let against = Some(Against { name: "swarm", p50: 100.0 });
        let ours = Figures { against, ..figures("warm", "ms", &[50.0]) };
        let alone = compared(vec![ours.clone()], &[]);
        assert!(alone[0].shown("HEAD~20").json().ends_with(r#""against":"swarm","ratio":0.5}"#));
        let beside = compared(vec![ours], &recorded());
        assert!(
            beside[0].shown("HEAD~20").json().ends_with(r#""against":"HEAD~20","ratio":4.55}"#)
        );
    }

    #[test]
    fn median_of_two_is_their_mean() {
        assert_eq!(
            [median(vec![3.0, 1.0]), median(vec![9.0, 1.0, 2.0]), median(vec![4.0])],
            [2.0, 2.0, 4.0]
        );
        assert!(median(Vec::new()).is_nan());
        let zero = BaselineCase { p50: Some(0.0), ..recorded()[0].clone() };
        assert!(
            compared(vec![figures("warm", "ms", &[0.0])], &[zero])[0].theirs.is_none(),
            "no ratio to nothing"
        );
    }
}
