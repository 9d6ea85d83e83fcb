//! ConfigMaps and Secrets: a value of shoal for each key, `NAME-KEY`.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use shoal_protocol::model::Label;
use shoal_protocol::model::nearest::did_you_mean;
use shoal_protocol::model::spec::ValueKind;
use shoal_protocol::trust::MAX_CONFIG;

use super::super::bundle::Given;
use super::super::tree::Problem;
use super::super::verdict::Judged;
use super::objects::Object;
use super::scalar::Part;

/// Bytes of a secret, as `shoal secret set` takes them.
const MAX_SECRET: usize = 16 * 1024;

/// The values of all files, by their objects.
#[derive(Default)]
pub(super) struct Values {
    objects: BTreeMap<(ValueKind, Label, String), BTreeMap<String, Held>>,
    /// The object and key of each value.
    taken: BTreeMap<(ValueKind, Label, Label), String>,
    pub given: Vec<Given>,
    /// Keys that are no DNS labels: as in the file, and here.
    pub renamed: Vec<(String, String)>,
}

/// A value of a key.
#[derive(Clone, Debug)]
pub(super) struct Held {
    /// Its name here.
    pub label: Label,
    /// Its text, if it is a config and a text.
    pub text: Option<String>,
}

impl Values {
    /// Adds the values of an object, if it has some.
    pub fn add(&mut self, object: &Object, out: &mut Judged) {
        let root = object.root();
        let kind = match object.kind {
            "ConfigMap" => ValueKind::Config,
            "Secret" => ValueKind::Secret,
            _ => return,
        };
        if let Some(of) = root.get("type").text(out)
            && ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"]
                .contains(&of.as_str())
        {
            let problem = root.get("type").wrong(format!("`{of}` is of the API of Kubernetes"));
            return out.refuse(problem.hint("Leave the Secret away: nothing here uses it."));
        }
        let mut keys = BTreeMap::new();
        for (field, is_encoded) in
            [("data", kind == ValueKind::Secret), ("binaryData", true), ("stringData", false)]
        {
            for (key, part) in root.get(field).fields(out) {
                let Some(text) = part.text_or_empty(out) else { continue };
                if field == "data" && root.at(&["stringData", key]).is_there() {
                    continue;
                }
                let content = match is_encoded {
                    false => text.clone().into_bytes(),
                    true => match STANDARD.decode(text.replace(['\n', '\r'], "")) {
                        Ok(content) => content,
                        Err(error) => {
                            let problem = part.wrong(format!("this is not base64: {error}"));
                            out.refuse(match kind {
                                ValueKind::Secret => {
                                    problem.hint("Plain texts stand below `stringData`.")
                                }
                                ValueKind::Config => {
                                    problem.hint("Plain texts stand below `data`.")
                                }
                            });
                            continue;
                        }
                    },
                };
                if let Some(held) = self.value(kind, object, key, content, &part, out) {
                    keys.insert(key.to_owned(), held);
                }
            }
        }
        self.objects.insert((kind, object.namespace.clone(), object.name.clone()), keys);
    }

    fn value(
        &mut self,
        kind: ValueKind,
        object: &Object,
        key: &str,
        content: Vec<u8>,
        part: &Part<'_>,
        out: &mut Judged,
    ) -> Option<Held> {
        let most = if kind == ValueKind::Secret { MAX_SECRET } else { MAX_CONFIG };
        if content.len() > most {
            let (bytes, word) = (content.len(), kind.word());
            let why = format!("{bytes} bytes, and a {word} has at most {} KiB", most >> 10);
            let problem = part.wrong(why);
            out.refuse(problem.hint("Put the file into the image, or into a volume."));
            return None;
        }
        let shown = format!("{}/{}: {key}", object.kind, object.name);
        let label = match label_of(&object.name, key) {
            Ok(label) => label,
            Err(why) => {
                out.refuse(part.wrong(why).hint("Give it a shorter name, of letters and digits."));
                return None;
            }
        };
        let place = (kind, object.namespace.clone(), label.clone());
        if let Some(other) = self.taken.insert(place, shown.clone()) {
            let why = format!("it becomes the {} `{label}`, as {other} does", kind.word());
            out.refuse(part.wrong(why).hint("Rename the key, and the places that name it."));
            return None;
        }
        if label.as_str() != format!("{}-{key}", object.name) {
            self.renamed.push((shown, label.to_string()));
        }
        let text = match kind {
            ValueKind::Config => String::from_utf8(content.clone()).ok(),
            ValueKind::Secret => None,
        };
        let (namespace, name) = (object.namespace.clone(), label.clone());
        self.given.push(Given { kind, namespace, name, content, at: part.at });
        Some(Held { label, text })
    }

    /// The value of a key that `part` names, which is of this kind.
    pub fn key(
        &self,
        kind: ValueKind,
        namespace: &Label,
        part: &Part<'_>,
        out: &mut Judged,
    ) -> Option<Held> {
        let (name, key) = (part.get("name"), part.get("key"));
        let is_optional = part.get("optional").is_true(out);
        let (name, key) = (named(&name, out)?, named(&key, out)?);
        let what = word(kind);
        match self.objects.get(&(kind, namespace.clone(), name.clone())) {
            Some(keys) => match keys.get(&key) {
                Some(held) => Some(held.clone()),
                None if is_optional => {
                    let text = format!("left out: {what} `{name}` has no key `{key}`");
                    out.degrade(part.at, part.path.clone(), text);
                    None
                }
                None => {
                    out.refuse(missing_key(part, what, &name, &key, keys));
                    None
                }
            },
            None if is_optional => {
                let text = format!("left out: {what} `{name}` is not in these files");
                out.degrade(part.at, part.path.clone(), text);
                None
            }
            None => match label_of(&name, &key) {
                Ok(label) => {
                    let word = kind.word();
                    let text = format!(
                        "{what} `{name}` is not in these files: `shoal {word} set {namespace}/\
                         {label}` sets it"
                    );
                    out.degrade(part.at, part.path.clone(), text);
                    Some(Held { label, text: None })
                }
                Err(why) => {
                    out.refuse(part.wrong(why));
                    None
                }
            },
        }
    }

    /// All values of an object.
    pub fn all(
        &self,
        kind: ValueKind,
        namespace: &Label,
        name: &str,
        part: &Part<'_>,
        out: &mut Judged,
    ) -> Vec<(String, Held)> {
        let is_optional = part.get("optional").is_true(out);
        let what = word(kind);
        match self.objects.get(&(kind, namespace.clone(), name.to_owned())) {
            Some(keys) => keys.iter().map(|(key, held)| (key.clone(), held.clone())).collect(),
            None if is_optional => {
                let text = format!("left out: {what} `{name}` is not in these files");
                out.degrade(part.at, part.path.clone(), text);
                Vec::new()
            }
            None => {
                let why = format!("{what} `{name}` is not in these files, so its keys are unknown");
                let problem = part.wrong(why);
                out.refuse(problem.hint(format!(
                    "Publish it together with them, or name each key (`{}`).",
                    match kind {
                        ValueKind::Config => "configMapKeyRef",
                        ValueKind::Secret => "secretKeyRef",
                    }
                )));
                Vec::new()
            }
        }
    }
}

/// The fault of a key that an object does not have.
pub(super) fn missing_key(
    part: &Part<'_>,
    what: &str,
    name: &str,
    key: &str,
    keys: &BTreeMap<String, Held>,
) -> Problem {
    let known: Vec<&str> = keys.keys().map(String::as_str).collect();
    let problem = part.wrong(format!("{what} `{name}` has no key `{key}`"));
    match did_you_mean(key, known.iter().copied()) {
        Some(hint) => problem.hint(hint),
        None => problem.hint(format!("It has: {}.", known.join(", "))),
    }
}

fn named(part: &Part<'_>, out: &mut Judged) -> Option<String> {
    if !part.is_there() {
        out.refuse(part.wrong("it is missing"));
    }
    part.text(out)
}

/// The kind of objects that hold values of a kind.
pub(super) fn word(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Config => "ConfigMap",
        ValueKind::Secret => "Secret",
    }
}

/// The name of a value: `NAME-KEY`, with what is no letter or digit as `-`.
fn label_of(name: &str, key: &str) -> Result<Label, String> {
    let key = key.trim_start_matches(|c: char| !c.is_ascii_alphanumeric());
    let all = format!("{name}-{key}").to_lowercase();
    let fit = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let label: String = all.chars().map(fit).collect();
    label.trim_matches('-').parse().map_err(|_| {
        format!("`{name}` and `{key}` are {} characters, and make no name here", all.len())
    })
}

/// A name of an object as a name here: Kubernetes has dots in them.
pub(super) fn name_here(name: &str) -> Result<Label, String> {
    let mapped = name.replace('.', "-");
    mapped.parse().map_err(|_| match name.len() > 63 {
        true => format!("`{name}` has {} characters, and a name at most 63", name.len()),
        false => format!("`{name}` is no name: a-z, 0-9, `-` and `.` are expected"),
    })
}
