//! The difference between the places of a workload and the claims of nodes, as steps: **the only
//! code that decides what to do about a place**. Pure, and every step says why it is there.
//!
//! The plan decides nothing that needs more than its arguments. The owner auctions free places, a
//! holder alone replaces or stops what it claims, and stops a duplicate only after the kept holder
//! answered (see the room `claims`).

mod rescue_throttle;
mod step;
#[cfg(test)]
mod tests;

pub use rescue_throttle::{RescueThrottle, RescueThrottleConfig};
pub use step::{
    Free, Holder, NodeState, Step, Surplus, Waiting, Wanted, plan, plan_place, replacing,
};
