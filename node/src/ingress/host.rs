//! From a `Host` header to a workload.

use http::header::HOST;
use http::request::Builder;
use http::{HeaderMap, Uri, header};
use http::{Method, Request};
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::name::DEFAULT_NAMESPACE;

/// The host name of a node's API inside a tunnel. The HTTP port does not serve it.
pub const NODE_API: &str = "api.node.internal";

/// A request to the API of another node, to be sent to it as a peer. `path` begins with `/`.
pub fn node_request(method: Method, path: &str) -> Builder {
    let uri = format!("http://{NODE_API}{path}");
    Request::builder().method(method).uri(uri).header(HOST, NODE_API)
}

/// Host suffixes of workloads. `.localhost` resolves to this machine everywhere without any set-up.
const ENDINGS: [&str; 2] = [".shoal", ".localhost"];

/// The forms of host names, for answers to requests with any other.
pub const FORMS: &str = "a workload answers to NAME.shoal and NAME.localhost, or \
    NAME.NAMESPACE.shoal outside the default namespace";

/// The host of a request, in lower case and without a port. `None` when there is none, or more than
/// one.
pub fn host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    let mut named = headers.get_all(header::HOST).iter();
    // With an absolute target its host counts and the header is ignored (RFC 9112, 3.2.2).
    let text = match (uri.authority(), named.next(), named.next()) {
        (Some(authority), _, _) => authority.as_str(),
        (None, Some(only), None) => only.to_str().ok()?,
        (None, _, _) => return None,
    };
    let text = text.rsplit_once('@').map_or(text, |(_, host)| host);
    let bare = match text.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => text,
    };
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    (!bare.is_empty()).then(|| bare.to_ascii_lowercase())
}

/// The workload that `host` names: `NAME[.NAMESPACE].shoal` or `.localhost`.
pub fn workload(host: &str) -> Option<WorkloadName> {
    let labels = ENDINGS.iter().find_map(|ending| host.strip_suffix(ending))?;
    let (name, namespace) = labels.split_once('.').unwrap_or((labels, DEFAULT_NAMESPACE));
    Some(WorkloadName { namespace: namespace.parse().ok()?, name: name.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, value.parse().unwrap());
        host(&Uri::from_static("/"), &headers)
            .and_then(|host| workload(&host))
            .map(|name| format!("{name:?}"))
    }

    #[test]
    fn host_parses_with_namespace_port_and_case() {
        assert_eq!(of("hello.shoal").as_deref(), Some("default/hello"));
        assert_eq!(of("hello.localhost:8080").as_deref(), Some("default/hello"));
        assert_eq!(of("Hello.Shop.SHOAL:80").as_deref(), Some("shop/hello"));
        assert_eq!(of("hello.shoal.").as_deref(), Some("default/hello"));
    }

    #[test]
    fn other_hosts_name_no_workload() {
        for host in [
            "localhost",
            "shoal",
            ".shoal",
            "a.b.c.shoal",
            "127.0.0.1:8080",
            "[::1]:80",
            "hello.example.org",
            "he_llo.shoal",
            "-.shoal",
        ] {
            assert_eq!(of(host), None, "{host}");
        }
    }

    /// Two `Host` headers could name two workloads, so the request is refused instead of guessed.
    #[test]
    fn absolute_target_wins_and_two_host_headers_fail() {
        let mut headers = HeaderMap::new();
        headers.append(header::HOST, "a.shoal".parse().unwrap());
        let absolute = Uri::from_static("http://b.shoal:80/x");
        assert_eq!(host(&absolute, &headers).as_deref(), Some("b.shoal"));
        headers.append(header::HOST, "c.shoal".parse().unwrap());
        assert_eq!(host(&Uri::from_static("/"), &headers), None);
        assert_eq!(host(&Uri::from_static("/"), &HeaderMap::new()), None);
    }
}
