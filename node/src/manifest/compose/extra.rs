//! `x-shoal` of a service: fields of a manifest. **The reader of manifests reads them**: the
//! service is written as a manifest, these fields are put in, and the result is read.

use std::fmt::Write;

use super::super::tree::{FileId, Tree, Value, read};
use super::super::{parse, write};
use super::service::Service;
use crate::publish::Workload;

/// The image of a service whose program `x-shoal` names.
pub(super) const ANY_IMAGE: &str = "localhost/none";
/// Fields that the service and the project decide.
const FIXED: [&str; 2] = ["name", "namespace"];
/// Fields of a manifest by which it has a program.
const PROGRAMS: [&str; 3] = ["wasm", "artifact", "image"];

/// Whether the fields name the program.
pub(super) fn has_program(extra: Option<&Tree>) -> bool {
    extra.is_some_and(|it| PROGRAMS.iter().any(|name| it.get(name).is_some()))
}

/// Whether the fields name a component.
pub(super) fn is_component(extra: Option<&Tree>) -> bool {
    extra.is_some_and(|it| it.get("wasm").is_some() || it.get("artifact").is_some())
}

/// The workload with these fields; none if it is refused.
pub(super) fn apply(
    service: &mut Service<'_>,
    workload: Workload,
    tree: &Tree,
) -> Option<Workload> {
    let Some(fields) = tree.as_map() else {
        service.refuse(tree.at, "x-shoal", "a mapping of fields of a manifest is expected");
        return None;
    };
    if let Some(wrong) = fields.iter().find(|it| FIXED.contains(&it.key.as_str())) {
        let why = "the name of the service and of the project say it";
        service.refuse(wrong.at, &format!("x-shoal.{}", wrong.key), why);
        return None;
    }
    let written = workload.spec(None).map_err(|error| error.to_string());
    let written = written.and_then(|spec| write::manifest(&spec));
    let document = written.and_then(|text| {
        let mut all = read(FileId(0), &text).map_err(|problem| problem.to_string())?;
        all.pop().ok_or_else(|| "nothing was written".to_owned())
    });
    let mut document = match document {
        Ok(document) => document,
        Err(why) => {
            service.refuse(service.at, "", why);
            return None;
        }
    };
    if has_program(Some(tree)) {
        document.remove("image");
    }
    if fields.iter().any(|it| it.key == "schedule") {
        document.remove("kind");
    }
    for field in fields {
        document.remove(&field.key);
    }
    let mut text = String::new();
    let mut lines = Vec::new();
    for field in document.as_map().unwrap_or_default().iter().chain(fields) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}: {}", quoted(&field.key), flow(&field.value));
        lines.push(field);
    }
    let base = service.files.path(tree.at, "");
    match parse(&text, &base) {
        Ok(mut all) => {
            let workload = all.pop()?;
            let is_known = !is_component(Some(tree));
            if let Some(Err(why)) =
                is_known.then(|| workload.spec(None)).filter(|_| !has_program(Some(tree)))
            {
                service.refuse(tree.at, "x-shoal", why.to_string());
            }
            Some(workload)
        }
        Err(error) => {
            let line = error.line.and_then(|line| usize::try_from(line).ok()).unwrap_or_default();
            let field = line.checked_sub(1).and_then(|at| lines.get(at));
            let of_extra = field.filter(|it| fields.iter().any(|own| own.at == it.at));
            let at = of_extra.map_or(tree.at, |it| it.at);
            let field = of_extra.map_or(String::new(), |it| format!(".{}", it.key));
            let mut why = error.message;
            if let Some(hint) = error.hint {
                why = format!("{why}. {hint}");
            }
            service.refuse(at, &format!("x-shoal{field}"), why);
            None
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A part in one line.
fn flow(tree: &Tree) -> String {
    match &tree.value {
        Value::Scalar(scalar) => {
            let is_safe = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
            let is_plain = scalar.is_plain && scalar.text.bytes().all(is_safe);
            if tree.is_null() {
                "null".into()
            } else if is_plain {
                scalar.text.clone()
            } else {
                quoted(&scalar.text)
            }
        }
        Value::List(items) => {
            format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", "))
        }
        Value::Map(entries) => {
            let pairs =
                entries.iter().map(|it| format!("{}: {}", quoted(&it.key), flow(&it.value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}
