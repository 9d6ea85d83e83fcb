//! The simulated world: the real core of every node, under one clock, one seed and every fault.
//!
//! Only the outside of the core is fake: disks, links, runtimes, clocks. Two runs of one seed are
//! the same, step for step.
//!
//! | file | what |
//! | --- | --- |
//! | `world`, `power`, `event`, `effects` | the world: events, power, effects of nodes |
//! | `device`, `disk`, `clock`, `network` | what is fake |
//! | `action` | what users do, and faults, with their text form |
//! | `simulation`, `operator`, `workloads` | a world with its user and what was promised |
//! | `history`, `scenario` | actions drawn from the seed; actions listed in a file |
//! | `formed` | a large cluster that has been up for long |
//! | `meter` | what it costs |
//! | `failovers` | counts nodes wrongly taken for dead |
//! | `test_cluster` | for tests outside this crate |
//! | `invariants` | what must hold after every step, and at the end |

pub(crate) mod action;
mod clock;
mod device;
mod disk;
mod effects;
mod event;
pub(crate) mod failovers;
pub(crate) mod formed;
pub(crate) mod history;
mod invariants;
pub(crate) mod meter;
mod network;
pub(crate) mod operator;
mod power;
pub(crate) mod scenario;
mod simulation;
mod test_cluster;
#[cfg(test)]
mod tests;
mod trace;
mod workloads;
pub(crate) mod world;

pub use test_cluster::TestCluster;
