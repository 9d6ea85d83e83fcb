//! The difference between the places of a workload and the claims of nodes, as steps: **the only
//! code that decides what to do about a place**. Pure, and every step says why it is there.
//!
//! The plan decides nothing that needs more than its arguments. Only the owner auctions a free
//! place. Only a holder replaces or stops what it claims, and it stops a duplicate only after the
//! kept holder has answered (see the room `claims`).

mod autoscale;
mod balance;
mod home;
mod order;
mod rescue_throttle;
mod rollout;
mod step;
#[cfg(test)]
mod tests;
mod words;

pub use autoscale::{Loads, SETTLES, Watched};
pub use balance::{BalanceConfig, Filled, Movable, best_move};
pub use home::{Home, bind, bind_to_node};
pub use order::{end_in_order, in_order};
pub use rescue_throttle::{RescueThrottle, RescueThrottleConfig};
pub use rollout::{NextStep, Progress, Seen, next_step};
pub use step::{Free, Holder, Leaves, NodeState, Step, Surplus, Waiting, Wanted, plan, plan_place};
pub use words::replacing;
