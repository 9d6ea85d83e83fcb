//! `host:port` as people write it, and multiaddrs as the mesh does.

use std::net::{IpAddr, SocketAddr};

use tokio::net::lookup_host;
use tracing::warn;

/// `/ip4/10.0.0.5/tcp/7700`.
pub(super) fn multiaddr(address: &SocketAddr) -> String {
    let family = match address.ip() {
        IpAddr::V4(_) => "ip4",
        IpAddr::V6(_) => "ip6",
    };
    format!("/{family}/{}/tcp/{}", address.ip(), address.port())
}

/// The address in a multiaddr of IP and TCP; none in any other.
pub(super) fn socket(multiaddr: &str) -> Option<SocketAddr> {
    let mut parts = multiaddr.strip_prefix('/')?.split('/');
    let ip: IpAddr = match (parts.next()?, parts.next()?) {
        ("ip4" | "ip6", ip) => ip.parse().ok()?,
        _ => return None,
    };
    match (parts.next()?, parts.next()?.parse()) {
        ("tcp", Ok(port)) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

/// The multiaddrs of seeds given as `host:port`. A name that does not resolve now is left out, with a warning.
pub(super) async fn resolve(seeds: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for seed in seeds {
        match lookup_host(seed.as_str()).await {
            Ok(addresses) => found.extend(addresses.map(|address| multiaddr(&address))),
            Err(error) => warn!("the seed {seed} cannot be found: {error}"),
        }
    }
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        for text in ["10.0.0.5:7700", "[::1]:7"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(socket(&multiaddr(&address)), Some(address));
        }
        assert_eq!(socket("/dns4/example.org/tcp/1"), None);
        assert_eq!(socket("/ip4/10.0.0.5/udp/1"), None);
        assert_eq!(socket("10.0.0.5:1"), None);
    }

    #[tokio::test]
    async fn a_seed_that_cannot_be_found_is_left_out() {
        let seeds = ["127.0.0.1:7700".to_owned(), "no.such.host.invalid:1".to_owned()];
        assert_eq!(resolve(&seeds).await, ["/ip4/127.0.0.1/tcp/7700"]);
    }
}
