//! The simulated world: the real core of every node, under one clock, one seed and every fault.
//!
//! Only the outside of the core is fake: disks, links, runtimes. Two runs of one seed are the same, step for step.

pub mod command;
mod device;
mod invariants;
mod network;
mod operator;
mod scenario;
#[cfg(test)]
mod tests;
mod world;

pub use scenario::history;
