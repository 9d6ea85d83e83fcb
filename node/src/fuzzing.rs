//! Targets for hostile input: every decoder of this crate that takes bytes from another node, a
//! program, a person or the disk. Each panics if a promise is broken. Tests run them over real
//! values and alterations of them; `cargo testnet fuzz` runs them under libFuzzer.

use shoal_protocol::fuzzing::Target;

use crate::{api, cli, manifest, network, session, store, transfer};

/// All of them.
pub const TARGETS: [Target; 9] = [
    network::fuzzing::LINK,
    network::fuzzing::MDNS,
    session::fuzzing::TARGET,
    transfer::fuzzing::TARGET,
    store::fuzzing::TARGET,
    api::fuzzing::TARGET,
    manifest::fuzzing::TARGET,
    cli::fuzzing::WORDS,
    cli::fuzzing::ARCHIVE,
];

/// The target of this name.
///
/// # Panics
/// There is none.
pub fn target(name: &str) -> Target {
    *TARGETS.iter().find(|it| it.name == name).expect("the name of a target")
}

#[cfg(test)]
mod tests {
    /// Strangers' bytes end in a value or an error, whatever they are.
    #[test]
    fn altered_bytes_keep_the_promises() {
        for target in super::TARGETS {
            target.try_some(300);
        }
    }

    /// Without a program nobody runs it under libFuzzer.
    #[test]
    fn targets_have_programs() {
        let programs = include_str!("../../testnet/fuzz/Cargo.toml");
        for target in super::TARGETS {
            let entry = format!("name = \"{}\"", target.name);
            assert!(programs.contains(&entry), "`{}` is not in testnet/fuzz", target.name);
        }
    }
}
