//! `cargo testnet scale`: how what a cluster costs grows with its size. Here are files and clocks, which the simulated world must not know.

mod measure;

use std::time::Instant;

use clap::Args;

use crate::sim::formed::Shape;
use measure::Figures;

#[derive(Args)]
pub struct Scale {
    #[arg(long, value_delimiter = ',', default_value = "10,30,100,300,1000,3000,10000")]
    nodes: Vec<usize>,
    /// Replicas a node, of workloads with two replicas each.
    #[arg(long, default_value_t = 2)]
    replicas: usize,
}

pub fn run(scale: &Scale) -> bool {
    let mut all: Vec<(usize, Figures)> = Vec::new();
    for &nodes in &scale.nodes {
        let began = Instant::now();
        let shape = Shape { nodes, workloads: nodes * scale.replicas / 2, replicas: 2 };
        match measure::cluster(1, shape) {
            Ok(mut figures) => {
                println!("{nodes}: {:.1} s, {} MB", began.elapsed().as_secs_f64(), memory());
                figures.extend(measure::ring(nodes));
                println!("{figures:?}");
                all.push((nodes, figures));
            }
            Err(why) => {
                let lines: Vec<&str> = why.lines().collect();
                println!("{nodes}: {}\n{}", lines[0], lines[lines.len().saturating_sub(30)..].join("\n"));
                return false;
            }
        }
    }
    for news in [1, 10, 100, 1000] {
        println!("{news}: {:?}", measure::difference(1, 10_000, news));
    }
    true
}

fn memory() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096 / 1_000_000
}
