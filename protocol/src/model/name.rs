//! The names of workloads: DNS labels, so that every name is also a host name.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The namespace of a workload whose name has none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// A text is not a DNS label (RFC 1123).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a DNS label: 1 to 63 of the characters a-z, 0-9 and `-`, neither first \
    nor last a `-`{}", suggestion(.text))]
pub struct NotALabel {
    /// The refused text.
    pub text: String,
}

fn suggestion(text: &str) -> String {
    let mut fixed: String = text
        .to_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(63)
        .collect();
    fixed = fixed.trim_matches('-').to_owned();
    if fixed.is_empty() || fixed == text { String::new() } else { format!(". Perhaps `{fixed}`?") }
}

/// A DNS label (RFC 1123): 1 to 63 bytes of `a-z`, `0-9`, `-`, not at the ends. Copies share the
/// text.
#[derive(Clone, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Label(
    /// `None` is [`DEFAULT_NAMESPACE`]: nearly every workload's name has it, and it takes no
    /// memory.
    Option<Arc<str>>,
);

impl Label {
    /// The label as text.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or(DEFAULT_NAMESPACE)
    }
}

/// In the order of the texts.
impl Ord for Label {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialOrd for Label {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for Label {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl TryFrom<String> for Label {
    type Error = NotALabel;

    fn try_from(text: String) -> Result<Self, NotALabel> {
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let good = (1..=63).contains(&text.len())
            && text.as_bytes().iter().all(inner)
            && !text.starts_with('-')
            && !text.ends_with('-');
        match (good, text.as_str()) {
            (true, DEFAULT_NAMESPACE) => Ok(Label(None)),
            (true, text) => Ok(Label(Some(text.into()))),
            (false, _) => Err(NotALabel { text }),
        }
    }
}

impl FromStr for Label {
    type Err = NotALabel;

    fn from_str(text: &str) -> Result<Self, NotALabel> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

/// `namespace/name`, the name of a workload. A later workload may have the same name; its `uid`
/// differs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkloadName {
    /// The namespace; [`DEFAULT_NAMESPACE`] if the text has none.
    pub namespace: Label,
    /// The name within the namespace.
    pub name: Label,
}

impl FromStr for WorkloadName {
    type Err = NotALabel;

    /// Parses `name` or `namespace/name`.
    fn from_str(text: &str) -> Result<Self, NotALabel> {
        let (namespace, name) = text.split_once('/').unwrap_or((DEFAULT_NAMESPACE, text));
        Ok(WorkloadName { namespace: namespace.parse()?, name: name.parse()? })
    }
}

impl fmt::Display for WorkloadName {
    /// `name`, after the namespace if that is not the default.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.as_str() == DEFAULT_NAMESPACE {
            write!(f, "{}", self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Debug for WorkloadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_name_is_shown_with_a_valid_one() {
        let error = "My_App".parse::<Label>().unwrap_err().to_string();
        assert!(error.contains("`My_App`") && error.ends_with("Perhaps `my-app`?"), "{error}");
        assert!("".parse::<Label>().is_err());
        assert!("-a".parse::<Label>().is_err());
        assert!("a".repeat(64).parse::<Label>().is_err());
        assert!("a".repeat(63).parse::<Label>().is_ok());
    }

    #[test]
    fn names_have_a_default_namespace() {
        let name: WorkloadName = "web".parse().unwrap();
        assert_eq!(name.namespace.as_str(), "default");
        assert_eq!(name.to_string(), "web");
        assert_eq!("default/web".parse(), Ok(name));
        let sorted = ["cafe", "default", "shop"].map(|text| text.parse::<Label>().unwrap());
        assert!(sorted.is_sorted());
        assert_eq!("shop/web".parse::<WorkloadName>().unwrap().to_string(), "shop/web");
        assert!("a/b/c".parse::<WorkloadName>().is_err());
    }
}
