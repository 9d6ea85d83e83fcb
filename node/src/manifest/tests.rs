use shoal_protocol::model::spec::{DEFAULT_CPU, DEFAULT_MEMORY};
use shoal_protocol::model::{Artifact, Digest, Resources, Spec};

use super::*;

fn read(text: &str) -> Result<Vec<Workload>, ManifestError> {
    parse(text, Path::new("/shop"))
}

/// The spec of a workload that was read, with some artifact.
fn spec(workload: &Workload) -> Spec {
    workload.spec(Artifact { digest: Digest([1; 32]), size: 1 }).unwrap()
}

fn refusal(text: &str) -> (Option<u64>, String, String) {
    let error = read(text).unwrap_err();
    (error.line, error.message, error.hint.unwrap_or_default())
}

#[test]
fn full_and_minimal_manifests_parse() {
    let text = "name: hello\nnamespace: shop\nwasm: hello.wasm\nreplicas: 2\nmemory: 128MiB\ncpu: \
        250m\n\
                env: { GREETING: hi, N: 5 }\nrequire: { zone: shop }\n---\nname: least\nwasm: \
                /abs/least.wasm\n";
    let workloads = read(text).unwrap();
    assert_eq!(*workloads[0].source(), Source::File("/shop/hello.wasm".into()));
    let hello = spec(&workloads[0]);
    assert_eq!(hello.name.to_string(), "shop/hello");
    assert_eq!(hello.replicas(), 2);
    assert_eq!(hello.reservation(), Resources { memory: 128 << 20, cpu: 250 });
    assert_eq!(hello.env()["N"], "5");
    assert_eq!(hello.placement.require["zone"], "shop");
    assert_eq!(*workloads[1].source(), Source::File("/abs/least.wasm".into()));
    let least = spec(&workloads[1]);
    assert_eq!(least.replicas(), 1);
    assert_eq!(least.reservation(), Resources { memory: DEFAULT_MEMORY, cpu: DEFAULT_CPU });
}

/// A field with a slip was silently ignored by other tools: here the error has the line and the
/// likely name.
#[test]
fn unknown_field_is_named_with_line_and_nearest() {
    let (line, message, hint) = refusal("name: hello\nwasm: hello.wasm\nreplica: 2\n");
    assert_eq!(
        (line, message.as_str(), hint.as_str()),
        (Some(3), "unknown field `replica`", "Did you mean `replicas`?")
    );
    let (line, message, hint) = refusal("name: hello\nwasm: hello.wasm\nnetworks: [a]\n");
    assert_eq!((line, message.as_str()), (Some(3), "unknown field `networks`"));
    assert!(hint.starts_with("Known are name, namespace, wasm,"), "{hint}");
}

/// A field that other orchestrators have, and this version has not, is no slip: it is refused by
/// its name, so that nobody takes it for working.
#[test]
fn field_of_a_later_version_is_refused_as_not_supported() {
    for field in ["health", "ports", "volumes", "image", "kind"] {
        let (line, message, _) = refusal(&format!("name: a\nwasm: a\n{field}: x\n"));
        let expected = format!("{field}: not supported yet by this version of shoal");
        assert_eq!((line, message), (Some(3), expected));
    }
}

#[test]
fn unknown_field_in_second_document_has_its_line() {
    let (line, message, _) =
        refusal("name: a\nwasm: a.wasm\n---\nname: b\nwasm: b.wasm\nenvs: {}\n");
    assert_eq!((line, message.as_str()), (Some(6), "unknown field `envs`"));
}

#[test]
fn wrong_values_name_field_line_and_form() {
    let (line, message, _) = refusal("name: Hello\nwasm: a\n");
    assert_eq!(line, Some(1));
    assert!(
        message.starts_with("name: `Hello` is not a DNS label")
            && message.ends_with("Perhaps `hello`?"),
        "{message}"
    );
    let (line, message, _) = refusal("name: a\nwasm: a\nmemory: much\n");
    assert_eq!(
        (line, message.as_str()),
        (Some(3), "memory: `much` is not a size: a number with a unit is expected, as in `64MiB`")
    );
    let (line, message, _) = refusal("name: a\nwasm: a\n\ncpu: x\n");
    assert_eq!(line, Some(4));
    assert!(message.starts_with("cpu: `x` is not an amount of CPU"), "{message}");
    let (line, message, _) = refusal("name: a\nwasm: a\nreplicas: -1\n");
    assert_eq!(line, Some(3));
    assert!(message.starts_with("replicas: `-1` is not a number"), "{message}");
    for number in ["+2", "010", "'2 '", "2.0"] {
        let (line, message, _) = refusal(&format!("name: a\nwasm: a\nreplicas: {number}\n"));
        assert!(message.starts_with("replicas: `") && line == Some(3), "{number}: {message}");
    }
    let (line, message, _) = refusal("name: a\nwasm: a\nenv: [x]\n");
    assert_eq!(line, Some(3), "{message}");
}

#[test]
fn missing_and_repeated_fields_are_named() {
    let (_, message, _) = refusal("name: a\n");
    assert_eq!(message, "the field `wasm` is missing");
    let (line, message, _) = refusal("name: a\nwasm: a\nname: b\n");
    assert_eq!((line, message.as_str()), (Some(3), "`name` stands here twice"));
    let (line, message, _) = refusal("name: a\nwasm: a\n---\nname: a\nwasm: b\n");
    assert_eq!((line, message.as_str()), (Some(4), "`a` stands in this file twice"));
    assert_eq!(refusal("").1, "there is nothing in it");
    assert_eq!(refusal("# only words\n").1, "there is nothing in it");
}

#[test]
fn invalid_yaml_is_refused_with_its_line() {
    let (line, message, _) = refusal("name: a\nwasm: [a\n");
    assert!(line.is_some(), "{message}");
    assert!(!message.contains('\n') && !message.contains("line"), "{message}");
    assert!(read("just words").is_err());
    assert!(read("[1, 2]").is_err());
    assert!(read(&format!("name: a\nwasm: {}", "x".repeat(MAX_MANIFEST))).is_err());
}

/// The files in `examples/` are the documentation: they must stay valid.
#[test]
fn examples_parse_and_show_the_defaults() {
    let hello = read(include_str!("../../../examples/manifests/hello.yaml")).unwrap();
    let default = Resources { memory: DEFAULT_MEMORY, cpu: DEFAULT_CPU };
    assert_eq!(spec(&hello[0]).reservation(), default);
    let shop = read(include_str!("../../../examples/manifests/shop.yaml")).unwrap();
    let names: Vec<String> = shop.iter().map(|workload| workload.name().to_string()).collect();
    assert_eq!(names, ["shop/till", "shop/stock"]);
}
