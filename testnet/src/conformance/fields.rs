//! Two JSON trees, leaf by leaf.

use std::collections::BTreeMap;

use serde_json::Value;

use super::explained;

/// The fate of a field.
pub(super) enum Fate {
    Equal,
    /// The difference is meant.
    Explained(&'static str),
    Different,
}

/// A leaf that at least one of the two has.
pub(super) struct Field {
    pub path: String,
    pub theirs: Option<Value>,
    pub ours: Option<Value>,
    pub fate: Fate,
}

/// All fields of both.
pub(super) fn compared(case: &str, theirs: &Value, ours: &Value) -> Vec<Field> {
    let mut all: BTreeMap<Vec<String>, (Option<Value>, Option<Value>)> = BTreeMap::new();
    leaves(theirs, &mut Vec::new(), &mut |path, value| {
        // `config` doubles each dollar sign, so that its output can be read once more.
        let value = match value {
            Value::String(text) => text.replace("$$", "$").into(),
            value => value.clone(),
        };
        all.entry(path.to_vec()).or_default().0 = Some(value);
    });
    leaves(ours, &mut Vec::new(), &mut |path, value| {
        all.entry(path.to_vec()).or_default().1 = Some(value.clone());
    });
    // One that is empty and one that is not there say the same.
    all.retain(|_, (theirs, ours)| {
        let says_nothing = |it: &Option<Value>| it.as_ref().is_none_or(is_nothing);
        let is_one_sided = theirs.is_none() || ours.is_none();
        !(is_one_sided && says_nothing(theirs) && says_nothing(ours))
    });
    let field = |(path, (theirs, ours)): (Vec<String>, (Option<Value>, Option<Value>))| {
        let fate = match explained::field(case, &path) {
            _ if is_same(theirs.as_ref(), ours.as_ref()) => Fate::Equal,
            Some(why) => Fate::Explained(why),
            None => Fate::Different,
        };
        Field { path: path.join("."), theirs, ours, fate }
    };
    all.into_iter().map(field).collect()
}

/// Numbers are the same in whatever form.
fn is_same(a: Option<&Value>, b: Option<&Value>) -> bool {
    match (a, b) {
        (Some(Value::Number(a)), Some(Value::Number(b))) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

/// What a field without it means: nothing, an empty text, or false.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

fn leaves(value: &Value, path: &mut Vec<String>, found: &mut dyn FnMut(&[String], &Value)) {
    let mut below = |key: String, value: &Value, path: &mut Vec<String>| {
        path.push(key);
        leaves(value, path, found);
        path.pop();
    };
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                below(key.clone(), value, path);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                below(index.to_string(), item, path);
            }
        }
        value => found(path, value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn leaves_are_compared_one_by_one() {
        let theirs = json!({ "a": 1, "b": [true, "x"], "c": {}, "d": false, "f": "1" });
        let ours = json!({ "a": 1.0, "b": [true, "y"], "e": null, "f": 1, "g": 0 });
        let all = compared("a.yaml", &theirs, &ours);
        let paths = |is: fn(&Fate) -> bool| -> Vec<&str> {
            all.iter().filter(|it| is(&it.fate)).map(|it| it.path.as_str()).collect()
        };
        assert_eq!(paths(|it| matches!(it, Fate::Equal)), ["a", "b.0"]);
        assert_eq!(paths(|it| matches!(it, Fate::Different)), ["b.1", "f", "g"]);
    }
}
