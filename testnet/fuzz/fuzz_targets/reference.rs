#![no_main]
shoal_fuzz::program!(shoal_runtimes::fuzzing::target("reference"));
