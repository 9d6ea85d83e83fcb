//! The world around shoal: the gate, the import law, real nodes as processes, the demo and the
//! benchmarks.
//!
//! **It never links what it tests.** This crate depends on `shoal-protocol` alone: the simulator
//! drives that state machine directly, and real nodes are the `shoal` binary, started as a child
//! process and spoken to through its socket, its HTTP port and its command line, as a user would.
//! So nothing here can pass because two halves share a bug through a library call, and the gate
//! runs on a machine where nothing is built yet.

#![expect(clippy::print_stdout, reason = "its commands speak to a person at a terminal")]

pub mod bench;
pub mod chaos;
pub mod check;
pub mod demo;
pub mod kill;
pub mod law;
pub mod real;
pub mod scale;
pub mod sim;
pub mod simulate;
pub mod workspace;
