//! What must hold after every step, and what must hold when all faults are over.

mod rest;
mod step;

pub use rest::{at_rest, healthy_once, is_lost, well};
pub use step::Watch;
