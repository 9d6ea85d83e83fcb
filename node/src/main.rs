//! The daemon and the command line; all code is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Components are compiled by this same program, started anew: in that process this does not
    // return.
    shoal::init();
    shoal::cli::main()
}
