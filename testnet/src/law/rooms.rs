//! Rooms of `protocol` do not import one another; `protocol::node` alone knows them all.

use super::paths::Named;
use super::{Source, Violation};

const SOURCES: &str = "protocol/src/";

/// The leaf that every room may name: plain types, no room's logic.
const LEAF: &str = "model";
/// The room that may name all rooms.
const HUB: &str = "node";
/// The envelope: it and the hub name one another, other rooms name neither.
const CODEC: &str = "wire";

pub(super) fn check(source: &Source) -> Vec<Violation> {
    // The crate's root is exempt: it declares the rooms and re-exports from them.
    let Some(own) = source.module.first().filter(|_| source.file.starts_with(SOURCES)) else {
        return Vec::new();
    };
    source.named.iter().filter_map(|named| judge(source, own, named)).collect()
}

fn judge(source: &Source, own: &str, named: &Named) -> Option<Violation> {
    if named.path.first()? != "crate" || own == HUB {
        return None;
    }
    let other = named.path.get(1)?.as_str();
    let shown = named.path.join("::");
    let found = |rule, why: String| Some(source.violation(named.line, rule, why));
    match (own, other) {
        _ if other == own || (named.path.len() == 2 && named.called_as_macro) => None,
        (LEAF, _) => found(
            "model is a leaf",
            format!(
                "`{shown}` is named in `{LEAF}`, which knows no room: move the shared type into \
                    `{LEAF}`"
            ),
        ),
        (_, LEAF) => None,
        (CODEC, "*") | (_, "*") => found(
            "rooms do not import one another",
            format!(
                "`{shown}` imports every room into `{own}`: name `crate::{LEAF}` or the room's \
                    own modules"
            ),
        ),
        (CODEC, _) => None,
        (_, CODEC) => found(
            "only node speaks wire",
            format!(
                "`{shown}` is named in the room `{own}`: rooms hold their own types, `{HUB}` \
                    encodes them"
            ),
        ),
        _ => found(
            "rooms do not import one another",
            format!(
                "`{shown}` is named in the room `{own}`: put a shared plain type into `{LEAF}`, \
                 or let `{HUB}` carry the fact from one room to the other"
            ),
        ),
    }
}
