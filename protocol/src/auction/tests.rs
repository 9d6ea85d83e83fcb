mod awards;
mod bids;
mod faults;
mod world;
