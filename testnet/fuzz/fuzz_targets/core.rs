#![no_main]
shoal_fuzz::program!(shoal_testnet::fuzz::target("core"));
