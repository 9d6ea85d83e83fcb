//! The faults of a YAML text in plain words: those of its parser are about its own insides.

/// A part of the parser's words, the fault in ours, and the mend.
const WORDS: &[(&str, &str, &str)] = &[
    (
        "mapping values are not allowed",
        "a `:` stands where no further value can",
        "Put a text with `: ` in quotes, and give each field a line of its own.",
    ),
    (
        "simple key expected ':'",
        "a field without a `:`, or a line that belongs to none",
        "Write `name: value`; a longer text stands in quotes, or behind `|`.",
    ),
    (
        "simple key is no longer valid",
        "a field without a `:`, or a line that belongs to none",
        "Write `name: value`; a longer text stands in quotes, or behind `|`.",
    ),
    (
        "did not find expected key",
        "this line fits none of the fields above it",
        "Fields of one mapping begin in the same column: compare it with the lines above.",
    ),
    (
        "did not find expected '-' indicator",
        "this line is no item of the list above it",
        "Items of one list begin with `- ` in the same column.",
    ),
    (
        "block sequence entries are not allowed",
        "an item of a list (`- `) stands where none can",
        "A list begins in the line below its field.",
    ),
    (
        "multiline quoted scalar",
        "a quote is not closed, or its text goes on too far to the left",
        "Write its other half, or indent the text.",
    ),
    ("invalid indentation", "this line begins in the wrong column", "Compare it with those above."),
    (
        "while parsing a flow sequence",
        "a list in `[` `]` is not closed, or a comma is missing in it",
        "Write `[a, b]`.",
    ),
    (
        "while parsing a flow mapping",
        "a mapping in `{` `}` is not closed, or a comma is missing in it",
        "Write `{ a: b, c: d }`.",
    ),
    (
        "while parsing an implicit flow mapping",
        "a list in `[` `]` is not closed",
        "Write `[a, b]`.",
    ),
    ("unclosed bracket", "a bracket is not closed", "Write its other half."),
    ("unclosed quote", "a quote is not closed", "Write its other half."),
    (
        "unknown escape character",
        "a `\\` in double quotes stands before a character that it cannot",
        "Write `\\\\`, or single quotes, in which it is itself.",
    ),
    (
        "trailing content after",
        "there is more behind the closing quote",
        "Put all of the text in quotes, or none of it.",
    ),
    (
        "found unknown anchor",
        "an alias (`*NAME`) without its anchor (`&NAME`)",
        "Put a text that begins with `*` in quotes.",
    ),
    (
        "anchor or alias",
        "`&` and `*` begin names of anchors, which are letters and digits",
        "Put a text that begins with one of them in quotes.",
    ),
    (
        "block scalar",
        "behind `|` or `>` stands more than that",
        "Its text begins in the next line.",
    ),
    (
        "unexpected character",
        "a character that cannot begin a value",
        "Put a text that begins with @, ` or % in quotes.",
    ),
    ("found a tab", "a tab in a text", "Write spaces, or put the text in quotes."),
];

/// The fault and its mend, if the parser's words are known.
pub(in super::super) fn plain(theirs: &str) -> Option<(&'static str, &'static str)> {
    let known = WORDS.iter().find(|(part, ..)| theirs.contains(part));
    known.map(|(_, fault, mend)| (*fault, *mend))
}

#[cfg(test)]
mod tests {
    use super::super::{FileId, read};

    #[test]
    fn faults_of_yaml_are_told_in_plain_words() {
        for (text, wanted) in [
            ("a: b: c\n", "a `:` stands where"),
            ("a:\n  b: 1\n c: 2\n", "column"),
            ("a: [1, 2\n", "not closed"),
            ("a: {b: 1\n", "not closed"),
            ("a: \"b\n", "a quote is not closed"),
            ("a: \"\\d\"\n", "a `\\` in double quotes"),
            ("a: *b\n", "an alias"),
            ("a: @b\n", "cannot begin a value"),
            ("a: 1\nb\nc: 2\n", "a field without a `:`"),
        ] {
            let problem = read(FileId(0), text).unwrap_err();
            let told = format!("{} {}", problem.message, problem.hint.unwrap_or_default());
            assert!(told.contains(wanted), "{text:?}: {told}");
        }
    }
}
