//! The workloads that another one waits for before it is placed for the first time.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::super::name::Label;
use super::{InvalidSpec, SpecForm};

/// Workloads that one may wait for.
pub const MAX_AFTER: usize = 32;

/// A workload of the same namespace, and how far it must be. Once it was, nothing waits for it
/// again: a replica that ran is started elsewhere at once, whatever the others do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct After {
    /// Its name.
    pub workload: Label,
    /// How far it must be.
    pub until: Until,
}

/// How far a workload must be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// A replica of it runs, ready or not.
    Started,
    /// All its replicas are ready.
    #[default]
    Ready,
    /// It is a job, and was done.
    Done,
}

impl Until {
    /// The word in texts.
    pub fn as_str(self) -> &'static str {
        match self {
            Until::Started => "started",
            Until::Ready => "ready",
            Until::Done => "done",
        }
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.until {
            Until::Ready => write!(f, "{}", self.workload),
            until => write!(f, "{}:{}", self.workload, until.as_str()),
        }
    }
}

/// Why a text names no workload to wait for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotAfter(String);

impl FromStr for After {
    type Err = NotAfter;

    fn from_str(text: &str) -> Result<After, NotAfter> {
        let (name, until) = text.split_once(':').unwrap_or((text, "ready"));
        let all = [Until::Started, Until::Ready, Until::Done];
        let until = all.into_iter().find(|it| it.as_str() == until).ok_or_else(|| {
            NotAfter(format!("`{until}` is none of `started`, `ready` and `done`"))
        })?;
        let workload = name.parse().map_err(|error| NotAfter(format!("`{name}`: {error}")))?;
        Ok(After { workload, until })
    }
}

/// Checks what a form waits for.
pub(super) fn check(form: &SpecForm) -> Result<(), InvalidSpec> {
    let after = &form.later.after;
    let wrong = |why: String| Err(InvalidSpec::Container { field: "after", why });
    if after.len() > MAX_AFTER {
        return wrong(format!("{} workloads, at most {MAX_AFTER} are allowed", after.len()));
    }
    for (at, it) in after.iter().enumerate() {
        if it.workload == form.name.name {
            return wrong("a workload cannot wait for itself".into());
        }
        if after[..at].iter().any(|other| other.workload == it.workload) {
            return wrong(format!("`{}` stands there twice", it.workload));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_read_as_they_are_shown() {
        for text in ["db", "db:started", "migrate:done"] {
            assert_eq!(text.parse::<After>().unwrap().to_string(), text);
        }
        assert_eq!("db:ready".parse::<After>().unwrap().to_string(), "db");
        let refusal = |text: &str| text.parse::<After>().unwrap_err().to_string();
        assert_eq!(refusal("db:healthy"), "`healthy` is none of `started`, `ready` and `done`");
        assert!(refusal("My DB").starts_with("`My DB`: "));
    }
}
