//! The tables of docs/kubernetes.md, made of those that judge. `SHOAL_WRITE=1` writes them.

use std::fmt::Write;
use std::path::Path;

use super::super::verdict::{Row, page};
use super::rows::{
    CONTAINER, FILES, KEY, NODE_TERM, POD, POD_TERM, PROBE, PROFILE, SELECTOR, SOURCES,
};
use super::table::{Fate, KINDS, OBJECT, TEMPLATE};

/// What stands behind this line is made.
const MARK: &str = "<!-- The tables below are made of those that judge files; do not edit: \
    SHOAL_WRITE=1 -->\n";

fn tables() -> String {
    let mut out = String::from("\n## Kinds\n\n| kind | API | here |\n| --- | --- | --- |\n");
    for kind in KINDS {
        let here = match kind.fate {
            Fate::Read => kind.becomes.to_owned(),
            Fate::LeftOut(why) => format!("left out: {why}"),
            Fate::Refused(why, mend) => format!("refused: {why}. {mend}"),
        };
        let _ = writeln!(out, "| {} | `{}` | {here} |", kind.name, kind.apis.join("`, `"));
    }
    let mut table = |title: &str, about: &str, rows: &[Row]| {
        let rows: Vec<Row> = rows.iter().filter(|row| !row.text.is_empty()).copied().collect();
        let _ = write!(out, "\n## {title}\n\n{about}\n\n{}", page(&rows));
    };
    table("Every object", "Fields of all kinds.", OBJECT);
    for kind in KINDS.iter().filter(|kind| !kind.rows.is_empty()) {
        let about = match kind.pod {
            Some(pod) => format!("The pod stands below `{pod}`."),
            None => "Its own fields.".to_owned(),
        };
        table(kind.name, &about, kind.rows);
    }
    table("Pods", "Below the template of a workload, or in a Pod.", POD);
    table("Templates", "The other fields of a template.", TEMPLATE);
    table("Containers", "Below `spec.containers.*` of a pod.", CONTAINER);
    table("Probes", "Below each probe of a container.", PROBE);
    table("Volumes", "Below `spec.volumes.*` of a pod.", SOURCES);
    table("Files", "Below the `configMap` and `secret` of a volume.", FILES);
    table("Keys", "Below `configMapKeyRef` and `secretKeyRef`.", KEY);
    table("Terms about nodes", "Below `nodeSelectorTerms.*` and `preference`.", NODE_TERM);
    table("Terms about pods", "Below each term of `podAffinity` and the like.", POD_TERM);
    table("Selectors", "Below `labelSelector`.", SELECTOR);
    table("Profiles", "Below `seccompProfile` and `appArmorProfile`.", PROFILE);
    out
}

#[test]
fn page_has_the_tables_that_judge() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kubernetes.md");
    let stands = std::fs::read_to_string(&file).unwrap();
    let prose = stands.split(MARK).next().unwrap();
    let current = format!("{prose}{MARK}{}", tables());
    if std::env::var_os("SHOAL_WRITE").is_some() {
        return std::fs::write(file, current).unwrap();
    }
    let how = "SHOAL_WRITE=1 cargo test -p shoal --lib kubernetes::reference writes it anew";
    assert!(stands == current, "docs/kubernetes.md is stale: {how}");
}

/// A text that is not there would leave people alone with a word.
#[test]
fn every_row_that_counts_less_says_why() {
    let all = [POD, CONTAINER, PROBE, SOURCES, FILES, KEY, NODE_TERM, POD_TERM, OBJECT, TEMPLATE];
    let of_kinds = KINDS.iter().map(|kind| kind.rows);
    for row in all.into_iter().chain(of_kinds).flatten() {
        let counts = row.verdict == super::super::verdict::Verdict::Honoured;
        assert!(counts || !row.text.is_empty(), "{}", row.path);
    }
}
