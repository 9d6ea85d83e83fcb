//! The simulated world: the real core of every node, under one clock, one seed and every fault.
//!
//! Only the outside of the core is fake: disks, links, runtimes, clocks. Two runs of one seed are
//! the same, step for step.
//!
//! | file | what |
//! | --- | --- |
//! | `world`, `power`, `event`, `effects` | the world: what lies ahead, who runs, what happens, what nodes ask for |
//! | `device`, `disk`, `clock`, `network` | what is fake |
//! | `action` | what users and fate do, in words |
//! | `sim`, `operator`, `workloads` | a world with its user, who remembers what was promised |
//! | `history`, `scenario` | deeds drawn from the seed; deeds written down |
//! | `formed` | a large cluster that has long been up |
//! | `meter` | what it costs |
//! | `failovers` | who was taken for dead and was not |
//! | `test_cluster` | the door for tests outside this crate |
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
