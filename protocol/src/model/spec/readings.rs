//! The labels and facts of a node by their names, as rules see them.

use std::collections::BTreeMap;

use super::super::resources::Resources;
use super::rule::{Reading, Rule};
use super::{Facts, SpecForm, Unfit};

/// Facts that nodes publish by name, besides the fixed ones: few, since every node keeps the record
/// of every node.
pub const MAX_PUBLISHED: usize = 64;

impl Facts {
    /// A label or fact by its name: a label wins over a fact of the same name, since the node's
    /// owner chose it.
    pub fn reading(&self, name: &str) -> Option<Reading<'_>> {
        if let Some(label) = self.labels.get(name) {
            return Some(Reading::Text(label.as_str().into()));
        }
        let text = |text: &'_ str| (!text.is_empty()).then(|| text.to_owned());
        match name {
            "arch" => text(&self.arch).map(|text| Reading::Text(text.into())),
            "runtime" => {
                Some(Reading::Texts(self.runtimes.iter().map(|it| it.to_string()).collect()))
            }
            "memory" => Some(bytes(self.capacity.memory)),
            "cpu" | "cores" => Some(Reading::Number(self.capacity.cpu.into())),
            _ => self.published.get(name).map(|text| Reading::Text(text.as_str().into())),
        }
    }

    /// The same as [`Facts::reading`], with what the node itself measures: the resources that are
    /// free now, and its disk.
    fn reading_now(&self, name: &str, free: Resources) -> Option<Reading<'_>> {
        self.reading(name).or_else(|| match name {
            "memory.free" => Some(bytes(free.memory)),
            "cpu.free" | "cores.free" => Some(Reading::Number(free.cpu.into())),
            _ => self.measured.get(name).map(|number| bytes(*number)),
        })
    }

    /// Whether it tells a fact of this name by itself: another one of that name would be mistaken
    /// for it.
    pub fn names_fact(&self, name: &str) -> bool {
        // All names with this end are measured.
        name.ends_with(".free") || self.fact_names().any(|it| it == name)
    }

    /// The names of its facts that a rule may be about, without its labels.
    pub(super) fn fact_names(&self) -> impl Iterator<Item = String> + '_ {
        let fixed = ["arch", "runtime", "memory", "cpu", "cores"];
        let measured = ["memory.free", "cpu.free", "cores.free", "disk.free"];
        let names = fixed.into_iter().chain(measured).map(str::to_owned);
        names.chain(self.published.keys().cloned())
    }

    /// The first rule of a workload that this node fails, of those that all nodes can judge.
    pub(super) fn fits_rules(&self, spec: &SpecForm) -> Result<(), Unfit> {
        for (name, value) in &spec.placement.require {
            // A node of an older program looks at labels alone, and declines.
            if !Rule::is(name, value).holds(self.reading(name).as_ref()) {
                return Err(Unfit::Label { name: name.clone(), value: value.clone() });
            }
        }
        for rule in &spec.later.require {
            let reading = self.reading(&rule.name);
            if (reading.is_some() || !rule.is_measured()) && !rule.holds(reading.as_ref()) {
                return Err(Unfit::Rule(rule.clone()));
            }
        }
        Ok(())
    }

    /// The first rule of a workload that this node fails now: about what it measures, which nobody
    /// else knows. `free` is what its replicas leave.
    pub fn fits_now(&self, spec: &SpecForm, free: Resources) -> Result<(), Unfit> {
        let fails = |rule: &&Rule| !rule.holds(self.reading_now(&rule.name, free).as_ref());
        let mut measured = spec.later.require.iter().filter(|rule| rule.is_measured());
        match measured.find(fails) {
            Some(rule) => Err(Unfit::Rule(rule.clone())),
            None => Ok(()),
        }
    }

    /// The weights of all preferences of a workload that this node does not fulfil now.
    pub fn unmet(&self, spec: &SpecForm, free: Resources) -> u32 {
        let unmet = spec.placement.prefer.iter().filter(|preference| {
            !preference.rule.holds(self.reading_now(&preference.rule.name, free).as_ref())
        });
        unmet.map(|preference| u32::from(preference.weight)).sum()
    }
}

fn bytes(number: u64) -> Reading<'static> {
    Reading::Number(number.saturating_mul(1_000))
}

/// Facts of a record that can be kept: few and short enough.
pub(in crate::model) fn kept(published: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_short = |(name, value): &(String, String)| {
        super::is_label_text(name) && value.len() <= MAX_PUBLISHED_VALUE
    };
    published.into_iter().filter(is_short).take(MAX_PUBLISHED).collect()
}

/// Bytes of a published fact.
pub const MAX_PUBLISHED_VALUE: usize = 63;
