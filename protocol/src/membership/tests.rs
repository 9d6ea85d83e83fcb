//! Scenarios on a simulated network. Times are virtual, so bounds on them are exact, not hopes.

mod addresses;
mod deaths;
mod messages;
mod moves;
mod net;
mod on_demand;
mod reachability;
mod returns;
mod weather;
