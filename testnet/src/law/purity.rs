//! `protocol` is sans-IO and deterministic: the same inputs and seed give the same effects, on
//! every device. So is the simulated world around it: with one unordered map in it, a seed would no
//! longer give the same history twice.

use super::{Source, Violation};

const CORE: &str = "protocol/src/";
const WORLD: &str = "testnet/src/sim/";

/// Paths that nothing in `protocol` may begin with.
const PATHS: &[(&str, &str)] = &[
    ("tokio", "the driver owns the event loop: return an effect"),
    ("libp2p", "the driver owns the network: return an effect"),
    ("std::fs", "the driver owns the disk: emit `Persist`"),
    ("std::net", "the driver owns the sockets: addresses are plain text here"),
    ("std::time::Instant", "time comes in as `model::Time`"),
    ("std::time::SystemTime", "wall-clock time comes in as `model::WallClock`"),
    ("std::thread", "the core runs where it is called"),
    ("std::process", "only `main` ends a process, only an adapter starts one"),
    ("std::env", "configuration comes in as a value"),
];

/// Paths below those that are plain values.
const VALUES: &[&str] = &["std::net::IpAddr"];

/// Names that may not occur, from whatever crate.
const NAMES: &[(&str, &str)] = &[
    ("HashMap", "its order differs in every process: use BTreeMap"),
    ("HashSet", "its order differs in every process: use BTreeSet"),
    ("RandomState", "it is seeded differently in every process"),
    ("thread_rng", "chance comes from the seed the core was made with"),
    ("OsRng", "chance comes from the seed the core was made with"),
    ("SystemRandom", "chance comes from the seed the core was made with; the driver makes keys"),
];

/// Macros that print to a terminal.
const PRINTS: &[&str] = &["print", "println", "eprint", "eprintln", "dbg"];

pub(super) fn check(source: &Source) -> Vec<Violation> {
    let rule = if source.file.starts_with(CORE) {
        "protocol is sans-IO and deterministic"
    } else if source.file.starts_with(WORLD) {
        "the simulated world is deterministic"
    } else {
        return Vec::new();
    };
    let mut violations = Vec::new();
    let mut found = |line, what: &str, why: &str| {
        violations.push(source.violation(line, rule, format!("`{what}`: {why}")));
    };
    for named in &source.named {
        let shown = named.path.join("::");
        for (path, why) in PATHS {
            let is_value = VALUES.contains(&shown.as_str());
            if named.path.len() > 1
                && !is_value
                && (is_below(&shown, path) || imports_all_around(&shown, path))
            {
                found(named.line, &shown, why);
            }
        }
        for (name, why) in NAMES {
            if named.path.iter().any(|own| own == name) {
                found(named.line, name, why);
            }
        }
        let prints = named.called_as_macro
            && named.path.last().is_some_and(|name| PRINTS.contains(&name.as_str()));
        // Tests may print: cargo shows it only when they fail.
        let tests = source.module.last().is_some_and(|module| module == "tests");
        if prints && source.file.starts_with(CORE) && !tests {
            found(
                named.line,
                &format!("{shown}!"),
                "the core reports through effects: emit `Notify`",
            );
        }
    }
    violations
}

/// `std::fs::read` is below `std::fs`.
fn is_below(shown: &str, path: &str) -> bool {
    shown.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// `std::time::*` imports `std::time::Instant`.
fn imports_all_around(shown: &str, path: &str) -> bool {
    let parent = shown.strip_suffix("::*");
    parent.and_then(|parent| path.strip_prefix(parent)).is_some_and(|rest| rest.starts_with("::"))
}
