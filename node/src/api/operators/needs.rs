//! The role that each path of the API takes.

use std::fmt;

use http::Method;
use shoal_protocol::model::codec::{self, Bytes};
use shoal_protocol::model::{Key, Label, Role, WorkloadName};

use crate::api::form::DraftBody;
use crate::hex::from_hex;

/// Bytes of a body that is read to see which namespace it names: as many as its route takes.
pub(super) const JSON_BYTES: usize = 1024 * 1024;

/// The roles of operators, each above those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Rank {
    None,
    Reader,
    Publisher,
    Admin,
}

impl Rank {
    pub(super) fn of(role: &Role) -> Rank {
        match role {
            Role::Reader => Rank::Reader,
            Role::Publisher => Rank::Publisher,
            Role::Admin => Rank::Admin,
            Role::Inviter { .. } | Role::Admits(_) => Rank::None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Rank::None => "nobody",
            Rank::Reader => "reader",
            Rank::Publisher => "publisher",
            Rank::Admin => "admin",
        }
    }
}

/// The role that a request takes, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Need {
    pub rank: Rank,
    /// The namespace that the path names, as it stands there.
    pub namespace: Option<String>,
    /// Whether the role must hold in all namespaces.
    pub everywhere: bool,
}

impl Need {
    /// The need of a request by its path. A path that is not known here takes the most, unless
    /// it only looks.
    pub(super) fn of(method: &Method, path: &str) -> Need {
        let of = |rank| Need { rank, namespace: None, everywhere: false };
        let named = |rank, name: &str| Need { namespace: Some(name.to_owned()), ..of(rank) };
        let parts: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
        let looks = *method == Method::GET || *method == Method::HEAD;
        match parts[..] {
            ["v1", "session" | "volumes", name, ..] if looks => named(Rank::Publisher, name),
            ["v1", "running" | "artifacts" | "images" | "admissions", ..] if looks => {
                of(Rank::Reader)
            }
            ["v1", _, name, _, ..] if looks => named(Rank::Reader, name),
            _ if looks => of(Rank::Reader),
            ["v1", "artifacts", _] if *method == Method::PUT => of(Rank::Publisher),
            ["v1", "prepare" | "submit" | "draft" | "images"] | ["v1", "images", "resolve"] => {
                of(Rank::Publisher)
            }
            ["v1", "images", "remove" | "prune"] => {
                Need { everywhere: true, ..of(Rank::Publisher) }
            }
            _ => Need { everywhere: true, ..of(Rank::Admin) },
        }
    }

    /// A publisher of this namespace.
    pub(super) fn publisher_of(name: &str) -> Need {
        Need { rank: Rank::Publisher, namespace: Some(name.to_owned()), everywhere: false }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let article = if self.rank == Rank::Admin { "an" } else { "a" };
        write!(f, "{article} {}", self.rank.name())?;
        match &self.namespace {
            Some(name) => write!(f, " of namespace {name}"),
            None if self.everywhere => f.write_str(" of all namespaces"),
            None => Ok(()),
        }
    }
}

/// Whether the body of a request names what it is about, and not its path.
pub(super) fn is_in_body(path: &str) -> bool {
    matches!(path, "/v1/prepare" | "/v1/draft")
}

/// The namespace that a body names. None for one that names none, and for one that the route will
/// refuse.
pub(super) fn named_in(path: &str, body: &[u8]) -> Option<Label> {
    if path == "/v1/prepare" {
        let value: serde_json::Value = serde_json::from_slice(body).ok()?;
        let name: WorkloadName = value.get("name")?.as_str()?.parse().ok()?;
        return Some(name.namespace);
    }
    let body: DraftBody = serde_json::from_slice(body).ok()?;
    let (kind, bytes): (u16, Bytes) = codec::decode(&from_hex(&body.key)?).ok()?;
    match Key::of(kind, bytes).ok()? {
        Key::Workload(name) | Key::Secret(name) | Key::Config(name) => Some(name.namespace),
        Key::Quota(namespace) => Some(namespace),
        Key::Member(_)
        | Key::Revocation(_)
        | Key::Operator(_)
        | Key::Policy(_)
        | Key::Other(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that somebody adds is closed to readers and publishers until it is listed.
    #[test]
    fn each_path_takes_a_role() {
        let need = |method: Method, path: &str| Need::of(&method, path).to_string();
        for (method, path, takes) in [
            (Method::GET, "/v1/status", "a reader"),
            (Method::GET, "/metrics", "a reader"),
            (Method::GET, "/v1/workloads", "a reader"),
            (Method::GET, "/v1/workloads/shop/web", "a reader of namespace shop"),
            (Method::GET, "/v1/logs/shop/web/0", "a reader of namespace shop"),
            (Method::GET, "/v1/session/shop/web/0", "a publisher of namespace shop"),
            (Method::GET, "/v1/volumes/shop/web/0/data", "a publisher of namespace shop"),
            (Method::HEAD, "/v1/artifacts/ab", "a reader"),
            (Method::PUT, "/v1/artifacts/ab", "a publisher"),
            (Method::POST, "/v1/prepare", "a publisher"),
            (Method::POST, "/v1/submit", "a publisher"),
            (Method::POST, "/v1/images/prune", "a publisher of all namespaces"),
            (Method::POST, "/v1/down", "an admin of all namespaces"),
            (Method::POST, "/v1/anything-else", "an admin of all namespaces"),
            (Method::DELETE, "/v1/workloads/shop/web", "an admin of all namespaces"),
        ] {
            assert_eq!(need(method, path), takes, "{path}");
        }
    }

    #[test]
    fn bodies_name_their_namespace() {
        let prepare = br#"{"name":"shop/web","spec":null}"#;
        assert_eq!(named_in("/v1/prepare", prepare).unwrap().as_str(), "shop");
        let key = Key::Secret("shop/word".parse().unwrap()).encoded();
        let draft = format!(r#"{{"key":"{}"}}"#, crate::hex::to_hex(&key));
        assert_eq!(named_in("/v1/draft", draft.as_bytes()).unwrap().as_str(), "shop");
        assert_eq!(named_in("/v1/prepare", b"nonsense"), None);
    }
}
