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

/// From here on ports come and go with connections (`ip_local_port_range`): of UDP, whose sockets
/// do not tell, nobody publishes one there.
const PASSING: u16 = 32_768;
/// Ports in all; those beyond are found taken at the start.
const MAX: usize = 1_024;
/// The first two bytes of the addresses of workloads, as the kernel prints them on devices with the
/// low byte first: they are listened on for containers, and no replica publishes a port there.
const NAMES: [&str; 2] = ["12C6", "13C6"];
/// Digits of an IPv4 address there.
const IPV4: usize = 8;

/// The ports on which programs listen, besides those of own replicas. A table that cannot be read
/// has none: then a replica fails to start, and says so.
pub(super) fn of_others(held: &BTreeSet<HostPort>) -> BTreeSet<HostPort> {
    let tables = TABLES.iter().map(|(path, udp)| (read_to_string(path).unwrap_or_default(), *udp));
    let mut all: BTreeSet<HostPort> =
        tables.flat_map(|(text, udp)| listening(&text, udp)).collect();
    let passes = |port: &HostPort| port.udp && port.port >= PASSING;
    all.retain(|port| !held.contains(port) && !passes(port));
    all.into_iter().take(MAX).collect()
}

fn listening(table: &str, udp: bool) -> Vec<HostPort> {
    let state = if udp { LISTENS.1 } else { LISTENS.0 };
    let port = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (address, port) = words.nth(1)?.rsplit_once(':')?;
        let is_name = address.len() == IPV4 && NAMES.iter().any(|it| address.ends_with(it));
        let is_listening = words.nth(1)? == state && !is_name;
        let port = u16::from_str_radix(port, 16).ok()?;
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
        let tcp = HostPort { port: listener.local_addr().unwrap().port(), udp: false };
        let none = HostPort { port: tcp.port, udp: true };
        let found = of_others(&BTreeSet::new());
        assert!(found.contains(&tcp) && !found.contains(&none), "{found:?}");
        assert!(!of_others(&[tcp].into()).contains(&tcp), "a replica has it");
        drop(listener);
        assert!(!of_others(&BTreeSet::new()).contains(&tcp));
    }

    /// As the kernel prints them: a listener, a connection, one for a workload's name, and UDP.
    #[test]
    fn listeners_for_names_and_passing_sockets_do_not_count() {
        let head = "  sl  local_address rem_address   st\n";
        let lines = [
            "0: 00000000:0050 00000000:0000 0A 0",
            "1: 0100007F:1F91 0100007F:C350 01 0",
            "2: 020112C6:1F90 00000000:0000 0A 0",
        ];
        let tcp = format!("{head}{}", lines.join("\n"));
        assert_eq!(listening(&tcp, false), [HostPort { port: 80, udp: false }]);
        let udp = format!("{head}   0: 00000000:0035 00000000:0000 07 0\n");
        assert_eq!(listening(&udp, true), [HostPort { port: 53, udp: true }]);
    }
}
