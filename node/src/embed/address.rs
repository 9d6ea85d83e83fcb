//! Socket addresses as people write them, and multiaddrs as the mesh does.

use std::net::{IpAddr, SocketAddr};

/// The multiaddr of a TCP address, as in `/ip4/10.0.0.5/tcp/7700`.
pub(super) fn multiaddr(address: &SocketAddr) -> String {
    let family = match address.ip() {
        IpAddr::V4(_) => "ip4",
        IpAddr::V6(_) => "ip6",
    };
    format!("/{family}/{}/tcp/{}", address.ip(), address.port())
}

/// The address of an `/ip4` or `/ip6` multiaddr with TCP; `None` for any other.
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

/// Seeds given as `host:port`, in the core's form: addresses become multiaddrs; names stay, since
/// they are looked up at each dial.
pub(super) fn seeds(given: &[String]) -> Vec<String> {
    given
        .iter()
        .map(|seed| seed.parse().map_or_else(|_| seed.clone(), |address| multiaddr(&address)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiaddr_and_socket_address_convert_both_ways() {
        for text in ["10.0.0.5:7700", "[::1]:7"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(socket(&multiaddr(&address)), Some(address));
        }
        assert_eq!(socket("/dns4/example.org/tcp/1"), None);
        assert_eq!(socket("/ip4/10.0.0.5/udp/1"), None);
        assert_eq!(socket("10.0.0.5:1"), None);
    }

    /// The address behind a name may change, so only literal addresses are converted.
    #[test]
    fn seed_given_by_name_keeps_its_name() {
        let given = [
            "127.0.0.1:7700".to_owned(),
            "[::1]:9".to_owned(),
            "no.such.host.invalid:1".to_owned(),
        ];
        assert_eq!(
            seeds(&given),
            ["/ip4/127.0.0.1/tcp/7700", "/ip6/::1/tcp/9", "no.such.host.invalid:1"]
        );
    }
}
