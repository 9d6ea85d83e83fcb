//! Volumes that this node keeps.

use http::StatusCode;
use shoal_protocol::model::view::NodeView;
use shoal_protocol::model::{ProgramKind, ReplicaName};
use shoal_runtimes::VolumeKey;

use super::form::full_name;
use super::{ApiError, Service};

impl Service {
    /// Removes a volume of this node, with all that is in it. **Only this node's own**: other nodes
    /// take no such order from a node, because a stolen one could destroy their data.
    pub async fn remove_volume(&self, replica: &ReplicaName, name: &str) -> Result<(), ApiError> {
        let shown = format!("{replica}/{name}");
        let key = VolumeKey {
            workload: full_name(&replica.workload),
            place: replica.place.to_string(),
            name: name.into(),
        };
        let here = self.runtimes.volumes().ok_or_else(|| {
            let why = "the container engine of this node does not answer; nothing was changed";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no-engine", why)
        })?;
        if !here.contains(&key) {
            return Err(self.no_such_volume(&shown).await);
        }
        let holders = self.core.holders(replica.clone()).await?;
        if holders.iter().any(|(node, _)| *node == self.about.node) {
            let why =
                format!("`{replica}` runs here with its volume `{name}`; nothing was changed");
            return Err(ApiError::new(StatusCode::CONFLICT, "in-use", why)
                .hint("Remove the workload first, or scale it down."));
        }
        let adapter = self.runtimes.get(ProgramKind::Container);
        let adapter = adapter.map_err(|error| {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no-engine", error.to_string())
        })?;
        adapter.remove_volume(&key).await.map_err(|error| {
            let why = format!("the volume `{shown}` was not removed: {error}");
            ApiError::new(StatusCode::CONFLICT, "not-removed", why)
        })
    }

    async fn no_such_volume(&self, shown: &str) -> ApiError {
        let nodes = self.core.nodes().await.unwrap_or_default();
        let keeps =
            |view: &&NodeView| view.volumes.iter().any(|volume| volume == shown) && !view.me;
        match nodes.iter().find(keeps) {
            Some(node) => {
                let why = format!(
                    "the volume `{shown}` is on {}, and only that node removes it; nothing was \
                        changed",
                    node.name
                );
                ApiError::new(StatusCode::CONFLICT, "elsewhere", why)
                    .hint(format!("Run `shoal volume rm {shown}` on {}.", node.name))
            }
            None => {
                let why = format!("no node keeps a volume `{shown}`");
                ApiError::new(StatusCode::NOT_FOUND, "no-such-volume", why)
                    .hint("`shoal volume ls` lists them.")
            }
        }
    }
}
