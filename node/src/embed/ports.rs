//! The ports of this device on which programs listen, as the kernel lists them.

use std::collections::BTreeSet;
use std::fs::read_to_string;

use shoal_protocol::model::spec::HostPort;

/// The kernel's tables, and whether each is of UDP.
const TABLES: [(&str, bool); 4] = [
    ("/proc/net/tcp", false),
    ("/proc/net/tcp6", false),
    ("/proc/net/udp", true),
    ("/proc/net/udp6", true),
];
/// The state of a TCP socket that listens, and of a UDP socket that is bound.
const LISTENS: (&str, &str) = ("0A", "07");

/// Which of these ports a program has. A table that cannot be read has none: then a replica fails
/// to start, and says so.
pub(super) fn of_others(watched: &BTreeSet<HostPort>) -> BTreeSet<HostPort> {
    if watched.is_empty() {
        return BTreeSet::new();
    }
    let tables = TABLES.iter().map(|(path, udp)| (read_to_string(path).unwrap_or_default(), *udp));
    let mut all: BTreeSet<HostPort> =
        tables.flat_map(|(text, udp)| listening(&text, udp)).collect();
    all.retain(|port| watched.contains(port));
    all
}

fn listening(table: &str, udp: bool) -> Vec<HostPort> {
    let state = if udp { LISTENS.1 } else { LISTENS.0 };
    let port = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let local = words.nth(1)?;
        let is_listening = words.nth(1)? == state;
        let port = u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok()?;
        is_listening.then_some(HostPort { port, udp })
    };
    table.lines().skip(1).filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_of_another_program_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::net::UdpSocket::bind("[::1]:0");
        let tcp = HostPort { port: listener.local_addr().unwrap().port(), udp: false };
        let none = HostPort { port: tcp.port, udp: true };
        assert_eq!(of_others(&[tcp, none].into()), [tcp].into());
        // A device may have no IPv6.
        if let Ok(socket) = socket {
            let udp = HostPort { port: socket.local_addr().unwrap().port(), udp: true };
            assert_eq!(of_others(&[udp].into()), [udp].into());
        }
        drop(listener);
        assert_eq!(of_others(&[tcp].into()), BTreeSet::new());
    }
}
