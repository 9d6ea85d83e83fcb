//! The daemon and the command line; all code is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Components are compiled by a child process of this same program; there this does not return.
    shoal::init();
    shoal::cli::main()
}
