//! The kernel's table that leads connections to names to this daemon, so that names take no ports
//! of the device.
//!
//! ```text
//! 198.18.4.7:5432 ── nat ──▶ 198.18.0.9:41003, the one listener ── its original address ──▶ goal
//! ```
//!
//! **The table is this node's alone**: its name has the node's id, and it changes addresses of this
//! node only. It stands before the engines' own rules, which would take a port that a container
//! publishes for theirs at each address of the device. A port that no name has leads to one on
//! which nobody listens, so it is refused, also when a program of the device listens there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shoal_protocol::model::NodeId;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::process::Command;
use tokio::time::timeout;
use tracing::{info, warn};

use super::DNS;
use super::proxy::Lead;
use crate::network::RuleChanges;

/// Time for a call of `nft`, which takes some milliseconds.
const WITHIN: Duration = Duration::from_secs(5);

/// The leads by original address, which the table and the listener share.
type Leads = Arc<Mutex<BTreeMap<SocketAddrV4, Lead>>>;

/// The table of a node, as it is to be.
pub(super) struct Table {
    nft: Nft,
    own: Ipv4Addr,
    doors: Doors,
    leads: Leads,
    /// The addresses of names.
    names: BTreeSet<Ipv4Addr>,
    /// The kernel may have another one.
    is_old: bool,
    /// The rules without the names, as the kernel has them when nobody else changed them.
    shape: String,
    /// The last failure is in the log.
    is_told: bool,
    changes: RuleChanges,
}

/// Ports of the node's own address that the kernel chose.
struct Doors {
    tcp: u16,
    name_udp: u16,
    name_tcp: u16,
    /// Bound, so that no other program gets it, and never listened on.
    closed: u16,
    _closed: TcpSocket,
}

/// All that listens.
pub(super) struct Listening {
    /// For connections to names.
    pub tcp: TcpListener,
    /// For questions.
    pub name_udp: UdpSocket,
    /// For questions.
    pub name_tcp: TcpListener,
}

impl Table {
    /// Opens the doors at a node's own address, and writes the table, in place of the one that a
    /// killed daemon left.
    pub async fn open(node: NodeId, own: Ipv4Addr) -> Result<(Table, Listening), String> {
        let told = |error: io::Error| format!("no port of {own} is free: {error}");
        let any = SocketAddr::from((own, 0));
        let tcp = TcpListener::bind(any).await.map_err(told)?;
        let name_udp = UdpSocket::bind(any).await.map_err(told)?;
        let name_tcp = TcpListener::bind(any).await.map_err(told)?;
        let closed = TcpSocket::new_v4().map_err(told)?;
        closed.bind(any).map_err(told)?;
        let port = |it: io::Result<SocketAddr>| it.map(|it| it.port()).map_err(told);
        let doors = Doors {
            tcp: port(tcp.local_addr())?,
            name_udp: port(name_udp.local_addr())?,
            name_tcp: port(name_tcp.local_addr())?,
            closed: port(closed.local_addr())?,
            _closed: closed,
        };
        let nft = Nft::of(node);
        let changes = RuleChanges::new();
        let (leads, names, shape) = Default::default();
        let mut table =
            Table { nft, own, doors, leads, names, is_old: true, shape, is_told: false, changes };
        table.nft.write(&table.text()).await?;
        table.is_old = false;
        table.shape = table.nft.shape().await?;
        Ok((table, Listening { tcp, name_udp, name_tcp }))
    }

    /// The handle by which the table is removed.
    pub fn nft(&self) -> Nft {
        self.nft.clone()
    }

    /// Finds the lead of a connection by the address to which its client connected.
    pub fn finder(&self) -> impl Fn(&TcpStream) -> Option<Lead> + Send + use<> {
        let leads = self.leads.clone();
        move |stream| {
            let original = SockRef::from(stream).original_dst_v4().ok()?.as_socket_ipv4()?;
            lock(&leads).get(&original).cloned()
        }
    }

    /// Takes the ports of a name's address into the table that is written next.
    pub fn add(&mut self, address: Ipv4Addr, ports: impl Iterator<Item = (u16, Lead)>) {
        self.names.insert(address);
        let new = ports.map(|(port, lead)| (SocketAddrV4::new(address, port), lead));
        lock(&self.leads).extend(new);
        self.is_old = true;
    }

    /// Takes a name's address out of the table that is written next.
    pub fn remove(&mut self, address: Ipv4Addr) {
        self.names.remove(&address);
        lock(&self.leads).retain(|of, _| *of.ip() != address);
        self.is_old = true;
    }

    /// Writes the table if it changed, and returns whether the kernel has it as it is to be. All
    /// changes since the last call are one call of `nft`.
    pub async fn settle(&mut self) -> bool {
        if !self.is_old {
            return true;
        }
        match self.nft.write(&self.text()).await {
            Ok(()) => (self.is_old, self.is_told) = (false, false),
            Err(why) if !self.is_told => {
                self.is_told = true;
                warn!("containers here do not reach new names of workloads: {why}");
            }
            Err(_) => {}
        }
        !self.is_old
    }

    /// Returns when it is time to [look](Self::look).
    pub async fn look_is_due(&mut self) {
        self.changes.look_is_due().await;
    }

    /// Writes the table again if another program removed or changed it, as a firewall that reloads
    /// its rules does.
    pub async fn look(&mut self) {
        if self.nft.shape().await.as_ref() != Ok(&self.shape) {
            info!("another program changed the table {}: it is written again", self.nft.name);
            self.is_old = true;
        }
        self.settle().await;
    }

    fn text(&self) -> String {
        let ports = lock(&self.leads).keys().copied().collect::<Vec<_>>();
        text(&self.nft.name, self.own, &self.doors, &self.names, &ports)
    }
}

fn lock(leads: &Leads) -> MutexGuard<'_, BTreeMap<SocketAddrV4, Lead>> {
    leads.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The table in the language of `nft`: one transaction, with which the old one is gone.
fn text(
    table: &str,
    own: Ipv4Addr,
    doors: &Doors,
    names: &BTreeSet<Ipv4Addr>,
    ports: &[SocketAddrV4],
) -> String {
    let list = |items: Vec<String>| match items.is_empty() {
        true => String::new(),
        false => format!("elements = {{ {} }}", items.join(", ")),
    };
    let names = list(names.iter().map(Ipv4Addr::to_string).collect());
    let ports = list(ports.iter().map(|it| format!("{} . {}", it.ip(), it.port())).collect());
    let Doors { tcp, name_udp, name_tcp, closed, _closed } = doors;
    let mut out = String::new();
    // Writing into a text cannot fail.
    let _ = write!(
        out,
        "add table ip {table}\n\
        delete table ip {table}\n\
        table ip {table} {{\n\
        set names {{ type ipv4_addr; {names} }}\n\
        set ports {{ type ipv4_addr . inet_service; {ports} }}\n\
        chain lead {{\n\
        ip daddr . tcp dport @ports dnat to {own}:{tcp}\n\
        ip daddr {own} udp dport {DNS} dnat to {own}:{name_udp}\n\
        ip daddr {own} tcp dport {DNS} dnat to {own}:{name_tcp}\n\
        ip daddr @names meta l4proto tcp dnat to {own}:{closed}\n\
        ip daddr @names meta l4proto udp dnat to {own}:{closed}\n\
        }}\n\
        chain prerouting {{ type nat hook prerouting priority -110; policy accept; jump lead; }}\n\
        chain output {{ type nat hook output priority -110; policy accept; jump lead; }}\n\
        }}\n"
    );
    out
}

/// The program `nft`, for one table. Cheap to clone.
#[derive(Clone)]
pub(super) struct Nft {
    name: String,
}

impl Nft {
    fn of(node: NodeId) -> Nft {
        let id: String = node.to_string().chars().take(8).collect();
        Nft { name: format!("shoal-{id}") }
    }

    async fn write(&self, text: &str) -> Result<(), String> {
        run(&["-f", "-"], text).await.map(drop)
    }

    /// The rules without the elements of sets.
    async fn shape(&self) -> Result<String, String> {
        run(&["--terse", "list", "table", "ip", &self.name], "").await
    }

    /// Removes the table.
    pub async fn remove(&self) {
        let name = &self.name;
        let text = format!("add table ip {name}\ndelete table ip {name}\n");
        if let Err(why) = self.write(&text).await {
            warn!("the table {name} stays in the device's firewall: {why}");
        }
    }
}

/// Runs `nft` and returns its output. Nothing but its own arguments and input reaches it.
async fn run(arguments: &[&str], input: &str) -> Result<String, String> {
    // A PATH of ordinary users does not have the second one.
    let mut child = None;
    for program in ["nft", "/usr/sbin/nft"] {
        let started = Command::new(program)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        match started {
            Ok(started) => {
                child = Some(started);
                break;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("`nft` cannot be started: {error}")),
        }
    }
    let mut child = child.ok_or("`nft` is not installed (package nftables)")?;
    let talk = async {
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends early says why.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let ended = timeout(WITHIN, talk).await;
    let ended = ended.map_err(|_| format!("`nft` did not end within {} s", WITHIN.as_secs()))?;
    let ended = ended.map_err(|error| format!("`nft` cannot be waited for: {error}"))?;
    match ended.status.success() {
        true => Ok(String::from_utf8_lossy(&ended.stdout).into_owned()),
        false => {
            let said = String::from_utf8_lossy(&ended.stderr);
            let first = said.lines().next().unwrap_or("it does not say why");
            Err(format!("`nft` refused the table: {first}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn table_leads_the_ports_of_names_and_refuses_all_others() {
        let own = Ipv4Addr::new(198, 18, 0, 9);
        let _closed = TcpSocket::new_v4().unwrap();
        let doors = Doors { tcp: 41000, name_udp: 41001, name_tcp: 41002, closed: 41003, _closed };
        let db = Ipv4Addr::new(198, 18, 4, 7);
        let ports = [80, 5432].map(|port| SocketAddrV4::new(db, port));
        let all = text("shoal-0a1b2c3d", own, &doors, &[db].into(), &ports);
        for line in [
            "add table ip shoal-0a1b2c3d\ndelete table ip shoal-0a1b2c3d\n",
            "set names { type ipv4_addr; elements = { 198.18.4.7 } }",
            "elements = { 198.18.4.7 . 80, 198.18.4.7 . 5432 } }",
            "ip daddr . tcp dport @ports dnat to 198.18.0.9:41000",
            "ip daddr 198.18.0.9 udp dport 53 dnat to 198.18.0.9:41001",
            "ip daddr 198.18.0.9 tcp dport 53 dnat to 198.18.0.9:41002",
            "ip daddr @names meta l4proto tcp dnat to 198.18.0.9:41003",
            "hook prerouting priority -110;",
            "hook output priority -110;",
        ] {
            assert!(all.contains(line), "{line} is not in {all}");
        }
        let none = text("shoal-0a1b2c3d", own, &doors, &BTreeSet::new(), &[]);
        assert!(!none.contains("elements"), "{none}");
    }

    /// Two daemons of one device must not disturb each other.
    #[test]
    fn table_of_another_node_has_another_name() {
        let [one, other] = [1, 2].map(|n| Nft::of(NodeId([n; 32])).name);
        assert_eq!(one, "shoal-01010101");
        assert_ne!(one, other);
    }
}
