mod awards;
mod bids;
mod evictions;
mod faults;
mod notices;
mod placing;
mod world;
