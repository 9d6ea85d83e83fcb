//! A rule about a node, as people write it: `zone=front`, `arch in (arm64, x86_64)`, `!gpu`,
//! `disk.free>2GiB`. **All that decides whether a node fulfils a rule is here**: the owner, the
//! bidder and the views ask the same functions.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::amount::{Amount, NotAnAmount};
use super::is_label_text;

/// Values of one rule: more would be a list of nodes.
pub const MAX_RULE_VALUES: usize = 64;

/// A condition on one label or fact of a node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Rule {
    /// The name of the label or fact.
    pub name: String,
    /// The condition.
    pub op: Op,
}

/// The condition of a [`Rule`]. Append-only. A node that lacks the name fulfils `NotIn` and
/// `Absent` alone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Op {
    /// It has one of these values.
    In(BTreeSet<String>),
    /// It has none of these values.
    NotIn(BTreeSet<String>),
    /// It has the name.
    Exists,
    /// It does not have the name.
    Absent,
    /// Its value is above this amount.
    Over(String),
    /// Its value is this amount or above it.
    AtLeast(String),
    /// Its value is below this amount.
    Under(String),
    /// Its value is this amount or below it.
    AtMost(String),
}

/// A value of a node by its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reading<'a> {
    /// A label, or a fact in words.
    Text(Cow<'a, str>),
    /// A fact that has several values at once, as its runtimes.
    Texts(Vec<String>),
    /// A number, in thousandths.
    Number(u64),
}

/// The text is no rule, or the rule cannot be judged.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum NotARule {
    #[error("`{0}` has no name: a label or fact is expected first, as in `zone=front`")]
    NoName(String),
    #[error(
        "`{rule}`: `{op}` is no operator; known are =, !=, in (..), not in (..), exists, not \
            exists, >, >=, < and <="
    )]
    Operator { rule: String, op: String },
    #[error("`{0}`: a list in parentheses is expected, as in `zone in (front, back)`")]
    List(String),
    #[error("`{rule}`: {} values, at most {MAX_RULE_VALUES} are allowed", .count)]
    Values { rule: String, count: usize },
    #[error("`{rule}`: `{text}` is not a label (1 to 63 letters, digits, `-`, `_`, `.` and `/`)")]
    Label { rule: String, text: String },
    #[error("`{rule}`: {why}")]
    Amount { rule: String, why: NotAnAmount },
}

impl Rule {
    /// The rule that a label or fact has this value.
    pub fn is(name: impl Into<String>, value: impl Into<String>) -> Rule {
        Rule { name: name.into(), op: Op::In([value.into()].into()) }
    }

    /// The one value that it asks for, if it asks for exactly one.
    pub fn only_value(&self) -> Option<&str> {
        match &self.op {
            Op::In(values) if values.len() == 1 => values.first().map(String::as_str),
            _ => None,
        }
    }

    /// Whether its fact is measured by the node itself from moment to moment: only the node can
    /// judge it.
    pub fn is_measured(&self) -> bool {
        self.name.ends_with(".free")
    }

    /// Whether a node fulfils it whose label or fact of that name this is.
    pub fn holds(&self, reading: Option<&Reading<'_>>) -> bool {
        let Some(reading) = reading else {
            return matches!(self.op, Op::NotIn(_) | Op::Absent);
        };
        let is_among =
            |values: &BTreeSet<String>| values.iter().any(|value| reading.is(&self.name, value));
        match &self.op {
            Op::In(values) => is_among(values),
            Op::NotIn(values) => !is_among(values),
            Op::Exists => true,
            Op::Absent => false,
            Op::Over(bound) => self.order(reading, bound).is_some_and(|it| it.is_gt()),
            Op::AtLeast(bound) => self.order(reading, bound).is_some_and(|it| it.is_ge()),
            Op::Under(bound) => self.order(reading, bound).is_some_and(|it| it.is_lt()),
            Op::AtMost(bound) => self.order(reading, bound).is_some_and(|it| it.is_le()),
        }
    }

    /// How a value stands to a bound; `None` if the two cannot be compared.
    fn order(&self, reading: &Reading<'_>, bound: &str) -> Option<std::cmp::Ordering> {
        let bound = Amount::parse(&self.name, bound).ok()?;
        let value = match reading {
            Reading::Number(thousandths) => Amount::Number(*thousandths),
            Reading::Text(text) => Amount::parse(&self.name, text).ok()?,
            Reading::Texts(_) => return None,
        };
        value.order(&bound)
    }

    /// Checks the rule of a form: it came from the wire or from a program.
    pub(super) fn check(&self) -> Result<(), NotARule> {
        let label = |text: &String| match is_label_text(text) {
            true => Ok(()),
            false => Err(NotARule::Label { rule: self.to_string(), text: text.clone() }),
        };
        label(&self.name)?;
        match &self.op {
            Op::In(values) | Op::NotIn(values) => {
                if values.is_empty() {
                    return Err(NotARule::List(self.to_string()));
                }
                if values.len() > MAX_RULE_VALUES {
                    let (rule, count) = (format!("{} in (..)", self.name), values.len());
                    return Err(NotARule::Values { rule, count });
                }
                values.iter().try_for_each(label)
            }
            Op::Over(bound) | Op::AtLeast(bound) | Op::Under(bound) | Op::AtMost(bound) => {
                match Amount::parse(&self.name, bound) {
                    Ok(_) => Ok(()),
                    Err(why) => Err(NotARule::Amount { rule: self.to_string(), why }),
                }
            }
            Op::Exists | Op::Absent => Ok(()),
        }
    }

    /// The most bytes of one of its texts, and whether it has no more values than a rule may have:
    /// it may come from a peer.
    pub(crate) fn longest(&self) -> usize {
        match &self.op {
            Op::In(values) | Op::NotIn(values) if values.len() > MAX_RULE_VALUES => usize::MAX,
            Op::In(values) | Op::NotIn(values) => {
                values.iter().map(String::len).max().unwrap_or_default()
            }
            Op::Over(text) | Op::AtLeast(text) | Op::Under(text) | Op::AtMost(text) => text.len(),
            Op::Exists | Op::Absent => 0,
        }
        .max(self.name.len())
    }

    /// Whether no node can fulfil both.
    pub fn contradicts(&self, other: &Rule) -> bool {
        self.name == other.name && (self.excludes(other) || other.excludes(self))
    }

    /// Whether this rule, of the kind that it is, leaves nothing to the other one.
    fn excludes(&self, other: &Rule) -> bool {
        let same = |a: &String, b: &String| same_value(&self.name, a, b);
        let holds = |value: &String| other.holds(Some(&Reading::Text(value.as_str().into())));
        match (&self.op, &other.op) {
            (Op::Absent, Op::Absent | Op::NotIn(_)) => false,
            (Op::Absent, _) => true,
            // A node has several runtimes at once.
            (Op::In(_), Op::In(_)) if self.name == RUNTIME => false,
            (Op::In(all), Op::In(others)) => {
                !all.iter().any(|value| others.iter().any(|other| same(value, other)))
            }
            (Op::In(all), Op::NotIn(_)) => !all.iter().any(holds),
            (Op::In(all), Op::Over(_) | Op::AtLeast(_) | Op::Under(_) | Op::AtMost(_)) => {
                !all.iter().any(holds)
            }
            (Op::Over(low) | Op::AtLeast(low), Op::Under(high) | Op::AtMost(high)) => {
                let both = matches!((&self.op, &other.op), (Op::AtLeast(_), Op::AtMost(_)));
                let low = Amount::parse(&self.name, low);
                let order = low.ok().zip(Amount::parse(&self.name, high).ok());
                let order = order.and_then(|(low, high)| low.order(&high));
                order.is_some_and(|order| order.is_gt() || (order.is_eq() && !both))
            }
            _ => false,
        }
    }
}

/// The fact that has several values.
const RUNTIME: &str = "runtime";

impl Reading<'_> {
    fn is(&self, name: &str, value: &str) -> bool {
        match self {
            Reading::Text(text) => same_value(name, text, value),
            Reading::Texts(texts) => texts.iter().any(|text| text == value),
            Reading::Number(thousandths) => {
                let amount = Amount::parse(name, value);
                amount.is_ok_and(|it| it.order(&Amount::Number(*thousandths)) == Some(EQUAL))
            }
        }
    }
}

const EQUAL: std::cmp::Ordering = std::cmp::Ordering::Equal;

/// Architectures have two names each: that of Rust and the kernel, and that of docker and
/// Kubernetes.
fn same_value(name: &str, a: &str, b: &str) -> bool {
    let canonical = |text| match text {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "386" => "x86",
        other => other,
    };
    a == b || (name == "arch" && canonical(a) == canonical(b))
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { name, op } = self;
        let list = |values: &BTreeSet<String>| {
            values.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
        };
        match op {
            Op::In(values) if values.len() == 1 => write!(f, "{name} = {}", list(values)),
            Op::In(values) => write!(f, "{name} in ({})", list(values)),
            Op::NotIn(values) if values.len() == 1 => write!(f, "{name} != {}", list(values)),
            Op::NotIn(values) => write!(f, "{name} not in ({})", list(values)),
            Op::Exists => f.write_str(name),
            Op::Absent => write!(f, "!{name}"),
            Op::Over(bound) => write!(f, "{name} > {bound}"),
            Op::AtLeast(bound) => write!(f, "{name} >= {bound}"),
            Op::Under(bound) => write!(f, "{name} < {bound}"),
            Op::AtMost(bound) => write!(f, "{name} <= {bound}"),
        }
    }
}

impl FromStr for Rule {
    type Err = NotARule;

    fn from_str(text: &str) -> Result<Rule, NotARule> {
        let text = text.trim();
        let (is_absent, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest.trim_start()),
            None => (false, text),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, rest) = rest.split_at(end);
        if name.is_empty() {
            return Err(NotARule::NoName(text.into()));
        }
        let rest = rest.trim_start();
        let operator = |op: &str| {
            Err(NotARule::Operator { rule: text.into(), op: op.trim().chars().take(20).collect() })
        };
        let op = match (is_absent, rest) {
            (true, "") => Op::Absent,
            (true, rest) => return operator(&format!("! with {rest}")),
            (false, rest) => match condition(text, rest)? {
                Some(op) => op,
                None => {
                    let is_sign = rest.starts_with(|c| SIGNS.contains(c));
                    let ends = |c: char| is_sign != SIGNS.contains(c) || c.is_whitespace();
                    return operator(rest.split(ends).next().unwrap_or(rest));
                }
            },
        };
        let rule = Rule { name: name.into(), op };
        rule.check()?;
        Ok(rule)
    }
}

/// Characters of operators.
const SIGNS: &str = "=!<>~&|^";

/// The condition behind a name; `None` if it begins with no operator.
fn condition(rule: &str, text: &str) -> Result<Option<Op>, NotARule> {
    if text.is_empty() {
        return Ok(Some(Op::Exists));
    }
    let end = text.find(|c| !SIGNS.contains(c)).unwrap_or(text.len());
    let (sign, value) = text.split_at(end);
    let value = value.trim().to_owned();
    if !sign.is_empty() {
        return Ok(match sign {
            "=" | "==" => Some(Op::In([value].into())),
            "!=" => Some(Op::NotIn([value].into())),
            ">" => Some(Op::Over(value)),
            ">=" => Some(Op::AtLeast(value)),
            "<" => Some(Op::Under(value)),
            "<=" => Some(Op::AtMost(value)),
            _ => None,
        });
    }
    let (head, list) = match text.find('(') {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let words: Vec<String> = head.split_whitespace().map(str::to_ascii_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let first_two: Vec<&str> = words.iter().copied().take(2).collect();
    let values = || {
        let inner = list.strip_prefix('(').and_then(|it| it.trim_end().strip_suffix(')'));
        match inner.filter(|_| words == first_two) {
            Some(inner) => Ok(inner.split(',').map(|value| value.trim().to_owned()).collect()),
            None => Err(NotARule::List(rule.into())),
        }
    };
    Ok(match first_two.as_slice() {
        ["exists"] if list.is_empty() => Some(Op::Exists),
        ["not", "exists"] if list.is_empty() && words.len() == 2 => Some(Op::Absent),
        ["not", "in"] => Some(Op::NotIn(values()?)),
        ["in" | "notin", ..] if words.len() > 1 => return Err(NotARule::List(rule.into())),
        ["in"] => Some(Op::In(values()?)),
        ["notin"] => Some(Op::NotIn(values()?)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn text(value: &str) -> Reading<'_> {
        Reading::Text(value.into())
    }

    /// Rules are read in the ways that people write them, and shown in the one way in which they
    /// are read back.
    #[test]
    fn rules_are_read_as_people_write_them() {
        for (written, shown) in [
            ("zone=front", "zone = front"),
            (" zone == front ", "zone = front"),
            ("zone!=back", "zone != back"),
            ("arch in (arm64,x86_64)", "arch in (arm64, x86_64)"),
            ("arch IN(arm64)", "arch = arm64"),
            ("zone not in (a, b)", "zone not in (a, b)"),
            ("zone notin (a)", "zone != a"),
            ("gpu", "gpu"),
            ("gpu exists", "gpu"),
            ("!gpu", "!gpu"),
            ("gpu not exists", "!gpu"),
            ("disk.free>2GiB", "disk.free > 2GiB"),
            ("cores >= 2", "cores >= 2"),
            ("cpu<500m", "cpu < 500m"),
            ("version<=1.2.0", "version <= 1.2.0"),
            ("example.com/gpu=yes", "example.com/gpu = yes"),
        ] {
            assert_eq!(rule(written).to_string(), shown);
            assert_eq!(rule(shown), rule(written));
        }
    }

    #[test]
    fn texts_that_are_no_rule_are_refused_with_the_reason() {
        for (text, part) in [
            ("", "has no name"),
            ("=front", "has no name"),
            ("zone=", "is not a label"),
            ("zone=fr ont", "`fr ont` is not a label"),
            ("zone=~fr.*", "`=~` is no operator"),
            ("zone<>a", "`<>` is no operator"),
            ("zone like front", "`like` is no operator"),
            ("!zone=a", "is no operator"),
            ("zone in front", "a list in parentheses"),
            ("zone in (", "a list in parentheses"),
            ("zone in ()", "is not a label"),
            ("cores>-1", "negative"),
            ("cores>", "a number is expected"),
            ("cores>many", "a number is expected"),
            ("disk.free>2 furlongs", "`furlongs` is no unit"),
            ("disk.free>2PiB", "`PiB` is no unit"),
            ("disk.free>99999999999TiB", "more than any node has"),
            ("version>new", "a version is expected"),
        ] {
            let error = text.parse::<Rule>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let many = (0..65).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
        let error = format!("a in ({many})").parse::<Rule>().unwrap_err().to_string();
        assert!(error.contains("65 values, at most 64"), "{error}");
    }

    #[test]
    fn rule_holds_by_value_and_presence() {
        for (written, value, holds) in [
            ("zone=front", Some("front"), true),
            ("zone=front", Some("back"), false),
            ("zone=front", None, false),
            ("zone!=front", Some("back"), true),
            ("zone!=front", Some("front"), false),
            ("zone!=front", None, true),
            ("zone in (a,b)", Some("b"), true),
            ("zone not in (a,b)", None, true),
            ("gpu", Some("0"), true),
            ("gpu", None, false),
            ("!gpu", None, true),
            ("!gpu", Some("0"), false),
            ("arch=arm64", Some("aarch64"), true),
            ("arch in (amd64)", Some("x86_64"), true),
            ("board=arm64", Some("aarch64"), false),
            ("speed>100", Some("250"), true),
            ("speed>100", Some("fast"), false),
            ("speed>100", None, false),
            ("speed>=1k", Some("1000"), true),
            ("speed<0.5", Some("0.25"), true),
            ("version>0.9", Some("0.10.1"), true),
            ("version<1.0.0", Some("1.0.0-rc1"), true),
            ("version<=0.10", Some("0.9.7"), true),
        ] {
            let reading = value.map(text);
            assert_eq!(rule(written).holds(reading.as_ref()), holds, "{written} of {value:?}");
        }
    }

    #[test]
    fn numbers_and_lists_are_facts_too() {
        let gib = Reading::Number((4 << 30) * 1_000);
        assert!(rule("disk.free>2GiB").holds(Some(&gib)));
        assert!(!rule("disk.free>4GiB").holds(Some(&gib)));
        assert!(rule("disk.free>=4GiB").holds(Some(&gib)));
        assert!(rule("memory=4GiB").holds(Some(&gib)));
        assert!(rule("cores>1.5").holds(Some(&Reading::Number(2_000))));
        let both = Reading::Texts(vec!["wasm".into(), "container".into()]);
        assert!(rule("runtime=wasm").holds(Some(&both)));
        assert!(!rule("runtime!=wasm").holds(Some(&both)));
    }

    /// Rules that no node can fulfil together would leave a workload waiting for ever.
    #[test]
    fn contradictions_are_found_both_ways() {
        for (one, other, contradict) in [
            ("a=1", "a=2", true),
            ("a=1", "a=1", false),
            ("a=1", "b=2", false),
            ("a=1", "!a", true),
            ("a", "!a", true),
            ("a!=1", "!a", false),
            ("a!=1", "a!=2", false),
            ("a in (1,2)", "a in (2,3)", false),
            ("a in (1,2)", "a in (3)", true),
            ("a in (1,2)", "a not in (1,2,3)", true),
            ("a in (1,2)", "a!=1", false),
            ("x>5", "x<3", true),
            ("x>5", "x<5", true),
            ("x>=5", "x<=5", false),
            ("x>5", "x<=5", true),
            ("x>3", "x<5", false),
            ("x>1GiB", "x<1000", true),
            ("x>5", "x=3", true),
            ("x>5", "x=7", false),
            ("x>5", "!x", true),
            ("arch=arm64", "arch=aarch64", false),
            ("runtime=wasm", "runtime=container", false),
            ("runtime=wasm", "runtime!=wasm", true),
        ] {
            let (one, other) = (rule(one), rule(other));
            assert_eq!(one.contradicts(&other), contradict, "{one} and {other}");
            assert_eq!(other.contradicts(&one), contradict, "{other} and {one}");
        }
    }
}
