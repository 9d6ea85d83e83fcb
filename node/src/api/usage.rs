//! The resources that a replica uses, from the node that runs it.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::to_bytes;
use shoal_protocol::model::{NodeId, ReplicaId, ReplicaName};

use super::form::UsageBody;
use super::logs::cannot_be_asked;
use super::{ApiError, Service};

/// Bytes of an answer.
const MAX_ANSWER: usize = 64 * 1024;

impl Service {
    /// A reading of a replica's resources: from this node if it runs here, else from the node that
    /// does.
    pub async fn usage(&self, replica: &ReplicaName) -> Result<UsageBody, ApiError> {
        let holders = self.core.holders(replica.clone()).await?;
        let mut last = None;
        for (node, id) in &holders {
            let read = match *node == self.about.node {
                true => self.usage_of(replica, id).await,
                false => self.usage_there(*node, replica).await,
            };
            match read {
                Ok(usage) => return Ok(usage),
                Err(error) => last = Some(error),
            }
        }
        match last {
            Some(error) => Err(error),
            None => Err(self.not_running(replica).await),
        }
    }

    /// A reading of a replica that runs on this node.
    pub async fn usage_here(&self, replica: &ReplicaName) -> Result<UsageBody, ApiError> {
        let holders = self.core.holders(replica.clone()).await?;
        match holders.iter().find(|(node, _)| *node == self.about.node) {
            Some((_, id)) => self.usage_of(replica, id).await,
            None => Err(self.not_running(replica).await),
        }
    }

    async fn usage_of(&self, replica: &ReplicaName, id: &ReplicaId) -> Result<UsageBody, ApiError> {
        let instance = self.directory.instance(id);
        let usage = match &instance {
            Some(instance) => self.runtimes.usage(instance).await,
            None => None,
        };
        let Some(usage) = usage else { return Err(self.not_running(replica).await) };
        let millis =
            |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Ok(UsageBody {
            node: self.about.node.to_string(),
            at_ms: millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            memory: usage.memory,
            cpu_ms: millis(usage.cpu),
            throttled_ms: millis(usage.throttled),
            requests: usage.active,
            network_in: usage.network.map(|it| it.input),
            network_out: usage.network.map(|it| it.output),
            disk_read: usage.disk.map(|it| it.input),
            disk_written: usage.disk.map(|it| it.output),
        })
    }

    async fn usage_there(
        &self,
        node: NodeId,
        replica: &ReplicaName,
    ) -> Result<UsageBody, ApiError> {
        let unreachable = |why: &str| cannot_be_asked(node, replica, why);
        let answer = self.ask_holder(node, replica, "usage", "").await?;
        let bytes = to_bytes(answer, MAX_ANSWER).await;
        let bytes = bytes.map_err(|error| unreachable(&error.to_string()))?;
        serde_json::from_slice(&bytes).map_err(|error| unreachable(&error.to_string()))
    }
}
