//! The tables of `shoal secret ls` and `shoal config ls`.

use shoal_protocol::model::spec::ValueKind;
use shoal_protocol::model::view::ValueView;

use super::super::context::Form;
use super::{short, table, time};
use crate::manifest::quantity::show_size;

/// The table of secrets or of configs.
pub fn values(views: &[ValueView], kind: ValueKind, form: Form) -> String {
    let mut head = vec!["NAME", ">SIZE", ">AGE", "VERSION"];
    if kind == ValueKind::Secret {
        head.push(">READERS");
    }
    head.push("USED BY");
    let is_wide = form == Form::Wide;
    if is_wide {
        head.push("SET BY");
        if kind == ValueKind::Secret {
            head.push("SEALED TO");
        }
    }
    let now = time::now();
    let rows: Vec<Vec<String>> = views
        .iter()
        .map(|view| {
            let mut row = vec![
                name(view),
                show_size(view.size as u64),
                time::age(&view.written, now),
                short(&view.version),
            ];
            if kind == ValueKind::Secret {
                let only = if view.holders_only { " (only)" } else { "" };
                row.push(format!("{}{only}", view.readers.len()));
            }
            row.push(or_none(view.users.join(", ")));
            if is_wide {
                row.push(view.by.clone());
                if kind == ValueKind::Secret {
                    row.push(or_none(view.readers.join(", ")));
                }
            }
            row
        })
        .collect();
    table::table(&head, &rows)
}

fn or_none(text: String) -> String {
    if text.is_empty() { "-".into() } else { text }
}

fn name(view: &ValueView) -> String {
    let full = format!("{}/{}", view.namespace, view.name);
    full.parse::<shoal_protocol::model::WorkloadName>().map_or(full, |name| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_show_readers_and_users_and_no_value() {
        let view = ValueView {
            kind: "secret".into(),
            namespace: "shop".into(),
            name: "db".into(),
            size: 7,
            version: "1a2b3c4d".repeat(8),
            written: "2020-01-01T00:00:00.000Z".into(),
            by: "ann".into(),
            readers: vec!["n1".into(), "n2".into()],
            holders_only: true,
            users: vec!["shop/web".into()],
        };
        let shown = values(std::slice::from_ref(&view), ValueKind::Secret, Form::Wide);
        for part in ["shop/db", "2 (only)", "shop/web", "n1, n2", "ann", "SEALED TO"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!values(&[view], ValueKind::Config, Form::Table).contains("READERS"));
    }
}
