//! Small fake trees: each rule fires at the right line, and accepts what is right.

use std::collections::BTreeMap;

use serde_json::json;

use super::*;

/// Violations of the import rules in one file, as `line: rule: path`.
fn violations_in(file: &str, text: &str) -> Vec<String> {
    let folder = file.split_once("/src/").map_or("", |(folder, _)| folder);
    let inner = Path::new(file).strip_prefix(format!("{folder}/src")).unwrap_or(Path::new(""));
    let module = module(inner);
    let source = Source { file: file.to_owned(), named: paths::named(text, &module), module };
    let mut violations =
        [rooms::check(&source), purity::check(&source), confined::check(&source)].concat();
    violations.sort();
    let blamed = |why: &str| why.split('`').nth(1).unwrap_or_default().to_owned();
    violations
        .iter()
        .map(|one| format!("{}: {}: {}", one.line, one.rule, blamed(&one.why)))
        .collect()
}

const SIBLING: &str = "rooms do not import one another";
const PURE: &str = "protocol is sans-IO and deterministic";
const STAYS: &str = "a library stays in its folder";

#[test]
fn room_may_not_name_a_sibling_in_any_spelling() {
    let file = "protocol/src/membership/mod.rs";
    for text in [
        "use crate::ring::Ring;",
        "use crate::{model::Time, ring};",
        "fn f() -> crate::ring::Ring { todo!() }",
        "use super::ring::Ring;",
        "use crate as all; fn f(x: all::ring::Ring) {}",
        "mod tests { use super::super::ring::Ring; }",
        "macro_rules! m { () => { $crate::ring::Ring } }",
        "#[derive(Debug)] struct S<'a>(&'a str, char); const C: char = '\"'; const Q: char = \
            '\\''; use crate::ring::X;",
    ] {
        let said = violations_in(file, text);
        assert!(
            said.iter().any(|one| one.starts_with(&format!("1: {SIBLING}: crate::ring"))),
            "{text}: {said:?}"
        );
    }
    assert_eq!(violations_in(file, "use super::*;"), [format!("1: {SIBLING}: crate::*")]);
}

#[test]
fn room_may_name_itself_and_model() {
    let file = "protocol/src/membership/probe/round.rs";
    let text = "
        use crate::membership::probe::*;
        use crate::model::{NodeId, Time as Moment};
        use super::super::Config;
        // use crate::ring::Ring;
        /* use crate::ring::Ring; /* nested */ use crate::ring::Ring; */
        const TEXT: &str = \"use crate::ring::Ring;\";
        const RAW: &str = r#\"\" use crate::ring::Ring;\"#;
        fn f(ring: u8) -> u8 { ring.min(1) + crate::some_macro!(ring) }
        mod tests { use super::*; use super::super::other; }
    ";
    assert_eq!(violations_in(file, text), Vec::<String>::new());
}

#[test]
fn model_is_a_leaf() {
    let said = violations_in(
        "protocol/src/model/claim.rs",
        "use super::id::NodeId;\nuse crate::claims::Sheet;\nuse crate::node::Node;",
    );
    assert_eq!(
        said,
        ["2: model is a leaf: crate::claims::Sheet", "3: model is a leaf: crate::node::Node"]
    );
}

#[test]
fn only_node_names_wire_and_all_rooms() {
    assert_eq!(
        violations_in("protocol/src/node/mod.rs", "use crate::{ring, wire, auction};"),
        Vec::<String>::new()
    );
    assert_eq!(
        violations_in("protocol/src/lib.rs", "pub mod ring; pub use ring::Ring; use crate::wire;"),
        Vec::<String>::new()
    );
    assert_eq!(
        violations_in("protocol/src/ring/mod.rs", "use crate::wire::Envelope;"),
        ["1: only node speaks wire: crate::wire::Envelope"]
    );
    assert_eq!(
        violations_in("protocol/src/ring/mod.rs", "use crate::node::Node;"),
        [format!("1: {SIBLING}: crate::node::Node")]
    );
    assert_eq!(
        violations_in("protocol/src/wire/mod.rs", "use crate::auction::Message;"),
        Vec::<String>::new()
    );
    assert_eq!(
        violations_in("protocol/src/wire/mod.rs", "use crate::node::Message;"),
        Vec::<String>::new()
    );
    assert_eq!(
        violations_in("protocol/src/wire/mod.rs", "use crate::*;"),
        [format!("1: {SIBLING}: crate::*")]
    );
}

#[test]
fn protocol_touches_no_device() {
    let file = "protocol/src/sync/mod.rs";
    let text = "use std::time::{Duration, Instant};
        fn f() { std::fs::read(\"x\"); }
        use std::time; fn g() -> time::SystemTime { }
        use tokio::sync;
        use std::net::SocketAddr;
        fn h() { std::thread::spawn(f); }
        fn i() { println!(\"no\"); }
        fn j(map: HashMap<u8, u8>) {}
        use std::time::*;
        let tokio = 1; let println = 2; if println != 3 {}";
    let expected = [
        format!("1: {PURE}: std::time::Instant"),
        format!("2: {PURE}: std::fs::read"),
        format!("3: {PURE}: std::time::SystemTime"),
        format!("4: {PURE}: tokio::sync"),
        format!("5: {PURE}: std::net::SocketAddr"),
        format!("6: {PURE}: std::thread::spawn"),
        format!("7: {PURE}: println!"),
        format!("8: {PURE}: HashMap"),
        format!("9: {PURE}: std::time::*"),
        format!("9: {PURE}: std::time::*"),
    ];
    assert_eq!(violations_in(file, text), expected);
    assert_eq!(violations_in("node/src/driver.rs", text), Vec::<String>::new());
    assert_eq!(
        violations_in("protocol/src/sync/tests.rs", "fn f() { println!(); }"),
        Vec::<String>::new()
    );
    // The simulated world follows the same rule, but may print.
    let world = violations_in("testnet/src/sim/world.rs", text);
    assert_eq!(world.len(), expected.len() - 1, "{world:#?}");
    assert!(
        world.iter().all(|one| one.contains("the simulated world is deterministic")),
        "{world:#?}"
    );
}

#[test]
fn libraries_stay_in_their_folders() {
    for (library, home, elsewhere) in [
        ("bincode::encode", "protocol/src/model/codec.rs", "protocol/src/node/mod.rs"),
        ("libp2p::PeerId", "node/src/network/mod.rs", "node/src/driver.rs"),
        ("libp2p_noise::Config", "node/src/network/hop.rs", "node/src/transfer/mod.rs"),
        ("redb::Database", "node/src/store/mod.rs", "node/src/api/mod.rs"),
        ("wasmtime_wasi::WasiCtx", "runtimes/src/wasm/host.rs", "runtimes/src/lib.rs"),
        ("wasmtime::Engine", "runtimes/src/wasm.rs", "runtimes/tests/wasm.rs"),
    ] {
        let text = format!("use {library};");
        assert_eq!(violations_in(home, &text), Vec::<String>::new());
        assert_eq!(violations_in(elsewhere, &text), [format!("1: {STAYS}: {library}")]);
    }
}

/// Violations of `prose` in one file, as `line: rule`.
fn prose_in(file: &str, text: &str) -> Vec<String> {
    let violations = prose::judge(file, text);
    violations.iter().map(|one| format!("{}: {}", one.line, one.rule)).collect()
}

const WIDE: &str = "lines fit into 100 columns";
const TERSE: &str = "a doc comment says more than one word";

#[test]
fn lines_are_counted_in_characters_up_to_a_hundred() {
    let (fits, long) = ("ü".repeat(100), "ü".repeat(101));
    for file in ["node/src/lib.rs", "docs/api.md"] {
        assert_eq!(prose_in(file, &fits), Vec::<String>::new());
        assert_eq!(prose_in(file, &format!("\n{long}\n{fits}")), [format!("2: {WIDE}")]);
    }
    // Neither a raw string nor a block of code is an exception.
    let word = "x".repeat(101);
    assert_eq!(prose_in("a.rs", &format!("r#\"\n{word}\n\"#")), [format!("2: {WIDE}")]);
    assert_eq!(prose_in("a.md", &format!("```\n{word}\n```")), [format!("2: {WIDE}")]);
}

#[test]
fn table_rows_and_link_targets_may_be_longer() {
    let (word, row) = ("x".repeat(101), format!("| {} |", "cell ".repeat(30)));
    let link = format!("see [the page](docs/{word}.md), or https://example.org/{word}");
    for (file, text) in [
        ("a.md", row.clone()),
        ("a.rs", format!("//! {row}")),
        ("a.md", link.clone()),
        ("a.rs", format!("    // {link}")),
        ("a.rs", format!("const URL: &str =\n    \"https://example.org/{word}\";")),
    ] {
        assert_eq!(prose_in(file, &text), Vec::<String>::new(), "{text}");
    }
    // Words around a link count, a closure is no row, and a call is no link.
    for (file, text) in [
        ("a.md", format!("{}[the page](docs/api.md)", "word ".repeat(30))),
        ("a.rs", format!("|{word}| left || right |")),
        ("a.rs", format!("handlers[0]({word})")),
        ("a.rs", format!("// |    {word}")),
    ] {
        assert_eq!(prose_in(file, &text), [format!("1: {WIDE}")], "{text}");
    }
}

#[test]
fn doc_comment_of_one_word_is_refused() {
    let lines = [
        "//! Law.",
        "",
        "    /// Cpu.",
        "    cpu: u32,",
        "/// `GET`",
        "///",
        "method: String,",
        "/// Bytes of",
        "/// memory.",
        "//// Ruler.",
        "// Plain.",
        "///",
        "/// Two words.",
        "//! Inner.",
        "const TEXT: &str = \"/// Quoted.\";",
    ];
    let text = lines.join("\n");
    let expected = [1, 3, 5, 14].map(|line| format!("{line}: {TERSE}"));
    assert_eq!(prose_in("a.rs", &text), expected);
    assert_eq!(prose_in("a.md", &text), Vec::<String>::new());
}

/// A workspace on disk with one package.
struct Tree(PathBuf);

impl Tree {
    fn new(name: &str, files: &BTreeMap<&str, &str>) -> Self {
        let root = std::env::temp_dir().join(format!("shoal-law-{}-{name}", std::process::id()));
        for (file, text) in files {
            let path = root.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Tree(root)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn violations_of_a_tree_say_where_and_why() {
    let long = "word ".repeat(30);
    let files = [
        (
            "protocol/Cargo.toml",
            "[package]\nname = \"shoal-protocol\"\n\n[dependencies]\ntokio = \"1\"\nserde \
                = \"1\"\n",
        ),
        ("protocol/src/lib.rs", "pub mod model;\npub mod ring;\n"),
        ("protocol/src/model/mod.rs", "pub struct Time;\n"),
        ("protocol/src/ring/mod.rs", "mod probe;\n"),
        ("protocol/src/ring/probe.rs", "use crate::model::Time;\n\nuse crate::claims::Sheet;\n"),
        ("protocol/target/old.rs", "use crate::claims::Sheet;\n"),
        ("README.md", &long),
        ("docs/scale/figures.md", &long),
        (".git/description.md", &long),
        ("examples/guests/src/lib.rs", "/// Guest.\nstruct Guest;\n"),
    ];
    let tree = Tree::new("tree", &files.into_iter().collect());
    let dependency = |name: &str, kind: Value| json!({ "name": name, "kind": kind });
    let mut used: Vec<Value> =
        ["base64", "bincode", "chrono", "chrono-tz", "crdts", "croner", "imbl", "rand_chacha"]
            .iter()
            .chain(&["ring", "serde", "tokio"])
            .map(|name| dependency(name, Value::Null))
            .collect();
    used.push(dependency("proptest", json!("dev")));
    let metadata = json!({ "packages": [{
        "name": "shoal-protocol",
        "manifest_path": tree.0.join("protocol/Cargo.toml"),
        "dependencies": used,
    }]});

    let said: Vec<String> =
        broken(&tree.0, &metadata).unwrap().iter().map(Violation::to_string).collect();

    assert_eq!(said.len(), 5, "{said:#?}");
    assert!(said[0].starts_with("README.md:1: lines fit into 100 columns"), "{}", said[0]);
    assert!(said[1].starts_with("examples/guests/src/lib.rs:1: a doc comment"), "{}", said[1]);
    let said = &said[2..];
    assert!(
        said[0].starts_with("protocol/Cargo.toml:2: every dependency has its reason"),
        "{}",
        said[0]
    );
    assert!(said[0].contains("no longer depends on `thiserror`"), "{}", said[0]);
    assert!(said[1].starts_with("protocol/Cargo.toml:5: "), "{}", said[1]);
    assert!(said[1].contains("`shoal-protocol` may not depend on `tokio`"), "{}", said[1]);
    assert!(
        said[2].starts_with("protocol/src/ring/probe.rs:3: rooms do not import one another"),
        "{}",
        said[2]
    );
}

#[test]
fn unlisted_package_is_refused() {
    let tree = Tree::new(
        "unlisted",
        &[("extra/Cargo.toml", "[package]\nname = \"extra\"\n")].into_iter().collect(),
    );
    let metadata = json!({ "packages": [
        { "name": "extra", "manifest_path": tree.0.join("extra/Cargo.toml"), "dependencies": [] },
    ]});
    let said = broken(&tree.0, &metadata).unwrap();
    assert_eq!(said.len(), 1);
    assert!(said[0].why.contains("`extra` has no entry"), "{}", said[0]);
}

#[test]
fn source_that_is_not_rust_is_read_without_panic() {
    for text in [
        "use",
        "use a::{b",
        "'",
        "\"",
        "r#\"",
        "/*",
        "mod",
        "use a::{b c}",
        "}}}",
        "use ::",
        "'\\",
        "b'",
        "extern crate",
    ] {
        paths::named(text, &[]);
    }
}
