mod awards;
mod bids;
mod faults;
mod notices;
mod placing;
mod world;
