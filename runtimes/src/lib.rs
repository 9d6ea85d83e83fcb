//! The hands of a node: adapters that run workloads, and the bytes they run.
//!
//! **The law.** A runtime does what it is told on this one device and says, level-triggered, what
//! is so. It decides nothing that concerns another node: not what should run, not where, not how
//! often. It never reaches over the network, never trusts bytes that were not verified, never gives
//! a guest anything that its [`Launch`] does not name, and never lets a guest hurt anything but
//! itself.
//!
//! ```text
//!                  node's executor, ingress, API
//!                     |  start, stop, serve, logs            ^ watch: the latest state of each instance
//!                     v                                      |
//!              +-- trait Runtime ------------------------- Board --+
//!              |                                                   |
//!              |  wasm::Wasm (wasmtime)        later: containers   |      contract: what every adapter must do
//!              |   |        |       |                              |
//!              |   |        |       +--- guests: own threads, low priority, a CPU share, a memory limit, a deadline
//!              |   |        +----------- compiled code under a MAC <---- child process: the only place that compiles
//!              +---|-----------------------------------------------+
//!                  v                         |
//!          artifacts::ArtifactStore      logs::Logs
//!          bytes named by their SHA-256  bounded lines, in memory and on disk
//! ```
//!
//! A replica is an *instance* here: one [`Launch`] under one [`InstanceId`]. An instance's life is
//! `Starting -> Running -> Stopped`, or `Failed` with a reason a person can read. Nothing depends
//! on seeing each step: [`Watch`] gives the latest state of whatever changed.

pub mod artifacts;
mod board;
pub mod contract;
mod error;
pub mod logs;
mod runtime;
#[cfg(feature = "wasm")]
pub mod wasm;

pub use board::{Board, Fault, Seat, State, Status, Watch};
pub use error::{DeviceError, LogsError, PrepareError, ServeError, StartError};
pub use runtime::{
    Body, BodyError, Instance, InstanceId, InvalidInstanceId, Launch, Runtime, Usage, body,
};
