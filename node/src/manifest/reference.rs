//! The schema of manifests and the page of their fields, made of the types that read them. Both are
//! files; a test says when one is stale, and `SHOAL_WRITE=1` writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Document, SCHEMA, parse};

const PAGE: &str = "../docs/reference/manifest.md";

fn schema() -> Value {
    let mut schema = schemars::schema_for!(Document).to_value();
    let root = schema.as_object_mut().unwrap();
    root.insert("title".into(), "A workload of shoal".into());
    schema
}

/// What the comment of a field says, besides its meaning.
struct Field {
    text: String,
    default: Option<String>,
    example: String,
}

impl Field {
    fn of(name: &str, value: &Value) -> Field {
        let all = value["description"].as_str().unwrap_or_else(|| panic!("{name}: no comment"));
        let all = all.replace('\n', " ");
        let (text, example) =
            all.split_once("Example: ").unwrap_or_else(|| panic!("{name}: no example"));
        let (text, default) = match text.split_once("Default: ") {
            Some((text, default)) => (text, Some(default.trim().trim_end_matches('.').to_owned())),
            None => (text, None),
        };
        let example = example.trim().trim_matches('`').to_owned();
        Field { text: text.trim().to_owned(), default, example }
    }
}

fn properties(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value["properties"].as_object().into_iter().flatten()
}

/// The mappings inside a document, each by the path at which a test can reach it: what stands
/// before it and after it in a document.
const INNER: &[(&str, &str, &str)] = &[
    ("Limit", "limit: {", "}"),
    ("Relations", "affinity: {", "}"),
    ("HealthText", "health: {", "}"),
    ("UpdateText", "update: {", "}"),
    ("AutoscaleText", "autoscale: {", "}"),
    ("ProbeText", "health: { liveness: {", "} }"),
    ("Http", "health: { liveness: { http: {", "} } }"),
    ("Tcp", "health: { liveness: { tcp: {", "} } }"),
    ("ValueParts", "secrets: [{", "}]"),
    ("WeightedParts", "prefer: [{", "}]"),
    ("VolumeParts", "volumes: [{", "}]"),
    ("Pinned", "pinned: {", "}"),
    ("Platform", "pinned: { platforms: [{", "}] }"),
    ("ContainerText", "containers: [{", "}]"),
    ("HookText", "post_start: [{", "}]"),
];

/// Other spellings of a field that docker has: the schema offers one of them.
const ALIASES: &[&str] = &["src", "name", "dst", "destination"];

/// The fields that the reader knows at a place, as its refusal of another one names them.
fn known(before: &str, after: &str) -> BTreeSet<String> {
    let text = match before.is_empty() {
        true => "name: a\nimage: a\nqqqqqqqqqqqqqqqq: 1\n".to_owned(),
        false => format!("name: a\nimage: a\n{before} qqqqqqqqqqqqqqqq: 1 {after}\n"),
    };
    let error = parse(&text, Path::new("/")).unwrap_err();
    assert_eq!(error.message, "unknown field `qqqqqqqqqqqqqqqq`", "{text}");
    assert_eq!(error.line, Some(3), "{text}");
    assert!(error.column.is_some(), "{text}");
    let hint = error.hint.unwrap();
    let names = hint.strip_prefix("Known are ").unwrap().trim_end_matches('.');
    names.split(", ").map(str::to_owned).collect()
}

/// A field that the reader takes and an editor marks as wrong, or the other way round, would teach
/// people to ignore the editor.
#[test]
fn schema_has_the_fields_that_the_reader_takes() {
    let schema = schema();
    let names = |value: &Value| properties(value).map(|(name, _)| name.clone()).collect();
    assert_eq!(known("", ""), names(&schema));
    let definitions = schema["$defs"].as_object().unwrap();
    let mut seen = BTreeSet::new();
    for (name, before, after) in INNER {
        let definition = &definitions[*name];
        let mut fields = known(before, after);
        if *name == "ValueParts" {
            fields.retain(|field| !ALIASES.contains(&field.as_str()));
        }
        assert_eq!(fields, names(definition), "{name}");
        assert_eq!(definition["additionalProperties"], false, "{name}");
        seen.insert((*name).to_owned());
    }
    let mappings = definitions.iter().filter(|(_, it)| it.get("properties").is_some());
    let all: BTreeSet<String> = mappings.map(|(name, _)| name.clone()).collect();
    assert_eq!(seen, all, "a mapping that no test reaches");
}

fn manifests() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/manifests");
    let files = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    files.filter(|it| it.extension().is_some_and(|it| it == "yaml")).collect()
}

/// Every document as JSON, as an editor sees it.
fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

#[test]
fn examples_fit_the_schema_and_slips_do_not() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let files = manifests();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for document in documents(&text) {
            let wrong: Vec<String> =
                validator.iter_errors(&document).map(|it| it.to_string()).collect();
            assert!(wrong.is_empty(), "{}: {wrong:?}", file.display());
        }
    }
    for text in [
        "name: a\nimage: a\nreplica: 2",
        "name: a\nimage: a\nreplicas: -1",
        "name: A\nimage: a",
        "image: a",
        "name: a\nimage: a\nenv: [x]",
        "name: a\nimage: a\npull: sometimes",
        "name: a\nimage: a\nhealth: { liveness: { tcp: { port: 80 }, period: 5s } }",
        "name: a\nimage: a\nprefer: [{ rule: a=b, weigh: 3 }]",
    ] {
        assert!(!validator.is_valid(&documents(text)[0]), "{text}");
        assert!(
            parse(text, Path::new("/")).is_err(),
            "the reader must refuse what the schema refuses: {text}"
        );
    }
}

/// The examples of the page are read, and fit the schema.
#[test]
fn examples_of_fields_are_taken() {
    let schema = schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let check = |text: String| {
        let document = &documents(&text)[0];
        let wrong: Vec<String> = validator.iter_errors(document).map(|it| it.to_string()).collect();
        assert!(wrong.is_empty(), "{text}{wrong:?}");
        parse(&text, Path::new("/")).unwrap_or_else(|error| panic!("{text}{error}"));
    };
    for (name, value) in properties(&schema) {
        let Field { example, .. } = Field::of(name, value);
        assert!(example.starts_with(&format!("{name}: ")), "{example}");
        check(match name.as_str() {
            "name" => format!("{example}\nimage: a\n"),
            "wasm" | "artifact" | "image" | "containers" => format!("name: a\n{example}\n"),
            "args" => format!("name: a\nwasm: a\n{example}\n"),
            "world" => format!("name: a\nartifact: sha256:{}/9\n{example}\n", "ab".repeat(32)),
            "completions" | "parallel" | "retries" | "deadline" | "keep" => {
                let others = if name == "parallel" { "completions: 5\n" } else { "" };
                format!("name: a\nimage: a\nkind: job\n{others}{example}\n")
            }
            "order" => format!("name: a\nimage: a\nkind: stateful\n{example}\n"),
            "timezone" | "missed" | "overlap" | "suspend" => {
                format!("name: a\nimage: a\nschedule: \"@daily\"\n{example}\n")
            }
            "volume_on_loss" => format!("name: a\nimage: a\nvolumes: [\"a:/a\"]\n{example}\n"),
            _ => format!("name: a\nimage: a\n{example}\n"),
        });
    }
}

fn page(schema: &Value) -> String {
    let mut out = String::from(concat!(
        "# The fields of a manifest\n\n",
        "Made of the types that read manifests; do not edit. \
         `SHOAL_WRITE=1 cargo test -p shoal --lib\nmanifest::reference` writes it anew. \
         `shoal schema` prints the same for editors. What the fields are\nfor is in \
         [workloads](../workloads.md), [containers](../containers.md) and\n\
         [placement](../placement.md).\n\n",
        "Sizes are written `64MiB` (or `64M`, a million each), durations `5s`, `500ms` or `2m`,\n\
         CPU `0.1` or `100m`.\n",
    ));
    let mut table = |title: &str, about: &str, value: &Value| {
        let _ = write!(out, "\n## {title}\n\n{about}\n\n");
        out.push_str("| field | what it is | default | example |\n| --- | --- | --- | --- |\n");
        let required: BTreeSet<&str> =
            value["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, value) in properties(value) {
            let Field { text, default, example } = Field::of(name, value);
            let default = match (default, required.contains(name.as_str())) {
                (Some(default), _) => default,
                (None, true) => "required".into(),
                (None, false) => "none".into(),
            };
            let example = example.replace('|', "\\|");
            let _ = writeln!(out, "| `{name}` | {text} | {default} | `{example}` |");
        }
    };
    table("A workload", "Each document of a file is one.", schema);
    let inner: BTreeMap<&str, &str> =
        INNER.iter().map(|(name, before, _)| (*name, *before)).collect();
    for (name, before) in inner {
        let place = before.trim_end_matches(['{', '[', ' ']).replace(['{', '['], "").to_owned();
        let place: Vec<&str> =
            place.split(':').map(str::trim).filter(|it| !it.is_empty()).collect();
        let value = &schema["$defs"][name];
        let about = value["description"].as_str().unwrap().to_owned();
        table(&format!("`{}`", place.join(".")), &about, value);
    }
    out
}

fn is_current(file: &Path, current: &str) {
    if std::env::var_os("SHOAL_WRITE").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, current).unwrap();
        return;
    }
    let stands = std::fs::read_to_string(file).unwrap_or_default();
    let how = "SHOAL_WRITE=1 cargo test -p shoal --lib manifest::reference writes it anew";
    assert!(stands == current, "{} is stale: {how}", file.display());
}

#[test]
fn schema_and_page_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let schema = schema();
    let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
    is_current(&root.join("src/manifest/schema.json"), &text);
    is_current(&root.join(PAGE), &page(&schema));
    if std::env::var_os("SHOAL_WRITE").is_none() {
        assert_eq!(SCHEMA, text);
    }
}
