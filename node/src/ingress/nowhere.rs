//! Why a workload has no replica to answer: it does not exist, or it is not well.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Response, StatusCode};
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::view::WorkloadView;
use shoal_runtimes::Body;

use super::{host, refusal};
use crate::api::Core;

/// Answers kept between two changes of the views, so that a client that asks again and again does not keep the core
/// busy.
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
                    Ok(None) => (StatusCode::NOT_FOUND, format!("there is no workload `{name}`: {}", host::FORMS)),
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
            kept.version = version;
            kept.answers.clear();
        }
        kept.answers.insert(name.clone(), answer);
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unwell(name: &WorkloadName, view: &WorkloadView) -> String {
    if view.desired == 0 {
        return format!("`{name}` is scaled to no replicas: `shoal scale {name}=1` starts one");
    }
    let mut text = format!("no replica of `{name}` answers now ({} of {} are healthy)", view.healthy, view.desired);
    for replica in view.replicas.iter().filter(|replica| replica.phase != "healthy").take(TOLD) {
        text.push_str(&format!("\n{} is {}", replica.replica, replica.phase));
        if let Some(reason) = &replica.reason {
            text.push_str(&format!(": {reason}"));
        }
    }
    text
}
