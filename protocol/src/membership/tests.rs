//! Scenarios on a simulated network. Times are virtual, so bounds on them are exact, not hopes.

mod addresses;
mod errands;
mod falls;
mod moves;
mod net;
mod returns;
mod ways;
mod weather;
mod words;
