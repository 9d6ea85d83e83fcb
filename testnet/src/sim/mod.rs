//! The simulated world: the real core of every node, under one clock, one seed and every fault.
//!
//! Only the outside of the core is fake: disks, links, runtimes, clocks. Two runs of one seed are
//! the same, step for step.
//!
//! **A module knows only modules above it, or left of it, in this table.** `World` holds all state
//! and no behaviour of nodes; the modules below it add methods that act on it.
//!
//! | module | what |
//! | --- | --- |
//! | `clock`, `disk`, `engine`, `rumour`, `liar` | clocks, disk, container engine and lies of a device, a gossip message |
//! | `trace`, `meter`, `failovers`, `watch` | records: text, traffic, false falls, checks |
//! | `workloads`, `error` | what users were promised; why a simulation ended early |
//! | `event` | scheduled events and their queue |
//! | `device`, `network` | a device with all that is on it; delay, loss and cuts |
//! | `world` | all state of a cluster, and changes of it that no node sees at once |
//! | `report`, `health` | the trace as text; counts of healthy nodes taken for dead |
//! | `invariants` | what must hold after every step, and what without faults |
//! | `stopping` | daemons end by a kill or a power cut |
//! | `containers`, `engine_faults` | a daemon and its container engine; the engine and containers fail |
//! | `probes` | replicas turn not ready and ready again, and are not live |
//! | `fetches` | daemons fetch artifacts from one another |
//! | `effects` | inputs of a daemon, and the effects that it asks for |
//! | `lies` | what goes out in the name of a device that lies |
//! | `links`, `power` | links come and go; devices start, pause, move |
//! | `handlers` | what each event does |
//! | `run` | the main loop |
//! | `formed`, `operator` | a large cluster that has been up for long; a user |
//! | `action` | actions of users and faults, their text form, random ones; knows only `world` |
//! | `simulation` | a world with its user |
//! | `revoking`, `emptying` | an administrator revokes devices, or has them emptied |
//! | `apply` | applies actions to a simulation |
//! | `history`, `scenario` | actions drawn from the seed, or listed in a file |
//! | `test_cluster` | a simulation for tests outside this crate |

pub(crate) mod action;
mod apply;
mod clock;
mod containers;
mod device;
mod disk;
mod effects;
mod emptying;
pub(crate) mod engine;
mod engine_faults;
pub(crate) mod error;
mod event;
pub(crate) mod failovers;
mod fetches;
pub(crate) mod formed;
mod handlers;
mod health;
pub(crate) mod history;
mod invariants;
mod liar;
mod lies;
mod links;
pub(crate) mod meter;
mod network;
pub(crate) mod operator;
mod power;
mod probes;
mod report;
mod revoking;
mod rights;
mod rumour;
mod run;
pub(crate) mod scenario;
mod simulation;
mod stopping;
mod test_cluster;
#[cfg(test)]
mod tests;
mod trace;
mod watch;
mod workloads;
pub(crate) mod world;

pub use test_cluster::{TakenDevice, TestCluster};
