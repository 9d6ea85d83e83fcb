//! Why a workload has no replica to answer: it does not exist, it is not well, or there is no way
//! to its node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Response, StatusCode};
use shoal_protocol::model::view::WorkloadView;
use shoal_protocol::model::{NodeId, ReplicaName, WorkloadName};
use shoal_runtimes::Body;

use super::{host, refusal};
use crate::api::Core;
use crate::network::{OpenError, describe_unreachable};

/// Answers kept between two changes of the views, so that a client that asks again and again does
/// not keep the core busy.
const KEPT: usize = 256;
/// Replicas whose state is told in one answer.
const TOLD: usize = 5;

pub(super) struct Nowhere {
    core: Arc<dyn Core>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    version: u64,
    answers: BTreeMap<WorkloadName, (StatusCode, String)>,
    /// Names of nodes by id, as of that version; this node's own under none. As many as there are
    /// members.
    names: Option<Arc<BTreeMap<Option<NodeId>, String>>>,
}

impl Nowhere {
    pub(super) fn new(core: Arc<dyn Core>) -> Self {
        Nowhere { core, kept: Mutex::default() }
    }

    pub(super) async fn response(&self, name: &WorkloadName) -> Response<Body> {
        let version = *self.core.changes().borrow();
        let kept = {
            let kept = self.lock();
            (kept.version == version).then(|| kept.answers.get(name).cloned()).flatten()
        };
        let (status, sentence) = match kept {
            Some(answer) => answer,
            None => {
                let answer = match self.core.workload(name.clone()).await {
                    Ok(Some(view)) => (StatusCode::SERVICE_UNAVAILABLE, unwell(name, &view)),
                    Ok(None) => (
                        StatusCode::NOT_FOUND,
                        format!("there is no workload `{name}`: {}", host::FORMS),
                    ),
                    Err(stopped) => (StatusCode::SERVICE_UNAVAILABLE, stopped.to_string()),
                };
                self.keep(version, name, answer.clone());
                answer
            }
        };
        refusal(status, &sentence, status == StatusCode::SERVICE_UNAVAILABLE)
    }

    fn keep(&self, version: u64, name: &WorkloadName, answer: (StatusCode, String)) {
        let mut kept = self.lock();
        if kept.version != version || kept.answers.len() >= KEPT {
            *kept = Kept { version, ..Kept::default() };
        }
        kept.answers.insert(name.clone(), answer);
    }

    /// A replica is well, and its node cannot be reached from here: which path is missing.
    pub(super) async fn out_of_reach(
        &self,
        replica: &ReplicaName,
        node: NodeId,
        why: &str,
        open: Option<&OpenError>,
    ) -> Response<Body> {
        let names = self.names().await;
        let short =
            |node: &NodeId| names.get(&Some(*node)).cloned().unwrap_or_else(|| node.short());
        let here = names.get(&None).map_or("this node", String::as_str);
        let there = short(&node);
        let sentence = match open {
            Some(OpenError::Unreachable { dial, tried, .. }) => {
                format!(
                    "{replica} runs on {there}; {here} has no way to {there} ({})",
                    describe_unreachable(dial, tried, short)
                )
            }
            Some(OpenError::NoLink(_)) => {
                format!(
                    "{replica} runs on {there}; {here} has no way to {there} (no address led to \
                        it, and no common member was known)"
                )
            }
            Some(_) | None => {
                format!("{replica} runs on {there}, which {here} cannot reach: {why}")
            }
        };
        refusal(StatusCode::SERVICE_UNAVAILABLE, &sentence, true)
    }

    async fn names(&self) -> Arc<BTreeMap<Option<NodeId>, String>> {
        let version = *self.core.changes().borrow();
        let known = {
            let kept = self.lock();
            (kept.version == version).then(|| kept.names.clone()).flatten()
        };
        if let Some(names) = known {
            return names;
        }
        // A core that has stopped knows no names.
        let nodes = self.core.nodes().await.unwrap_or_default();
        let names = nodes.into_iter().flat_map(|view| {
            let id = view.id.parse::<NodeId>().ok();
            let own = view.me.then(|| (None, view.name.clone()));
            id.map(|id| (Some(id), view.name)).into_iter().chain(own)
        });
        let names: Arc<BTreeMap<_, _>> = Arc::new(names.collect());
        let mut kept = self.lock();
        if kept.version != version {
            *kept = Kept { version, ..Kept::default() };
        }
        kept.names = Some(names.clone());
        names
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unwell(name: &WorkloadName, view: &WorkloadView) -> String {
    if view.desired == 0 {
        return format!("`{name}` is scaled to no replicas: `shoal scale {name}=1` starts one");
    }
    let mut text = format!(
        "no replica of `{name}` answers now ({} of {} are healthy)",
        view.healthy, view.desired
    );
    for replica in view.replicas.iter().filter(|replica| replica.phase != "healthy").take(TOLD) {
        text.push_str(&format!("\n{} is {}", replica.replica, replica.phase));
        if let Some(reason) = &replica.reason {
            text.push_str(&format!(": {reason}"));
        }
    }
    text
}
