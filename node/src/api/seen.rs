//! The namespaces that a caller sees.

use shoal_protocol::model::Namespaces;
use shoal_protocol::model::view::EventView;

tokio::task_local! {
    /// The namespaces of the operator whose request is answered.
    static CALLER: Namespaces;
}

/// The view of a caller: all for who opens the socket, and for an operator of some namespaces the
/// contents of those.
#[derive(Clone)]
pub(super) struct Seen(Namespaces);

impl Seen {
    /// The view of the caller whose request is answered now.
    pub(super) fn now() -> Seen {
        Seen(CALLER.try_with(Clone::clone).unwrap_or(Namespaces::All))
    }

    /// Answers a request of an operator with rights in these namespaces.
    pub(super) async fn by<T>(namespaces: Namespaces, answer: impl Future<Output = T>) -> T {
        CALLER.scope(namespaces, answer).await
    }

    pub(super) fn has(&self, namespace: &str) -> bool {
        match &self.0 {
            Namespaces::All => true,
            Namespaces::Only(only) => only.iter().any(|it| it.as_str() == namespace),
        }
    }

    /// Whether an event is seen: it is about something of a namespace that is, or of none.
    pub(super) fn has_event(&self, event: &EventView) -> bool {
        event.namespace.as_deref().is_none_or(|namespace| self.has(namespace))
    }

    pub(super) fn keep<T>(&self, mut all: Vec<T>, namespace: impl Fn(&T) -> String) -> Vec<T> {
        all.retain(|it| self.has(&namespace(it)));
        all
    }
}
