//! Libraries that only one folder may name, so that they can be replaced there.

use super::{Source, Violation};

struct Confined {
    /// The crate's name; crates whose names begin with it and `_` count as well.
    library: &'static str,
    /// The folders, or the files without `.rs`, relative to the workspace's root.
    homes: &'static [&'static str],
    why: &'static str,
}

const CONFINED: &[Confined] = &[
    Confined {
        library: "bincode",
        homes: &["protocol/src/model/codec"],
        why: "what is signed and hashed has one encoding, and bincode is no longer maintained: it \
            must be replaceable there",
    },
    Confined {
        library: "bollard",
        homes: &["runtimes/src/container"],
        why: "everything else uses `Runtime`, whatever runs a workload",
    },
    Confined {
        library: "libp2p",
        homes: &["node/src/network", "testnet/src/hostile"],
        why: "the rest of the node uses NodeIds and frames, whatever carries them; a hostile peer \
            speaks the same protocols",
    },
    Confined {
        library: "redb",
        homes: &["node/src/store"],
        why: "the rest of the node uses records, whatever keeps them",
    },
    Confined {
        library: "rtnetlink",
        homes: &["node/src/network"],
        why: "the rest of the node uses addresses, however the kernel reports them",
    },
    Confined {
        library: "hickory_server",
        homes: &["node/src/names"],
        why: "everything else knows workloads by their names, whatever answers for them",
    },
    Confined {
        library: "wasmtime",
        homes: &["runtimes/src/wasm"],
        why: "everything else uses `Runtime`, whatever runs a workload",
    },
];

pub(super) fn check(source: &Source) -> Vec<Violation> {
    let mut violations = Vec::new();
    for named in &source.named {
        let Some(first) = named.path.first() else { continue };
        for rule in CONFINED {
            let family = first
                .strip_prefix(rule.library)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('_'));
            // A name alone may be a variable; a path or an import names the crate.
            if family
                && named.path.len() > 1
                && !rule.homes.iter().any(|home| at_home(&source.file, home))
            {
                violations.push(source.violation(
                    named.line,
                    "a library stays in its folder",
                    format!(
                        "`{}` is named outside {}: {}",
                        named.path.join("::"),
                        rule.homes.join(" and "),
                        rule.why
                    ),
                ));
            }
        }
    }
    violations
}

fn at_home(file: &str, home: &str) -> bool {
    file.strip_prefix(home).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
}
