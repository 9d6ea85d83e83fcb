//! A workload, or one of its replicas, as a person names it.

use std::str::FromStr;

use shoal_protocol::model::view::WorkloadView;
use shoal_protocol::model::{ReplicaName, WorkloadName};

use super::client::{Client, path_of};
use super::error::{CliError, Exit};

/// `NAME`, `NAMESPACE/NAME`, or either with a number behind it. `a/1` is replica 1 of `a`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// All replicas of a workload, or any of them.
    All(WorkloadName),
    /// One replica.
    One(ReplicaName),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let last = text.rsplit_once('/').map(|(_, last)| last).unwrap_or_default();
        if !last.is_empty() && last.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().map(Target::One);
        }
        text.parse().map(Target::All).map_err(|error| format!("{error}"))
    }
}

impl Target {
    /// The replica that is named, or the first one of the workload that runs.
    pub async fn replica(&self, client: &Client) -> Result<ReplicaName, CliError> {
        let name = match self {
            Target::One(replica) => return Ok(replica.clone()),
            Target::All(name) => name,
        };
        let view: WorkloadView = client.get(&path_of("workloads", name)).await?;
        let running = view.replicas.iter().find(|it| it.phase == "healthy");
        let Some(running) = running else {
            let why = format!("no replica of `{name}` runs now");
            return Err(CliError::new(Exit::NoSuchThing, why)
                .hint(format!("`shoal describe {name}` tells how they are.")));
        };
        running.replica.parse().map_err(CliError::failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_number_names_a_replica() {
        let all = |name: &str| Ok(Target::All(name.parse().unwrap()));
        let one = |name: &str| Ok(Target::One(name.parse().unwrap()));
        assert_eq!("web".parse(), all("web"));
        assert_eq!("shop/web".parse(), all("shop/web"));
        assert_eq!("web/0".parse(), one("web/0"));
        assert_eq!("shop/web/12".parse(), one("shop/web/12"));
        assert!("Web".parse::<Target>().is_err());
        assert!("a/b/c/d".parse::<Target>().is_err());
    }
}
