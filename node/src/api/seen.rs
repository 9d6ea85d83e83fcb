//! The namespaces that a caller sees.

use axum::extract::Request;
use shoal_protocol::model::{Namespaces, ReplicaName, WorkloadName};

/// What lists show to a caller: all to who opens the socket, and to an operator of some namespaces
/// what is in those.
#[derive(Clone)]
pub(super) struct Seen(Namespaces);

impl Seen {
    pub(super) fn by(request: &Request) -> Seen {
        Seen(request.extensions().get::<Namespaces>().cloned().unwrap_or(Namespaces::All))
    }

    pub(super) fn has(&self, namespace: &str) -> bool {
        match &self.0 {
            Namespaces::All => true,
            Namespaces::Only(only) => only.iter().any(|it| it.as_str() == namespace),
        }
    }

    /// Whether what an event is about is seen: a replica, a workload, or nothing that has a
    /// namespace.
    pub(super) fn has_subject(&self, subject: Option<&str>) -> bool {
        let Some(subject) = subject else { return true };
        let replica = subject.parse::<ReplicaName>().map(|it| it.workload);
        let name = replica.ok().or_else(|| subject.parse::<WorkloadName>().ok());
        name.is_none_or(|it| self.has(it.namespace.as_str()))
    }

    pub(super) fn keep<T>(&self, mut all: Vec<T>, namespace: impl Fn(&T) -> String) -> Vec<T> {
        all.retain(|it| self.has(&namespace(it)));
        all
    }
}
