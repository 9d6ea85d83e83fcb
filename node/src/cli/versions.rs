//! The versions of a workload, as the node that is asked noted them: for `history --diff` and
//! `rollback`.

use shoal_protocol::model::view::ChangeView;
use shoal_protocol::model::{Spec, WorkloadName};

use super::client::Client;
use super::error::{CliError, Exit};
use crate::publish::version_of;

/// A version of a workload.
#[derive(Clone, PartialEq, Debug)]
pub struct Noted {
    /// Its number at the node that was asked, from 1 for the oldest that it knows.
    pub number: usize,
    /// Its short name, the same at every node.
    pub name: String,
    /// When the node took it.
    pub at: String,
    /// Its author's name.
    pub by: String,
    /// Its spec.
    pub spec: Spec,
}

/// All changes of a workload with the specs that they left, the oldest first.
pub async fn changes(client: &Client, name: &WorkloadName) -> Result<Vec<ChangeView>, CliError> {
    let path = format!("/v1/history?specs=true&name={}/{}", name.namespace, name.name);
    let mut lines = client.lines(&path).await?;
    let mut all = Vec::new();
    while let Some(change) = lines.next::<ChangeView>().await? {
        // A secret or config may have the same name.
        if change.kind == "workload" {
            all.push(change);
        }
    }
    Ok(all)
}

/// The versions among changes. A version that was only written again is no new one.
pub fn versions(all: &[ChangeView]) -> Vec<Noted> {
    let mut found: Vec<Noted> = Vec::new();
    for change in all {
        let Some(spec) = &change.spec else { continue };
        if found.last().is_some_and(|last| last.spec == *spec) {
            continue;
        }
        found.push(Noted {
            number: found.len() + 1,
            name: version_of(spec),
            at: change.at.clone(),
            by: change.by.clone(),
            spec: spec.clone(),
        });
    }
    found
}

/// The version to go back to: the one that is named, by its number or short name, or the latest
/// that is not what is there now.
pub fn earlier<'a>(
    all: &'a [Noted],
    wanted: Option<&str>,
    current: Option<&Spec>,
    name: &WorkloadName,
) -> Result<&'a Noted, CliError> {
    let known = || match all {
        [] => "this node has noted no version of it".to_owned(),
        [only] => format!("this node knows version {} alone", only.number),
        [first, .., last] => {
            format!("this node knows versions {} to {}", first.number, last.number)
        }
    };
    let missing = |what: String| {
        CliError::new(Exit::NoSuchThing, format!("`{name}` has no {what}: {}", known())).hint(
            format!(
                "`shoal history {name}` lists them; another node may have noted others. \
                     Nothing was changed."
            ),
        )
    };
    match wanted {
        None => {
            let earlier = all.iter().rev().find(|it| Some(&it.spec) != current);
            earlier.ok_or_else(|| missing("earlier version".into()))
        }
        Some(wanted) => {
            let by_name = || all.iter().rev().find(|it| it.name == wanted);
            let number = wanted.parse::<usize>().ok();
            let found = number.and_then(|number| all.iter().find(|it| it.number == number));
            found.or_else(by_name).ok_or_else(|| missing(format!("version {wanted}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::spec;

    fn change(spec: Option<Spec>) -> ChangeView {
        ChangeView {
            at: "2026-01-01T00:00:00Z".into(),
            kind: "workload".into(),
            name: "default/web".into(),
            what: "changed".into(),
            by: "ann".into(),
            key: String::new(),
            through: None,
            heard_from: None,
            spec,
        }
    }

    /// A version that was written again has the number that it had; a removal has none.
    #[test]
    fn versions_are_counted_by_what_they_are() {
        let web = |replicas| Some(spec("web", replicas));
        let all = [web(1), web(1), web(2), None, web(1)].map(change);
        let versions = versions(&all);
        let numbers: Vec<_> = versions.iter().map(|it| (it.number, it.spec.replicas())).collect();
        assert_eq!(numbers, [(1, 1), (2, 2), (3, 1)]);
        assert_eq!(versions[0].name, versions[2].name);
        let name = spec("web", 1).name.clone();
        let to = |wanted, current: Option<Spec>| {
            earlier(&versions, wanted, current.as_ref(), &name).map(|it| it.number)
        };
        assert_eq!(to(None, web(1)), Ok(2));
        assert_eq!(to(None, None), Ok(3), "it was removed");
        assert_eq!(to(Some("1"), web(1)), Ok(1));
        assert_eq!(to(Some(versions[1].name.as_str()), web(1)), Ok(2));
        let error = to(Some("99"), web(1)).unwrap_err();
        assert_eq!(error.exit, Exit::NoSuchThing);
        let why = "`web` has no version 99: this node knows versions 1 to 3";
        assert_eq!(error.message, why);
        let nothing = earlier(&[], None, None, &name).unwrap_err();
        assert!(nothing.message.ends_with("this node has noted no version of it"));
    }
}
