//! Which nodes may run a workload, and which are better.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::super::name::WorkloadName;
use super::rule::{NotARule, Rule};
use super::{Facts, InvalidSpec, SpecForm, Unfit, is_label_text};

/// Rules of one workload, of all kinds together: each node is compared with all of them.
pub const MAX_RULES: usize = 64;
/// Labels that the replicas of one workload are spread over.
pub const MAX_SPREAD: usize = 4;
/// The weight of a preference that names none.
pub const DEFAULT_WEIGHT: u8 = 50;

/// Conditions on the nodes of a workload. Those that are not of the form `label = value` stand in
/// [`Later::require`](super::Later).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Placement {
    /// Labels or facts that a node must have, all of them.
    pub require: BTreeMap<String, String>,
    /// Rules that make a node cheaper which fulfils them.
    pub prefer: Vec<Preference>,
    /// The labels over whose values the replicas are spread, as in `zone`.
    pub spread: Vec<String>,
    /// Workloads to be near to, or apart from.
    pub affinity: Vec<Affinity>,
    /// Taints that do not keep it away.
    pub tolerate: Vec<Toleration>,
}

/// A rule that makes a node cheaper which fulfils it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Preference {
    /// The rule.
    pub rule: Rule,
    /// 1 to 100.
    pub weight: u8,
}

/// A relation to another workload, or to the other replicas of the same one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Affinity {
    /// The other workload.
    pub workload: WorkloadName,
    /// On other nodes than its replicas, instead of the same.
    pub apart: bool,
    /// 1 to 100; none if it must be so.
    pub weight: Option<u8>,
}

/// A taint that does not keep a workload away.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Toleration {
    /// Every taint.
    All,
    /// A taint of this name, whatever its value.
    Name(String),
    /// A taint of this name with this value.
    Value(String, String),
}

/// Whether a workload with these tolerations may run on a node with this taint.
pub fn tolerates(all: &[Toleration], taint: &str, value: &str) -> bool {
    all.iter().any(|toleration| match toleration {
        Toleration::All => true,
        Toleration::Name(name) => name == taint,
        Toleration::Value(name, only) => name == taint && only == value,
    })
}

impl FromStr for Affinity {
    type Err = String;

    /// Reads it as it is shown: `near NAMESPACE/NAME:WEIGHT` or `apart NAMESPACE/NAME`.
    fn from_str(text: &str) -> Result<Affinity, String> {
        let wrong = || format!("`{text}`: `near` or `apart` and a workload are expected");
        let (relation, rest) = text.split_once(' ').ok_or_else(wrong)?;
        let apart = match relation {
            "near" => false,
            "apart" => true,
            _ => return Err(wrong()),
        };
        let (name, weight) = weighted(rest).map_err(|error| format!("`{text}`: {error}"))?;
        let workload = name.parse().map_err(|error| format!("`{text}`: {error}"))?;
        Ok(Affinity { workload, apart, weight })
    }
}

impl Placement {
    /// Its parts in words, by the names that a manifest has for them; not those of form 2.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        let Placement { require: _, prefer, spread, affinity, tolerate } = self;
        let all = [
            ("prefer", listed(prefer)),
            ("spread", listed(spread)),
            ("affinity", listed(affinity)),
            ("tolerate", listed(tolerate)),
        ];
        all.into_iter().filter(|(_, text)| !text.is_empty()).collect()
    }

    /// Whether form 2 has all of it.
    pub(super) fn is_plain(&self) -> bool {
        let Placement { require: _, prefer, spread, affinity, tolerate } = self;
        prefer.is_empty() && spread.is_empty() && affinity.is_empty() && tolerate.is_empty()
    }
}

impl SpecForm {
    /// All rules that a node must fulfil.
    pub fn required(&self) -> impl Iterator<Item = Rule> + '_ {
        let plain = self.placement.require.iter().map(|(name, value)| Rule::is(name, value));
        plain.chain(self.later.require.iter().cloned())
    }

    /// The weights of all its preferences.
    pub fn weights(&self) -> u32 {
        let rules = self.placement.prefer.iter().map(|it| it.weight);
        let relations = self.placement.affinity.iter().filter_map(|it| it.weight);
        rules.chain(relations).map(u32::from).sum()
    }

    /// Whether its replicas must be on different nodes.
    pub fn is_apart_from_itself(&self) -> bool {
        self.keeps_away(&self.name)
    }

    /// Whether it must not be on the nodes of another workload.
    pub fn keeps_away(&self, other: &WorkloadName) -> bool {
        let mut relations = self.placement.affinity.iter();
        relations.any(|it| it.apart && it.weight.is_none() && it.workload == *other)
    }

    /// Whether it may be on a node that runs these workloads; a relation holds both ways.
    ///
    /// # Errors
    /// The relation that keeps it from there.
    pub fn fits_beside(&self, here: &[&SpecForm]) -> Result<(), Unfit> {
        let runs = |name: &WorkloadName| here.iter().any(|it| it.name == *name);
        for Affinity { workload, apart, weight } in &self.placement.affinity {
            if weight.is_some() || *apart != runs(workload) {
                continue;
            }
            return Err(match apart {
                true => Unfit::Apart(workload.to_string()),
                false => Unfit::Near(workload.to_string()),
            });
        }
        match here.iter().find(|other| other.keeps_away(&self.name)) {
            Some(other) => Err(Unfit::Apart(other.name.to_string())),
            None => Ok(()),
        }
    }

    /// The weights of the preferred relations that a node does not fulfil which runs these.
    pub fn unmet_beside(&self, here: &[&SpecForm]) -> u32 {
        let runs = |name: &WorkloadName| here.iter().any(|it| it.name == *name);
        let unmet = |it: &&Affinity| it.apart == runs(&it.workload);
        let relations = self.placement.affinity.iter().filter(unmet);
        relations.filter_map(|it| it.weight).map(u32::from).sum()
    }

    /// Adds a rule that a node must fulfil, in the oldest form that has it.
    pub fn add_required(&mut self, rule: Rule) {
        let known = &mut self.placement.require;
        match rule.only_value() {
            Some(value) if known.get(&rule.name).is_none_or(|before| before == value) => {
                known.insert(rule.name.clone(), value.to_owned());
            }
            _ if self.later.require.contains(&rule) => {}
            // A second value of the same label contradicts the first: the check names both.
            _ => self.later.require.push(rule),
        }
    }

    /// The names of labels and facts that its rules are about.
    fn names(&self) -> Vec<String> {
        let required = self.required().map(|rule| rule.name);
        let preferred = self.placement.prefer.iter().map(|it| it.rule.name.clone());
        let mut names: Vec<String> =
            required.chain(preferred).chain(self.placement.spread.iter().cloned()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// Warnings about rules whose label or fact none of these nodes has: mostly a slip.
    pub fn unknown_names<'a>(&self, nodes: impl Iterator<Item = &'a Facts>) -> Vec<String> {
        let names = self.names();
        if names.is_empty() {
            return Vec::new();
        }
        let (mut labels, mut facts) = (Vec::new(), Vec::new());
        for node in nodes {
            labels.extend(node.labels.keys().cloned());
            facts.extend(node.fact_names());
        }
        labels.sort();
        facts.sort();
        labels.extend(facts);
        let mut seen = std::collections::BTreeSet::new();
        labels.retain(|name| seen.insert(name.clone()));
        let shown = labels.iter().take(MAX_SHOWN).cloned().collect::<Vec<_>>().join(", ");
        let more = if labels.len() > MAX_SHOWN { ", .." } else { "" };
        let unknown = names.iter().filter(|name| !seen.contains(*name));
        unknown
            .map(|name| format!("no node has the label `{name}`; known: {shown}{more}"))
            .collect()
    }
}

/// All of a list, as people write them one by one.
pub(super) fn listed<T: fmt::Display>(all: &[T]) -> String {
    all.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// Names in a warning.
const MAX_SHOWN: usize = 16;

/// Checks the rules of a form: each by itself, their number, and that none contradicts another.
pub(super) fn check(form: &SpecForm) -> Result<(), InvalidSpec> {
    let wrong = |field: &'static str, why: String| Err(InvalidSpec::Container { field, why });
    let Placement { require: _, prefer, spread, affinity, tolerate } = &form.placement;
    let required: Vec<Rule> = form.required().collect();
    let count = required.len() + prefer.len() + affinity.len() + tolerate.len();
    if count > MAX_RULES {
        let why = format!("{count} rules, at most {MAX_RULES} are allowed");
        return wrong("placement", why);
    }
    for rule in &form.later.require {
        rule.check().or_else(|error| wrong("require", error.to_string()))?;
    }
    for (at, rule) in required.iter().enumerate() {
        if let Some(other) = required[..at].iter().find(|other| other.contradicts(rule)) {
            let why = format!("`{other}` and `{rule}` contradict one another: no node has both");
            return wrong("require", why);
        }
    }
    for Preference { rule, weight } in prefer {
        rule.check().or_else(|error| wrong("prefer", error.to_string()))?;
        check_weight(*weight).or_else(|error| wrong("prefer", format!("`{rule}`: {error}")))?;
    }
    if spread.len() > MAX_SPREAD {
        let why = format!("{} labels, at most {MAX_SPREAD} are allowed", spread.len());
        return wrong("spread", why);
    }
    for label in spread {
        if !is_label_text(label) {
            return wrong("spread", format!("`{label}` is not a label"));
        }
        if spread.iter().filter(|other| *other == label).count() > 1 {
            return wrong("spread", format!("`{label}` stands there twice"));
        }
    }
    check_affinity(form, affinity)?;
    for toleration in tolerate {
        let texts = match toleration {
            Toleration::All => vec![],
            Toleration::Name(name) => vec![name],
            Toleration::Value(name, value) => vec![name, value],
        };
        if let Some(text) = texts.into_iter().find(|text| !is_label_text(text)) {
            return wrong("tolerate", format!("`{text}` is not the name or value of a taint"));
        }
    }
    Ok(())
}

fn check_affinity(form: &SpecForm, affinity: &[Affinity]) -> Result<(), InvalidSpec> {
    let wrong = |why: String| Err(InvalidSpec::Container { field: "affinity", why });
    for (at, one) in affinity.iter().enumerate() {
        let Affinity { workload, apart, weight } = one;
        if let Some(weight) = weight {
            check_weight(*weight).or_else(|error| wrong(format!("`{workload}`: {error}")))?;
        }
        if *workload == form.name && !apart {
            let why = format!("`{workload}` cannot be near itself; `apart` keeps replicas apart");
            return wrong(why);
        }
        if let Some(other) = affinity[..at].iter().find(|other| other.workload == *workload) {
            return wrong(match other.apart == *apart {
                true => format!("`{workload}` stands there twice"),
                false => {
                    format!("`near {workload}` and `apart {workload}` contradict one another")
                }
            });
        }
    }
    Ok(())
}

fn check_weight(weight: u8) -> Result<(), String> {
    match weight {
        1..=100 => Ok(()),
        _ => Err(format!("weight {weight} is outside 1 to 100")),
    }
}

/// Splits `EXPR:WEIGHT`. No rule has a colon of its own.
fn weighted(text: &str) -> Result<(&str, Option<u8>), String> {
    let Some((text, weight)) = text.rsplit_once(':') else { return Ok((text, None)) };
    let weight = weight.trim();
    let is_number = weight.trim_start_matches('-').bytes().all(|b| b.is_ascii_digit());
    match weight.parse::<u8>() {
        Ok(number) => check_weight(number).map(|()| (text, Some(number))),
        Err(_) if is_number && !weight.is_empty() => {
            Err(format!("weight {weight} is outside 1 to 100"))
        }
        Err(_) => Err(format!("`{weight}` is no weight: a number from 1 to 100 is expected")),
    }
}

impl FromStr for Preference {
    type Err = String;

    /// Reads `RULE` or `RULE:WEIGHT`.
    fn from_str(text: &str) -> Result<Preference, String> {
        let (rule, weight) = weighted(text).map_err(|error| format!("`{text}`: {error}"))?;
        let rule = rule.parse().map_err(|error: NotARule| error.to_string())?;
        Ok(Preference { rule, weight: weight.unwrap_or(DEFAULT_WEIGHT) })
    }
}

impl fmt::Display for Preference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.rule, self.weight)
    }
}

impl Affinity {
    /// Reads `WORKLOAD` or `WORKLOAD:WEIGHT`; with a weight it is preferred only. A workload
    /// without a namespace is of the one of `of`.
    ///
    /// # Errors
    /// The text names no workload, or its weight is outside 1 to 100.
    pub fn parse(text: &str, apart: bool, of: &WorkloadName) -> Result<Affinity, String> {
        let wrong = |error: &dyn fmt::Display| format!("`{text}`: {error}");
        let (name, weight) = weighted(text).map_err(|error| wrong(&error))?;
        let name = name.trim();
        let workload = match name.contains('/') {
            true => name.parse::<WorkloadName>().map_err(|error| wrong(&error))?,
            false => {
                let name = name.parse().map_err(|error| wrong(&error))?;
                WorkloadName { namespace: of.namespace.clone(), name }
            }
        };
        Ok(Affinity { workload, apart, weight })
    }
}

impl fmt::Display for Affinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weight = self.weight.map(|weight| format!(":{weight}")).unwrap_or_default();
        let relation = if self.apart { "apart" } else { "near" };
        write!(f, "{relation} {}{weight}", self.workload)
    }
}

impl FromStr for Toleration {
    type Err = String;

    /// Reads `NAME`, `NAME=VALUE` or `*`.
    fn from_str(text: &str) -> Result<Toleration, String> {
        let text = text.trim();
        let parts = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        let (name, value) = (parts.0.trim(), parts.1.map(str::trim));
        let wrong = || format!("`{text}`: a taint is expected as NAME or NAME=VALUE, or `*`");
        if text == "*" {
            return Ok(Toleration::All);
        }
        if !is_label_text(name) || value.is_some_and(|value| !is_label_text(value)) {
            return Err(wrong());
        }
        Ok(match value {
            Some(value) => Toleration::Value(name.into(), value.into()),
            None => Toleration::Name(name.into()),
        })
    }
}

impl fmt::Display for Toleration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Toleration::All => f.write_str("*"),
            Toleration::Name(name) => f.write_str(name),
            Toleration::Value(name, value) => write!(f, "{name}={value}"),
        }
    }
}
