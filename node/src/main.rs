//! The daemon and the command line. All it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // A component is compiled by this same program, started anew: then this does not return.
    shoal::init();
    shoal::cli::main()
}
