//! Placements: how many a second, and how long a single one takes.
//!
//! - `rate`: see `rate.rs`; real daemons whose runtime does nothing;
//! - `p99-1000`, `p99-10000`: see `single.rs`; the cores of so many nodes in the simulated world.

mod rate;
mod single;

use anyhow::Result;
use clap::ValueEnum;

use super::Figures;
use crate::real::Options;

/// The name in lines for programs.
const BENCH: &str = "placements";

/// The measured quantity.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Case {
    /// Placements a second, of one workload that grows.
    Rate,
    /// A single placement in a cluster of 1,000 nodes.
    #[value(name = "p99-1000")]
    Thousand,
    /// A single placement in a cluster of 10,000 nodes.
    #[value(name = "p99-10000")]
    TenThousand,
}

impl Case {
    /// All cases where none is given.
    pub(super) fn chosen(cases: &[Case]) -> &[Case] {
        if cases.is_empty() { Case::value_variants() } else { cases }
    }
}

/// Measures these cases. `options` says how real nodes are started, where a case needs them.
pub(super) fn measure(
    options: Option<&Options>,
    cases: &[Case],
    runs: u32,
    times: u32,
) -> Result<Vec<Figures>> {
    let mut all = Vec::new();
    for case in Case::chosen(cases) {
        all.extend(match (case, options) {
            (Case::Rate, Some(options)) => rate::measure(options, runs)?,
            (Case::Rate, None) => Vec::new(),
            (Case::Thousand, _) => single::measure("p99-1000", 1_000, times)?,
            (Case::TenThousand, _) => single::measure("p99-10000", 10_000, times)?,
        });
    }
    Ok(all)
}

fn figures(case: &'static str, unit: &'static str, goal: &'static str, v: Vec<f64>) -> Figures {
    Figures { bench: BENCH, case, unit, goal, values: v, against: None }
}
