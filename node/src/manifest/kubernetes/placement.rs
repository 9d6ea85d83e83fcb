//! Where a pod may run, and where rather than elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use shoal_protocol::model::spec::{Op, Preference, Rule, Toleration};

use super::super::tree::Position;
use super::super::verdict::Judged;
use super::scalar::Part;

/// A relation to the pods that a selector finds.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    pub at: Position,
    pub field: String,
    pub apart: bool,
    /// None if it must be so.
    pub weight: Option<u8>,
    pub selector: Selector,
    /// Those of its own, if there are none.
    pub namespaces: Vec<String>,
    pub topology: String,
}

/// Conditions on the labels of pods.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<(String, String)>,
    expressions: Vec<(String, Match)>,
}

#[derive(Clone, Debug)]
enum Match {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl Selector {
    /// The pods that have all these labels.
    pub fn of(labels: Vec<(String, String)>) -> Selector {
        Selector { labels, expressions: Vec::new() }
    }

    /// Reads `matchLabels` and `matchExpressions`.
    pub fn read(part: &Part<'_>, out: &mut Judged) -> Selector {
        let mut expressions = Vec::new();
        for it in part.get("matchExpressions").items(out) {
            let (Some(key), Some(operator)) =
                (it.get("key").text(out), it.get("operator").text(out))
            else {
                continue;
            };
            let values = it.get("values").texts(out);
            let of = match operator.as_str() {
                "In" => Match::In(values),
                "NotIn" => Match::NotIn(values),
                "Exists" => Match::Exists,
                "DoesNotExist" => Match::Absent,
                other => {
                    out.refuse(it.get("operator").wrong(format!("`{other}` is no operator")));
                    continue;
                }
            };
            expressions.push((key, of));
        }
        Selector { labels: part.get("matchLabels").pairs(out), expressions }
    }

    /// Whether it finds a pod with these labels.
    pub fn finds(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
            && self.expressions.iter().all(|(name, of)| {
                let value = labels.get(name);
                match of {
                    Match::In(values) => value.is_some_and(|it| values.contains(it)),
                    Match::NotIn(values) => value.is_none_or(|it| !values.contains(it)),
                    Match::Exists => value.is_some(),
                    Match::Absent => value.is_none(),
                }
            })
    }

    /// Whether it has no condition.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.expressions.is_empty()
    }

    /// The labels in words.
    pub fn shown(&self) -> String {
        let labels = self.labels.iter().map(|(name, value)| format!("{name}={value}"));
        let others = self.expressions.iter().map(|(name, _)| name.clone());
        labels.chain(others).collect::<Vec<_>>().join(", ")
    }
}

/// The label or fact of a node that Kubernetes calls so.
fn here(label: &str) -> &str {
    match label {
        "kubernetes.io/arch" | "beta.kubernetes.io/arch" => "arch",
        "kubernetes.io/os" | "beta.kubernetes.io/os" => "os",
        other => other,
    }
}

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
/// The label of each node with its own name.
pub(super) const HOST: &str = "kubernetes.io/hostname";

/// The rules that a node must fulfil.
pub(super) fn rules(spec: &Part<'_>, out: &mut Judged) -> Vec<Rule> {
    let selector = spec.get("nodeSelector").pairs(out);
    let mut all: Vec<Rule> =
        selector.into_iter().map(|(name, value)| Rule::is(here(&name), value)).collect();
    let required = spec.at(&["affinity", "nodeAffinity", REQUIRED]);
    let terms = required.get("nodeSelectorTerms");
    if required.is_there() && !terms.is_there() {
        out.refuse(terms.wrong("it is missing"));
    }
    let read: Vec<Vec<Rule>> = terms.items(out).iter().map(|term| expressions(term, out)).collect();
    match read.as_slice() {
        [] => {}
        [one] => all.extend(one.iter().cloned()),
        several => match one_of(several) {
            Some(rule) => all.push(rule),
            None => {
                let why = "one of several terms must hold, and all rules of a workload must";
                let problem = terms.wrong(why);
                out.refuse(problem.hint(
                    "Give the nodes that are meant one label, and write that as the only term.",
                ));
            }
        },
    }
    all
}

/// Terms of which each names values of the same label.
fn one_of(terms: &[Vec<Rule>]) -> Option<Rule> {
    let mut all: Option<(String, BTreeSet<String>)> = None;
    for term in terms {
        let [Rule { name, op: Op::In(values) }] = term.as_slice() else { return None };
        let (first, known) = all.get_or_insert_with(|| (name.clone(), BTreeSet::new()));
        if first != name {
            return None;
        }
        known.extend(values.iter().cloned());
    }
    all.map(|(name, values)| Rule { name, op: Op::In(values) })
}

fn expressions(term: &Part<'_>, out: &mut Judged) -> Vec<Rule> {
    let mut rules = Vec::new();
    for it in term.get("matchExpressions").items(out) {
        let (Some(key), Some(operator)) = (it.get("key").text(out), it.get("operator").text(out))
        else {
            out.refuse(it.wrong("`key` and `operator` are expected"));
            continue;
        };
        let values = it.get("values");
        let texts = values.texts(out);
        let one = || texts.first().cloned().unwrap_or_default();
        let op = match operator.as_str() {
            "In" => Op::In(texts.into_iter().collect()),
            "NotIn" => Op::NotIn(texts.into_iter().collect()),
            "Exists" => Op::Exists,
            "DoesNotExist" => Op::Absent,
            "Gt" => Op::Over(one()),
            "Lt" => Op::Under(one()),
            other => {
                let problem = it.get("operator").wrong(format!("`{other}` is no operator"));
                out.refuse(problem.hint("Known are In, NotIn, Exists, DoesNotExist, Gt and Lt."));
                continue;
            }
        };
        if matches!(&op, Op::In(values) | Op::NotIn(values) if values.is_empty()) {
            out.refuse(values.wrong(format!("`{operator}` needs values")));
            continue;
        }
        rules.push(Rule { name: here(&key).to_owned(), op });
    }
    rules
}

fn weight(part: &Part<'_>, out: &mut Judged) -> Option<u8> {
    part.get("weight").int(1..=100, out).and_then(|it| u8::try_from(it).ok())
}

/// The rules that make a node better.
pub(super) fn preferences(spec: &Part<'_>, out: &mut Judged) -> Vec<Preference> {
    let mut all = Vec::new();
    for it in spec.at(&["affinity", "nodeAffinity", PREFERRED]).items(out) {
        let Some(weight) = weight(&it, out) else { continue };
        let rules = expressions(&it.get("preference"), out);
        all.extend(rules.into_iter().map(|rule| Preference { rule, weight }));
    }
    all
}

/// The taints that do not keep it away.
pub(super) fn tolerations(spec: &Part<'_>, out: &mut Judged) -> Vec<Toleration> {
    let mut all = Vec::new();
    for it in spec.get("tolerations").items(out) {
        let key = it.get("key").text(out).filter(|it| !it.is_empty());
        let value = it.get("value").text(out).filter(|it| !it.is_empty());
        let operator = it.get("operator");
        all.push(match (key, operator.text(out).as_deref().unwrap_or("Equal"), value) {
            (None, "Exists", _) => Toleration::All,
            (Some(key), "Exists", _) | (Some(key), "Equal", None) => Toleration::Name(key),
            (Some(key), "Equal", Some(value)) => Toleration::Value(key, value),
            (None, "Equal", _) => {
                out.refuse(it.wrong("`key` is missing"));
                continue;
            }
            (_, other, _) => {
                let problem = operator.wrong(format!("`{other}` is no operator"));
                out.refuse(problem.hint("Known are Exists and Equal."));
                continue;
            }
        });
    }
    all
}

/// The labels over which its replicas are spread.
pub(super) fn spread(
    spec: &Part<'_>,
    own: &BTreeMap<String, String>,
    out: &mut Judged,
) -> Vec<String> {
    let mut all = Vec::new();
    for it in spec.get("topologySpreadConstraints").items(out) {
        let selector = it.get("labelSelector");
        if selector.is_there() && !Selector::read(&selector, out).finds(own) {
            let problem = selector.wrong("the replicas of another workload are to be counted");
            out.refuse(problem.hint("Write the labels of this pod."));
        }
        // Replicas go to different nodes anyway.
        match it.get("topologyKey").text(out) {
            Some(label) if label != HOST && !all.contains(&label) => all.push(label),
            _ => {}
        }
    }
    all
}

/// The spreads without which a pod is not to run.
pub(super) fn strict(spec: &Part<'_>, out: &mut Judged) -> Vec<(Position, String, u32)> {
    let mut all = Vec::new();
    for it in spec.get("topologySpreadConstraints").items(out) {
        let when = it.get("whenUnsatisfiable");
        match when.text(out).as_deref() {
            None | Some("" | "ScheduleAnyway") => {}
            Some("DoNotSchedule") => {
                let skew = it.get("maxSkew").count(out).unwrap_or(1);
                all.push((when.at, when.path.clone(), skew));
            }
            Some(other) => {
                let problem = when.wrong(format!("`{other}` is no way on"));
                out.refuse(problem.hint("Known are ScheduleAnyway and DoNotSchedule."));
            }
        }
    }
    all
}

/// The relations to other pods.
pub(super) fn relations(spec: &Part<'_>, out: &mut Judged) -> Vec<Relation> {
    let mut all = Vec::new();
    for (field, apart) in [("podAffinity", false), ("podAntiAffinity", true)] {
        let of = spec.at(&["affinity", field]);
        for term in of.get(REQUIRED).items(out) {
            all.extend(relation(&term, apart, None, out));
        }
        for it in of.get(PREFERRED).items(out) {
            let weight = weight(&it, out);
            all.extend(relation(&it.get("podAffinityTerm"), apart, weight, out));
        }
    }
    all
}

fn relation(
    term: &Part<'_>,
    apart: bool,
    weight: Option<u8>,
    out: &mut Judged,
) -> Option<Relation> {
    let topology = term.get("topologyKey");
    if !topology.is_there() {
        out.refuse(topology.wrong("it is missing"));
    }
    let topology = topology.text(out)?;
    Some(Relation {
        at: term.at,
        field: term.path.clone(),
        apart,
        weight,
        selector: Selector::read(&term.get("labelSelector"), out),
        namespaces: term.get("namespaces").texts(out),
        topology,
    })
}
