//! A runtime that runs nothing: an instance is running as soon as it is started, and stopped as
//! soon as it is stopped. Benchmarks measure with it what the cluster itself costs.

use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use shoal_protocol::model::{Digest, InstanceState};

use crate::error::{DeviceError, LogsError, PrepareError, StartError};
use crate::logs::{LogLine, Tail};
use crate::model::{Instance, InstanceId, Launch, Usage};
use crate::runtime::Runtime;
use crate::session::Sessions;
use crate::status::StatusTable;

/// Takes the place of the adapter of a kind. Its instances compute nothing and take no requests.
pub struct Noop {
    kind: &'static str,
    statuses: StatusTable,
}

impl Noop {
    /// In place of the adapter of this kind, as in `wasm`.
    pub fn new(kind: &'static str) -> Self {
        Noop { kind, statuses: StatusTable::new() }
    }

    fn runs(&self, id: &InstanceId) -> bool {
        self.statuses.status(id).is_some_and(|status| status.state.is_running())
    }
}

impl Sessions for Noop {}

impl Runtime for Noop {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn prepare(&self, _: Digest) -> BoxFuture<'_, Result<(), PrepareError>> {
        async { Ok(()) }.boxed()
    }

    fn start(&self, launch: Launch) -> BoxFuture<'_, Result<(), StartError>> {
        if !self.runs(&launch.id) {
            self.statuses.begin(launch.id).running(None);
        }
        async { Ok(()) }.boxed()
    }

    fn stop(&self, id: &InstanceId, _: Duration) -> BoxFuture<'_, Result<(), DeviceError>> {
        if self.runs(id) {
            self.statuses.begin(id.clone()).stopped();
        }
        async { Ok(()) }.boxed()
    }

    fn statuses(&self) -> &StatusTable {
        &self.statuses
    }

    fn instances(&self) -> BoxFuture<'_, Result<Vec<Instance>, DeviceError>> {
        async {
            let all = self.statuses.all();
            let running = all.into_iter().filter(|status| status.state == InstanceState::Running);
            Ok(running.map(|status| Instance { id: status.id }).collect())
        }
        .boxed()
    }

    fn usage(&self, id: &InstanceId) -> BoxFuture<'_, Option<Usage>> {
        let usage = self.runs(id).then(Usage::default);
        async move { usage }.boxed()
    }

    fn logs(
        &self,
        id: &InstanceId,
        _: Tail,
    ) -> BoxFuture<'_, Result<BoxStream<'static, LogLine>, LogsError>> {
        let lines = match self.statuses.status(id) {
            Some(_) => Ok(futures::stream::empty().boxed()),
            None => Err(LogsError::Unknown(id.clone())),
        };
        async move { lines }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::Payload;

    fn launch(id: &str) -> Launch {
        Launch {
            id: InstanceId::new(id).unwrap(),
            workload: "default/w".into(),
            payload: Payload::Component(Digest([7; 32])),
            env: BTreeMap::new(),
            memory: 1 << 20,
            cpu: 1,
            cpu_reserved: 1,
            qos: Default::default(),
            given: crate::given::Given::default(),
            ends: false,
            folders: Vec::new(),
        }
    }

    #[tokio::test]
    async fn instance_runs_at_once_and_is_gone_at_once() {
        let noop = Noop::new("wasm");
        let mut watch = noop.watch();
        let launch = launch("w/0");
        noop.start(launch.clone()).await.unwrap();
        noop.start(launch.clone()).await.unwrap();
        let states = |seen: Vec<crate::Status>| -> Vec<InstanceState> {
            seen.into_iter().map(|status| status.state).collect()
        };
        assert_eq!(states(watch.next().await), [InstanceState::Running]);
        assert_eq!(noop.instances().await.unwrap(), [Instance { id: launch.id.clone() }]);
        noop.stop(&launch.id, Duration::ZERO).await.unwrap();
        assert_eq!(states(watch.next().await), [InstanceState::Stopped]);
        assert!(noop.instances().await.unwrap().is_empty());
        assert_eq!(noop.usage(&launch.id).await, None);
    }
}
