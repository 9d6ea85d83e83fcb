//! The page of the fields, made of the table.

use std::path::Path;

use super::super::verdict::page;
use super::table::TABLE;

const PAGE: &str = "../docs/compose.md";
/// People write all that stands above the table.
const MARK: &str =
    "<!-- The table is made of the rows that decide; SHOAL_WRITE=1 writes it. -->\n\n";

#[test]
fn page_is_current() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let stands = std::fs::read_to_string(&file).unwrap_or_default();
    let prose = stands.split(MARK).next().unwrap_or_default();
    let current = format!("{prose}{MARK}{}", page(TABLE));
    if std::env::var_os("SHOAL_WRITE").is_some() {
        std::fs::write(&file, current).unwrap();
        return;
    }
    let how = "SHOAL_WRITE=1 cargo test -p shoal --lib compose::reference writes it anew";
    assert!(stands == current, "{} is stale: {how}", file.display());
}

#[test]
fn each_field_stands_once() {
    let mut paths: Vec<&str> = TABLE.iter().map(|row| row.path).collect();
    paths.sort_unstable();
    let twice: Vec<_> = paths.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}
