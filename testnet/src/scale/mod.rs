//! `cargo testnet scale`: how what a cluster costs grows with its size.

use std::time::{Duration, Instant};

use clap::Args;

use crate::sim::formed::Shape;
use crate::sim::world::World;

#[derive(Args)]
pub struct Scale {
    #[arg(long, value_delimiter = ',', default_value = "10,30,100,300,1000")]
    nodes: Vec<usize>,
    #[arg(long, default_value_t = 2)]
    replicas: usize,
}

pub fn run(scale: &Scale) -> bool {
    for &nodes in &scale.nodes {
        let began = Instant::now();
        let shape = Shape { nodes, workloads: nodes * scale.replicas / 2, replicas: 2 };
        let mut world = match World::formed(1, shape) {
            Ok(world) => world,
            Err(why) => {
                println!("{nodes}: {why}");
                return false;
            }
        };
        if std::env::var("FORM").is_ok() { return true }
        println!("{nodes}: formed in {:.1} s, {} steps, {} MB", began.elapsed().as_secs_f64(), world.steps, memory());
        for round in 0..2 {
            let (began, steps) = (Instant::now(), world.steps);
            world.measure();
            world.run_for(Duration::from_secs(10)).unwrap();
            let total = world.meter.total();
            println!(
                "  {round}: 10 s took {:.1} s, {} steps, {:.1} msg/s, {:.1} B/s a node, {} MB",
                began.elapsed().as_secs_f64(),
                world.steps - steps,
                total.messages as f64 / nodes as f64 / 10.0,
                total.bytes as f64 / nodes as f64 / 10.0,
                memory()
            );
            println!("{:?} {:?}", world.meter.sent, world.meter.gossiped);
            println!("told {}", world.meter.told.len());
            if let Ok(device) = std::env::var("ON") { println!("{}", world.report_on(device.parse().unwrap())) }
        }
    }
    true
}

fn memory() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096 / 1_000_000
}
