//! `shoal operator ls`.

use shoal_protocol::model::view::OperatorView;

use super::{short, table};

/// A line per operator: its role, where and until when it has it, who gave it, and its key.
pub fn operators(views: &[OperatorView]) -> String {
    let head = ["NAME", "ROLE", "NAMESPACES", "UNTIL", "GIVEN BY", "KEY"];
    let rows: Vec<Vec<String>> = views.iter().map(row).collect();
    table::table(&head, &rows)
}

fn row(it: &OperatorView) -> Vec<String> {
    let until = match (&it.revoked, &it.expires) {
        (Some(why), _) if why.is_empty() => "revoked".into(),
        (Some(why), _) => format!("revoked: {why}"),
        (None, Some(expires)) => expires.clone(),
        (None, None) => "-".into(),
    };
    let namespaces = match it.namespaces.is_empty() {
        true => "all".into(),
        false => it.namespaces.join(","),
    };
    vec![it.name.clone(), it.role.clone(), namespaces, until, it.by.clone(), short(&it.key)]
}
