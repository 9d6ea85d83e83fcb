//! Secrets and configs of a launch: bytes that stand in no log, no label and no debug output.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Bytes that are shown nowhere.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Hidden(Arc<[u8]>);

impl Hidden {
    /// Hides these bytes.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Hidden {
        Hidden(bytes.into())
    }

    /// The bytes, for the program that they are for.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Hidden")
    }
}

/// The secrets and configs of an instance.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Given {
    /// Variables of its environment, besides those of the launch. The values are UTF-8 and have no
    /// zero byte; others are refused.
    pub env: BTreeMap<String, Hidden>,
    /// Files of a container.
    pub files: Vec<GivenFile>,
    /// The same of the other containers of its group, by their names.
    pub others: BTreeMap<String, Given>,
}

/// A file of a container, which it cannot write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GivenFile {
    /// The absolute path in the container.
    pub path: String,
    /// The permissions.
    pub mode: u32,
    /// The owner; none for the container's user, where that is a number, or else root.
    pub uid: Option<u32>,
    /// The group; as `uid`.
    pub gid: Option<u32>,
    /// The contents.
    pub bytes: Hidden,
}

impl Given {
    /// The variables as text.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.env.iter().filter_map(|(name, value)| {
            Some((name.as_str(), std::str::from_utf8(value.reveal()).ok()?))
        })
    }

    /// What the container of this name is given, among the others of its group.
    #[cfg(feature = "container")]
    pub(crate) fn of(&self, other: &str) -> &Given {
        static NONE: Given =
            Given { env: BTreeMap::new(), files: Vec::new(), others: BTreeMap::new() };
        self.others.get(other).unwrap_or(&NONE)
    }

    /// Why a variable cannot be given, if one cannot.
    pub(crate) fn wrong_variable(&self) -> Option<String> {
        let is_wrong = |value: &Hidden| {
            std::str::from_utf8(value.reveal()).map_or(true, |text| text.contains('\0'))
        };
        let (name, _) = self.env.iter().find(|(_, value)| is_wrong(value))?;
        Some(format!("the value of the variable {name} is no text: give it as a file"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A launch is printed in logs and in crash reports.
    #[test]
    fn debug_output_hides_values() {
        let hidden = Hidden::new(*b"hunter2");
        let file = GivenFile {
            path: "/run/secrets/db".into(),
            mode: 0o400,
            uid: None,
            gid: None,
            bytes: hidden.clone(),
        };
        let given = Given {
            env: [("DB".to_owned(), hidden)].into(),
            files: vec![file],
            ..Given::default()
        };
        let shown = format!("{given:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("104, 117"), "{shown}");
        assert_eq!(given.variables().collect::<Vec<_>>(), [("DB", "hunter2")]);
    }

    #[test]
    fn variable_that_is_no_text_is_refused_by_name() {
        for bytes in [&b"\xff"[..], b"a\0b"] {
            let env = [("KEY".to_owned(), Hidden::new(bytes))].into();
            let given = Given { env, ..Given::default() };
            assert!(given.wrong_variable().unwrap().contains("KEY"));
        }
    }
}
