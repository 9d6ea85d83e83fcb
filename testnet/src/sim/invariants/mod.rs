//! Invariants: those of every step, and those of a cluster without faults.

mod containers;
mod liars;
mod rest;
mod step;

pub use rest::{at_rest, healthy_once, is_lost, well};
