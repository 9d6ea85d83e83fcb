//! A workload, or one of its replicas, as a person names it.

use std::str::FromStr;

use shoal_protocol::model::name::DEFAULT_NAMESPACE;
use shoal_protocol::model::view::WorkloadView;
use shoal_protocol::model::{NamedReplica, NodeId, Place, ReplicaName, WorkloadName};

use super::client::{Client, path_of};
use super::error::{CliError, Exit};

/// `NAME`, `NAMESPACE/NAME`, or either with a number behind it. `a/1` is replica 1 of `a`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// All replicas of a workload, or any of them.
    All(WorkloadName),
    /// One replica.
    One(NamedReplica),
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let last = text.rsplit_once('/').map(|(_, last)| last).unwrap_or_default();
        // A name of three parts has a place behind it; of two it may be of a namespace.
        let is_replica = last.parse::<Place>().is_ok() || text.matches('/').count() == 2;
        if is_replica {
            return text.parse().map(Target::One);
        }
        text.parse().map(Target::All).map_err(|error| format!("{error}"))
    }
}

impl Target {
    /// The workload.
    pub fn workload(&self) -> &WorkloadName {
        match self {
            Target::All(workload) => workload,
            Target::One(replica) => &replica.workload,
        }
    }

    /// What the two parts of `agent/pi` mean: a workload of a namespace, or a daemon's replica on a
    /// node.
    pub async fn settled(&self, client: &Client) -> Result<Target, CliError> {
        let Target::All(name) = self else { return Ok(self.clone()) };
        let (daemon, node) = (name.namespace.as_str(), name.name.as_str());
        if daemon == DEFAULT_NAMESPACE {
            return Ok(self.clone());
        }
        let found = client.get::<WorkloadView>(&path_of("workloads", name)).await;
        let is_unknown = found.is_err_and(|error| error.code == "no-such-workload");
        let Some(daemon) = daemon.parse::<WorkloadName>().ok().filter(|_| is_unknown) else {
            return Ok(self.clone());
        };
        match client.get::<WorkloadView>(&path_of("workloads", &daemon)).await {
            Ok(view) if view.kind == "daemon" => {
                Ok(Target::One(NamedReplica { workload: daemon, place: node.to_owned() }))
            }
            _ => Ok(self.clone()),
        }
    }

    /// The replica that is named, or the first one of the workload that runs.
    pub async fn replica(&self, client: &Client) -> Result<NamedReplica, CliError> {
        let name = match self.settled(client).await? {
            Target::One(replica) => return Ok(replica),
            Target::All(name) => name,
        };
        let view: WorkloadView = client.get(&path_of("workloads", &name)).await?;
        let running = view.replicas.iter().find(|it| it.phase == "healthy");
        let Some(running) = running else {
            let why = format!("no replica of `{name}` runs now");
            return Err(CliError::new(Exit::NoSuchThing, why)
                .hint(format!("`shoal describe {name}` tells how they are.")));
        };
        running.replica.parse().map_err(CliError::failed)
    }
}

/// The replica that a name means: an operator signs what it asks of it.
pub async fn meant(client: &Client, named: &NamedReplica) -> Result<ReplicaName, CliError> {
    let NamedReplica { workload, place } = named.clone();
    let place = match place.parse() {
        Ok(place @ Place::Run { .. }) => place,
        parsed => {
            let view: WorkloadView = client.get(&path_of("workloads", &workload)).await?;
            let name = named.to_string();
            let held = view.replicas.iter().find(|it| it.replica == name);
            let node = held.and_then(|it| it.node.as_ref()?.parse::<NodeId>().ok());
            match (view.kind.as_str(), parsed, node) {
                ("daemon", _, Some(node)) => Place::OnNode(node),
                ("job", Ok(Place::Ordinal(index)), _) => Place::Run { at: 0, index },
                (kind, Ok(place), _) if kind != "daemon" => place,
                _ => {
                    let why = format!("there is no replica `{named}`");
                    return Err(CliError::new(Exit::NoSuchThing, why)
                        .hint(format!("`shoal ps {workload}` lists them.")));
                }
            }
        }
    };
    Ok(ReplicaName { workload, place })
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
