#![no_main]
shoal_fuzz::program!(shoal::fuzzing::target("rows"));
