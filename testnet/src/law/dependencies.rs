//! The dependencies that each crate may have, with reasons. Other dependencies are refused, and so
//! are entries that are no longer used.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Violation;

struct Package {
    name: &'static str,
    /// Crates that it may link, with reasons.
    uses: &'static [(&'static str, &'static str)],
    /// Crates that only its tests may link, with reasons.
    tests_use: &'static [(&'static str, &'static str)],
}

const PACKAGES: &[Package] = &[
    Package {
        name: "shoal-protocol",
        uses: &[
            ("base64", "the text of an invite"),
            ("bincode", "the bytes on the wire and on disk"),
            ("chrono", "calendar days and minutes of schedules; without its clock"),
            ("chrono-tz", "time zones of schedules, the same on every device"),
            ("crdts", "MVReg, the register of desired state"),
            ("croner", "the wall times that a schedule matches"),
            ("imbl", "maps whose copies share what they have in common"),
            ("rand_chacha", "the one seeded generator, equal on every platform"),
            ("ring", "Ed25519 and SHA-256"),
            ("serde", "the frozen wire types"),
            ("thiserror", "typed errors"),
        ],
        tests_use: &[("proptest", "random histories against small models")],
    },
    Package {
        name: "shoal-runtimes",
        uses: &[
            ("shoal-protocol", "Digest, the states of an instance, and the form of a container"),
            ("bytes", "request and response bodies"),
            ("base64", "the credentials in docker's file"),
            ("bollard", "container engines"),
            ("flate2", "images that are compressed with gzip"),
            ("futures", "streams of log lines"),
            ("http", "requests that reach a replica"),
            ("http-body-util", "bodies"),
            ("hyper", "bodies, as wasmtime-wasi-http has them"),
            ("hyper-util", "hyper on tokio, for the engine's socket"),
            ("ring", "SHA-256 of artifacts, the MAC over compiled code"),
            ("rustix", "limits of the compiler child, room on the disk, CPU time"),
            ("ruzstd", "images that are compressed with zstd"),
            ("serde", "the manifests of images"),
            ("serde_json", "the same, in their format"),
            ("tar", "headers of image archives, and writing one"),
            ("thiserror", "typed errors"),
            ("tokio", "files, child processes and timers"),
            ("tokio-util", "cancels the requests of a replica"),
            ("tracing", "diagnostics"),
            ("wasmparser", "looks at a file without compiling it; the version wasmtime has"),
            ("wasmtime", "runs components"),
            ("wasmtime-wasi", "the guest's clock, chance and streams"),
            ("wasmtime-wasi-http", "the guest's HTTP"),
        ],
        tests_use: &[("tar", "images for containers"), ("tempfile", "folders that vanish")],
    },
    Package {
        name: "shoal",
        uses: &[
            ("shoal-protocol", "the core"),
            ("shoal-runtimes", "runs workloads"),
            ("argon2", "keys under a passphrase (RFC 9106)"),
            ("async-trait", "hickory's trait for a name server"),
            ("axum", "the API on the unix socket"),
            ("bytes", "frames and bodies"),
            ("clap", "the command line"),
            ("clap_complete", "completions of the shell, from clap's description of the verbs"),
            ("futures", "streams"),
            ("hickory-server", "names of workloads, for containers"),
            ("hpke", "seals secrets to nodes (RFC 9180)"),
            ("http", "requests to replicas"),
            ("http-body-util", "bodies"),
            ("hyper", "the HTTP port, and the client of the unix socket"),
            ("hyper-util", "hyper on tokio"),
            ("libp2p", "the mesh"),
            ("redb", "the store"),
            ("qrcode", "an invite for a device with a camera"),
            ("ring", "keys"),
            ("rpassword", "asks for a passphrase on a terminal"),
            ("rtnetlink", "the device's interfaces, and when they change"),
            ("rustix", "CLOCK_BOOTTIME, signals, file locks, sockets' options"),
            ("shlex", "the words of a command that was given as one text"),
            ("serde", "the API's types"),
            ("serde_json", "the API's bodies"),
            ("base64", "the values of a Secret of Kubernetes"),
            ("granit-parser", "YAML with the place of each part, for files of other tools"),
            ("serde-saphyr", "YAML at the door"),
            (
                "socket2",
                "the segment size of connections, an end by reset, multicast, what the kernel \
                    holds back for a client",
            ),
            ("tar", "files that `cp` brings to a replica and back"),
            ("thiserror", "typed errors"),
            ("tokio", "the event loop"),
            ("tokio-util", "codecs and streams on tokio"),
            ("tracing", "diagnostics"),
            ("tracing-subscriber", "diagnostics to a terminal"),
        ],
        tests_use: &[
            ("jsonschema", "judges manifests by their schema, as an editor does"),
            ("proptest", "generated workloads that are exported and read again"),
            ("schemars", "the schema of manifests, from the types that read them"),
            ("tempfile", "folders that vanish"),
        ],
    },
    Package {
        name: "shoal-testnet",
        // Never shoal, shoal-runtimes or wasmtime: real nodes are processes, and the gate must
        // build quickly.
        uses: &[
            ("shoal-protocol", "the state machine the simulator drives"),
            ("anyhow", "errors that only a person reads"),
            ("clap", "the command line"),
            ("futures", "reads and writes the streams of hostile peers"),
            ("imbl", "the disks of ten thousand devices share what they have in common"),
            ("libp2p", "the handshake and the streams of hostile peers"),
            ("plotters", "the curves of `scale`"),
            ("rand_chacha", "the simulator's seeded generator"),
            ("rustix", "process groups, and the death signal of children"),
            ("serde", "benchmark lines"),
            ("serde_json", "the API's bodies, `cargo metadata`"),
            ("signal-hook", "Ctrl-C leaves nothing behind"),
            ("tokio", "a thousand hostile connections at a time"),
        ],
        tests_use: &[
            ("proptest", "draws actions of users and faults, and shortens what failed"),
            ("proptest-state-machine", "the same, one step after another, beside a small model"),
            (
                "stateright",
                "takes every step of three nodes in turn, and finds the shortest way to what is \
                    wrong",
            ),
        ],
    },
    Package {
        name: "gateway",
        uses: &[
            ("shoal", "the node as a library"),
            ("anyhow", "errors that only a person reads"),
            ("futures", "to take events from a stream"),
            ("tokio", "the gateway's own event loop"),
        ],
        tests_use: &[],
    },
];

pub(super) fn check(root: &Path, metadata: &Value) -> Result<Vec<Violation>> {
    let mut violations = Vec::new();
    for package in metadata["packages"].as_array().context("`cargo metadata` lists no packages")? {
        let name = package["name"].as_str().context("a package without a name")?;
        let manifest =
            Path::new(package["manifest_path"].as_str().context("a package without a manifest")?);
        let text = std::fs::read_to_string(manifest).unwrap_or_default();
        let file = manifest.strip_prefix(root).unwrap_or(manifest).to_string_lossy().into_owned();
        let mut found = |word: &str, why: String| {
            let line =
                1 + text.lines().position(|line| line.trim_start().starts_with(word)).unwrap_or(0);
            violations.push(Violation {
                file: file.clone(),
                line,
                rule: "every dependency has its reason",
                why,
            });
        };
        let Some(allowed) = PACKAGES.iter().find(|allowed| allowed.name == name) else {
            found(
                "name",
                format!("the package `{name}` has no entry in testnet/src/law/dependencies.rs"),
            );
            continue;
        };
        let (uses, tests_use) = dependencies(package);
        for dependency in &uses {
            if !allowed.uses.iter().any(|(known, _)| known == dependency) {
                found(
                    dependency,
                    format!(
                        "`{name}` may not depend on `{dependency}`: do without, or give the \
                         reason in testnet/src/law/dependencies.rs"
                    ),
                );
            }
        }
        for dependency in &tests_use {
            if !allowed.uses.iter().chain(allowed.tests_use).any(|(known, _)| known == dependency) {
                found(
                    dependency,
                    format!(
                        "the tests of `{name}` may not depend on `{dependency}`: do without, or \
                         give the reason in testnet/src/law/dependencies.rs"
                    ),
                );
            }
        }
        let unused = allowed.uses.iter().filter(|(known, _)| !uses.contains(known));
        let unused =
            unused.chain(allowed.tests_use.iter().filter(|(known, _)| !tests_use.contains(known)));
        for (dependency, _) in unused {
            found(
                "name",
                format!(
                    "`{name}` no longer depends on `{dependency}`: remove it from \
                        testnet/src/law/dependencies.rs"
                ),
            );
        }
    }
    Ok(violations)
}

/// The names of the crates that a package links, and of those that only its tests link.
fn dependencies(package: &Value) -> (Vec<&str>, Vec<&str>) {
    let all = package["dependencies"].as_array().map_or(&[][..], Vec::as_slice);
    let of = |tests: bool| {
        let wanted = all.iter().filter(move |one| (one["kind"] == "dev") == tests);
        wanted.filter_map(|one| one["name"].as_str()).collect()
    };
    (of(false), of(true))
}
