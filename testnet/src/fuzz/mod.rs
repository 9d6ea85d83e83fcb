//! Hostile input: targets over the core and its decoders, and `cargo testnet fuzz`, which runs
//! them and those of the other crates under libFuzzer.
//!
//! A target is a plain function. The tests run each over its seeds and some alterations of them,
//! so the gate needs no nightly compiler; `testnet/fuzz` makes a program of each.

mod campaign;
pub mod core;
mod figures;
mod forged;
mod spec;
mod statements;

pub use campaign::{Fuzz, run};
pub use shoal_protocol::fuzzing::Target;

/// The targets of this crate: what `shoal-protocol` takes from outside.
pub const TARGETS: [Target; 5] =
    [statements::WIRE, statements::SIGNED, spec::SPEC, spec::TEXT, core::TARGET];

/// The target of this name.
///
/// # Panics
/// There is none.
pub fn target(name: &str) -> Target {
    *TARGETS.iter().find(|it| it.name == name).expect("the name of a target")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Strangers' bytes end in a value or an error, whatever they are.
    #[test]
    fn altered_bytes_keep_the_promises() {
        for target in TARGETS {
            target.try_some(if target.name == "core" { 150 } else { 2_000 });
        }
    }

    /// Without a program nobody runs it under libFuzzer.
    #[test]
    fn targets_have_programs() {
        let programs = include_str!("../../fuzz/Cargo.toml");
        for target in TARGETS {
            let entry = format!("name = \"{}\"", target.name);
            assert!(programs.contains(&entry), "`{}` is not in testnet/fuzz", target.name);
        }
    }
}
