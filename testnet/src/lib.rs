//! The gate, the law, the simulator, real nodes as processes, the demo and the benchmarks.
//!
//! ***It never links the daemon.** Of the workspace this crate depends on `shoal-protocol` alone:
//! the simulator drives that state machine directly, and a real node is the `shoal` binary as a
//! child process, used through its socket, its HTTP port and its command line, as a user would, or
//! by hostile peers through its port for other nodes. So no check can pass because both sides share
//! a bug in a library, and the gate runs on a machine where nothing is built yet.

#![expect(
    clippy::print_stdout,
    reason = "the output of its commands is for a person at a terminal"
)]

pub mod bench;
pub mod chaos;
pub mod check;
pub mod conformance;
pub mod demo;
pub mod engines;
pub mod fuzz;
pub mod hostile;
pub mod kill;
pub mod law;
pub mod quality;
pub mod real;
pub mod scale;
pub mod sim;
pub mod simulate;
pub mod workspace;
