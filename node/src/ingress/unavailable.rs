//! Answers for workloads without a reachable replica: the workload does not exist, is not healthy,
//! or there is no path to its node.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Response, StatusCode};
use shoal_protocol::model::view::WorkloadView;
use shoal_protocol::model::{NodeId, ReplicaName, WorkloadName};
use shoal_runtimes::Body;

use super::{host, refusal};
use crate::api::Core;
use crate::network::{OpenError, describe_unreachable};

/// Answers kept until the views change, so that a client that repeats a request does not keep the
/// core busy.
const MAX_KEPT: usize = 256;
/// Replicas whose state one answer names.
const MAX_NAMED: usize = 5;

pub(super) struct Unavailable {
    /// This node's name.
    here: String,
    core: Arc<dyn Core>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    version: u64,
    answers: BTreeMap<WorkloadName, Answer>,
    /// Names of nodes that answers had to name; at most as many as there are members.
    names: BTreeMap<NodeId, String>,
}

#[derive(Clone)]
struct Answer {
    status: StatusCode,
    sentence: String,
    /// A request starts its first replica.
    may_wake: bool,
}

impl Unavailable {
    pub(super) fn new(here: &str, core: Arc<dyn Core>) -> Self {
        Unavailable { here: here.to_owned(), core, kept: Mutex::default() }
    }

    pub(super) async fn response(&self, name: &WorkloadName) -> Response<Body> {
        let Answer { status, sentence, .. } = self.answer(name).await;
        refusal(status, &sentence, status == StatusCode::SERVICE_UNAVAILABLE)
    }

    /// Whether a request starts the first replica of a workload.
    pub(super) async fn may_wake(&self, name: &WorkloadName) -> bool {
        self.answer(name).await.may_wake
    }

    async fn answer(&self, name: &WorkloadName) -> Answer {
        let version = *self.core.changes().borrow();
        let kept = {
            let kept = self.lock();
            (kept.version == version).then(|| kept.answers.get(name).cloned()).flatten()
        };
        if let Some(answer) = kept {
            return answer;
        }
        let (status, sentence, may_wake) = match self.core.workload(name.clone()).await {
            Ok(Some(view)) => {
                let may_wake = view.scale.is_some_and(|scale| scale.min == 0);
                (StatusCode::SERVICE_UNAVAILABLE, unhealthy(name, &view), may_wake)
            }
            Ok(None) => {
                let sentence = format!("there is no workload `{name}`: {}", host::FORMS);
                (StatusCode::NOT_FOUND, sentence, false)
            }
            Err(stopped) => (StatusCode::SERVICE_UNAVAILABLE, stopped.to_string(), false),
        };
        let answer = Answer { status, sentence, may_wake };
        self.keep(version, name, answer.clone());
        answer
    }

    fn keep(&self, version: u64, name: &WorkloadName, answer: Answer) {
        let mut kept = self.lock();
        if kept.version != version || kept.answers.len() >= MAX_KEPT {
            *kept = Kept { version, ..Kept::default() };
        }
        kept.answers.insert(name.clone(), answer);
    }

    /// The answer for a healthy replica whose node cannot be reached from here: names the missing
    /// path.
    pub(super) async fn out_of_reach(
        &self,
        replica: &ReplicaName,
        node: NodeId,
        why: &str,
        open: Option<&OpenError>,
    ) -> Response<Body> {
        let tried = match open {
            Some(OpenError::Unreachable { tried, .. }) => &tried[..],
            Some(_) | None => &[],
        };
        let names = self.names(tried.iter().map(|(hop, _)| *hop).chain([node]).collect()).await;
        let short = |node: &NodeId| names.get(node).cloned().unwrap_or_else(|| node.short());
        let (here, there) = (&self.here, short(&node));
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

    /// The names of these nodes. The core is asked for each once per change of its views.
    async fn names(&self, nodes: Vec<NodeId>) -> BTreeMap<NodeId, String> {
        let version = *self.core.changes().borrow();
        let mut names = BTreeMap::new();
        {
            let kept = self.lock();
            let known = nodes.iter().filter(|_| kept.version == version);
            names.extend(known.filter_map(|node| Some((*node, kept.names.get(node)?.clone()))));
        }
        let missing: Vec<_> = nodes.into_iter().filter(|node| !names.contains_key(node)).collect();
        if !missing.is_empty() {
            // A stopped core knows no names.
            let found = self.core.names(missing.clone()).await.unwrap_or_default();
            names.extend(missing.into_iter().zip(found));
            let mut kept = self.lock();
            if kept.version != version {
                *kept = Kept { version, ..Kept::default() };
            }
            kept.names.extend(names.clone());
        }
        names
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unhealthy(name: &WorkloadName, view: &WorkloadView) -> String {
    if view.desired == 0 && view.scale.is_some_and(|scale| scale.sleeps) {
        let wait = super::WAKING;
        return format!("`{name}` was to start for this request, and did not within {wait:?}");
    }
    if view.desired == 0 {
        return format!("`{name}` is scaled to no replicas: `shoal scale {name}=1` starts one");
    }
    let mut text = format!(
        "no replica of `{name}` answers now ({} of {} are healthy)",
        view.healthy, view.desired
    );
    for replica in view.replicas.iter().filter(|replica| replica.phase != "healthy").take(MAX_NAMED)
    {
        text.push_str(&format!("\n{} is {}", replica.replica, replica.phase));
        if let Some(reason) = &replica.reason {
            text.push_str(&format!(": {reason}"));
        }
    }
    text
}
