//! Target: what programs write, and log files after a power cut.

use shoal_protocol::fuzzing::Target;

use super::files::{decode, encode};
use super::lines::visible;

/// The text of a line, or of a file.
pub const TARGET: Target = Target { name: "logs", run, seeds, most: 1_024 };

fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    for part in text.split('\n') {
        let shown = visible(part);
        assert!(
            !shown.chars().any(|c| c.is_control() && c != '\t'),
            "`{shown}` controls a terminal"
        );
        let Some(line) = decode(part) else { continue };
        let mut written = String::new();
        encode(&line, &mut written);
        assert_eq!(decode(written.trim_end_matches('\n')), Some(line));
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "1767225600000 stdout hello\n1767225600001 stderr a b c\n1767225600002 system started",
        "\x1b[31mred\x07\u{9b}2J\ttab",
        "\0\0\0\n1 stdout ",
        "18446744073709551615 stdout late",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}
