//! Targets for hostile input: images of strangers, components, the words of container engines,
//! references, lines of logs. Tests run them over real values and alterations of them; `cargo
//! testnet fuzz` runs them under libFuzzer.

use shoal_protocol::fuzzing::Target;

/// All of them, as far as they are built.
pub const TARGETS: &[Target] = &[
    crate::logs::fuzzing::TARGET,
    #[cfg(feature = "images")]
    crate::images::fuzzing::IMAGE,
    #[cfg(feature = "images")]
    crate::images::fuzzing::REFERENCE,
    #[cfg(feature = "container")]
    crate::container::fuzzing::TARGET,
    #[cfg(feature = "wasm")]
    crate::wasm::fuzzing::TARGET,
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
