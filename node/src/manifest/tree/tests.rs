use super::*;

fn only(text: &str) -> Tree {
    let mut all = read(FileId(0), text).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn refusal(text: &str) -> String {
    let problem = read(FileId(0), text).unwrap_err();
    format!("{}:{}: {problem}", problem.at.line, problem.at.column)
}

/// A tree on one line; quoted scalars in quotes.
fn show(tree: &Tree) -> String {
    match &tree.value {
        Value::Scalar(scalar) if scalar.is_plain => scalar.text.clone(),
        Value::Scalar(scalar) => format!("{:?}", scalar.text),
        Value::List(items) => {
            format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(", "))
        }
        Value::Map(entries) => {
            let entry = |it: &Entry| format!("{}: {}", it.key, show(&it.value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
    }
}

#[test]
fn scalars_keep_their_text_and_place() {
    let tree = only("a: 010\nb:\n  - \"3\"\n  -   yes\n");
    assert_eq!(show(&tree), "{a: 010, b: [\"3\", yes]}");
    let item = &tree.get("b").unwrap().as_list().unwrap()[1];
    assert_eq!((item.at.line, item.at.column), (4, 7));
    assert_eq!((tree.entry("b").unwrap().at.line, tree.entry("b").unwrap().at.column), (2, 1));
}

#[test]
fn merge_keys_and_aliases_are_replaced() {
    let text = "x: &x { a: 1, b: { c: 2 } }\ny: &y { d: 4, a: 9 }\nz: { <<: [*x, *y], b: 3 }\n";
    assert_eq!(show(only(text).get("z").unwrap()), "{b: 3, a: 1, d: 4}");
    assert!(refusal("x: &x {}\nz: { <<: *x, <<: *x }").contains("`<<` stands here twice"));
    assert!(refusal("z: { <<: 3 }").contains("takes a mapping"));
    assert!(refusal("a: &a [*a]").contains("within its own anchor"));
}

#[test]
fn key_that_stands_twice_is_refused_with_both_lines() {
    assert_eq!(refusal("a: 1\nb: 2\na: 3\n"), "3:1: `a` stands here twice, first in line 1");
}

/// Each level has ten times the values of the one before.
#[test]
fn text_that_grows_by_its_aliases_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..8 {
        let before = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(", "));
    }
    assert!(refusal(&text).contains("more than 300000 values"));
    assert!(
        refusal(&"[".repeat(100)).contains("level") || refusal(&"[".repeat(100)).contains("limit")
    );
}

#[test]
fn documents_are_divided_and_empty_ones_left_out() {
    let all = read(FileId(0), "---\na: 1\n---\n# nothing\n---\n~\n---\nb: 2\n...\n").unwrap();
    assert_eq!(all.iter().map(show).collect::<Vec<_>>(), ["{a: 1}", "{b: 2}"]);
    assert_eq!(read(FileId(0), "\u{feff}a: 1\r\nb: 2\r\n").unwrap().len(), 1);
    assert!(read(FileId(0), "").unwrap().is_empty());
}

#[test]
fn tags_that_matter_are_kept() {
    let tree = only("a: !reset null\nb: !override [1]\nc: !!str 3\nd: !foo 8\n");
    let tags: Vec<_> = tree.as_map().unwrap().iter().map(|it| it.value.tag).collect();
    let expected = [Tag::Reset, Tag::Override, Tag::Text, Tag::Other].map(Some);
    assert_eq!(tags, expected);
}

#[test]
fn tab_and_directive_are_refused() {
    assert!(refusal("a:\n\tb: 1\n").contains("a tab indents this line"));
    assert!(refusal("%YAML 1.2\n---\na: 1\n").starts_with("1:"));
}
