//! The compiler as a program of its own, for programs, such as tests, that cannot call
//! [`shoal_runtimes::wasm::compiler_entry`] first in `main`: they name its path in
//! [`shoal_runtimes::wasm::Config::compiler`].

fn main() -> std::process::ExitCode {
    shoal_runtimes::wasm::compiler_entry();
    eprintln!("shoal-compile: started by a node to compile components; it does nothing else");
    std::process::ExitCode::FAILURE
}
