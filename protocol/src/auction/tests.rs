mod awards;
mod bids;
mod faults;
mod notices;
mod world;
