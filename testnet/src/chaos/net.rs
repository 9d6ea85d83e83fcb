//! A network of its own: each node in a network namespace, joined by a bridge in another, with one
//! link to this machine.
//!
//! ```text
//!   this machine           namespace ..-switch                namespace ..-n1, ..-n2, ..
//!   shl4711a .1 ─────────── host ┐
//!                           p1 ──┼── left      right ──┐      eth0 .11
//!                           p2 ──┘          (a split)  p3     eth0 .12, ..
//! ```
//!
//! The bridge has a namespace to itself so that the machine's own packet filter, which container
//! engines fill, does not see what crosses it. The addresses are from the block that is set aside
//! for testing networks (198.18.0.0/15).

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::wire::{BlackHole, Wire};
use crate::real::cleanup::{self, PREFIX};
use crate::real::resources::{LINK_PREFIX, NAMESPACES, Resource, quietly};
use crate::real::{Place, traffic::Sample, traffic::ask_once};

/// The ports for nodes and for clients: the defaults of `shoal up`.
const PORTS: (u16, u16) = (7700, 8080);
/// A hardware address that no device has, of the block for local use.
const NOBODY: &str = "02:00:00:00:00:fe";
/// The most nodes that fit into the addresses.
pub const MOST_NODES: usize = 99;

/// Delay and loss of every packet that leaves a node.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Delay of each packet.
    pub delay: Duration,
    /// Packets of a thousand that are lost.
    pub lost_per_mille: u16,
}

/// Interfaces of a node that other nodes cannot reach: the node must not rely on their addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Clutter {
    /// No such interfaces; each node listens at its one address.
    #[default]
    None,
    /// No such interfaces; nodes listen at any address.
    AnyAddress,
    /// Two more networks that only the node is in. Packets of others to them are lost silently.
    DeadEnds,
    /// A device full of containers: 18 bridges, made before the link, with the same addresses on
    /// every device; and another with an address of its own, to which packets of others are lost.
    Bridges,
}

/// Bridges of [`Clutter::Bridges`] that have the same addresses on every device.
pub const SAME_BRIDGES: usize = 18;

/// The network of a cluster. Drop removes it; the nodes must be gone before.
pub struct Net {
    /// Beginning of names, as in `shoal-testnet-4711-a`.
    name: String,
    /// The third byte of the addresses 198.18.x.y.
    subnet: u8,
    nodes: usize,
    /// Changes of each node's address so far.
    moves: Vec<u8>,
    clutter: Clutter,
    resources: Vec<Resource>,
    wires: Vec<Wire>,
}

impl Net {
    /// The reason why there can be no such network here, for people; none when there can.
    pub fn impossible() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("network namespaces need root: run it as root".to_owned());
        }
        let missing = missing_of(&[("ip", "iproute2"), ("nsenter", "util-linux")]);
        if missing.is_some() {
            return missing;
        }
        // Root in a container may lack the capability.
        let probe = quietly(Command::new("unshare").args(["--net", "true"]));
        probe.err().map(|error| format!("this machine allows no network namespaces: {error:#}"))
    }

    /// A network for `nodes` nodes, all linked, without delay or loss.
    pub fn new(nodes: usize) -> Result<Self> {
        Self::cluttered(nodes, Clutter::None)
    }

    /// As [`Net::new`], with unreachable interfaces in each node.
    pub fn cluttered(nodes: usize, clutter: Clutter) -> Result<Self> {
        static TURN: AtomicU8 = AtomicU8::new(0);
        ensure!(
            nodes <= MOST_NODES,
            "{nodes} nodes: no more than {MOST_NODES} fit into the network"
        );
        let letter = char::from(b'a' + TURN.fetch_add(1, Ordering::Relaxed) % 26);
        let process = std::process::id();
        let name = format!("{PREFIX}{process}-{letter}");
        let subnet = free_subnet(process)?;
        // From here on Drop removes all that was made, also when the rest fails.
        let moves = vec![0; nodes];
        let mut net =
            Net { name, subnet, nodes, moves, clutter, resources: Vec::new(), wires: Vec::new() };
        net.set_up(&format!("{LINK_PREFIX}{process}{letter}"))
            .context("cannot lay the test's network")?;
        Ok(net)
    }

    fn set_up(&mut self, link: &str) -> Result<()> {
        let switch = self.switch();
        self.make(Resource::Namespace(switch.clone()), &format!("netns add {switch}"))?;
        for bridge in ["left", "right"] {
            ip(&format!("-n {switch} link add {bridge} type bridge"))?;
            ip(&format!("-n {switch} link set {bridge} up"))?;
        }
        self.make(
            Resource::Link(link.to_owned()),
            &format!("link add {link} type veth peer name host netns {switch}"),
        )?;
        ip(&format!("-n {switch} link set host master left up"))?;
        ip(&format!("addr add 198.18.{}.1/24 dev {link}", self.subnet))?;
        ip(&format!("link set {link} up"))?;
        for node in 0..self.nodes {
            let (namespace, address) = (self.namespace(node), self.address(node));
            self.make(Resource::Namespace(namespace.clone()), &format!("netns add {namespace}"))?;
            let port = port(node);
            if self.clutter == Clutter::Bridges {
                for bridge in 0..SAME_BRIDGES {
                    add_bridge(
                        &namespace,
                        &engines_name(bridge),
                        &format!("172.{}.0.1/16", 17 + bridge),
                    )?;
                }
                add_bridge(&namespace, "br-0123456789ab", &format!("172.{}.0.1/16", 100 + node))?;
            }
            ip(&format!("-n {namespace} link add eth0 type veth peer name {port} netns {switch}"))?;
            ip(&format!("-n {switch} link set {port} master left up"))?;
            ip(&format!("-n {namespace} addr add {address}/24 dev eth0"))?;
            ip(&format!("-n {namespace} link set lo up"))?;
            ip(&format!("-n {namespace} link set eth0 up"))?;
            if self.clutter == Clutter::DeadEnds {
                for end in 1..=2 {
                    let (near, far) = (format!("lan{end}"), format!("end{end}"));
                    ip(&format!("-n {namespace} link add {near} type veth peer name {far}"))?;
                    ip(&format!(
                        "-n {namespace} addr add 198.19.{}.1/24 dev {near}",
                        2 * node + end
                    ))?;
                    ip(&format!("-n {namespace} link set {near} up"))?;
                    ip(&format!("-n {namespace} link set {far} up"))?;
                }
            }
            if matches!(self.clutter, Clutter::DeadEnds | Clutter::Bridges) {
                // A router that never answers: no device has this hardware address.
                let router = format!("198.18.{}.254", self.subnet);
                ip(&format!(
                    "-n {namespace} neigh add {router} lladdr 02:00:00:00:00:fe dev eth0 nud \
                        permanent"
                ))?;
                ip(&format!("-n {namespace} route add default via {router}"))?;
            }
        }
        Ok(())
    }

    fn make(&mut self, resource: Resource, arguments: &str) -> Result<()> {
        self.resources.push(resource.clone());
        cleanup::create(resource, Command::new("ip").args(arguments.split(' ')))
    }

    /// The place for a node.
    pub fn place(&self, node: usize) -> Place {
        let address = self.address(node);
        Place {
            through: vec![
                "nsenter".into(),
                format!("--net={NAMESPACES}/{}", self.namespace(node)),
                "--".into(),
            ],
            reach: self.ip(node).ok().filter(|_| self.clutter != Clutter::None),
            // With unreachable interfaces the node listens everywhere, as on a device that was set
            // up without naming an address.
            listen: match self.clutter {
                Clutter::None => format!("{address}:{}", PORTS.0),
                Clutter::AnyAddress | Clutter::DeadEnds | Clutter::Bridges => {
                    format!("0.0.0.0:{}", PORTS.0)
                }
            },
            http: format!("{address}:{}", PORTS.1),
            state: None,
            engine: None,
            options: Vec::new(),
        }
    }

    /// As [`Net::place`], listening on all present and later interfaces.
    pub fn place_anywhere(&self, node: usize) -> Place {
        let any = |port| format!("0.0.0.0:{port}");
        Place {
            reach: self.ip(node).ok(),
            listen: any(PORTS.0),
            http: any(PORTS.1),
            ..self.place(node)
        }
    }

    /// Replaces a node's address, as a DHCP server does.
    pub fn readdress(&mut self, node: usize) -> Result<IpAddr> {
        self.take_address(node)?;
        self.moves[node] = self.moves[node].wrapping_add(1);
        self.give_address(node)?;
        self.ip(node)
    }

    /// Takes a node's address away and shuts its interface.
    pub fn shut(&self, node: usize) -> Result<()> {
        self.take_address(node)?;
        ip(&format!("-n {} link set eth0 down", self.namespace(node)))
    }

    /// Opens a node's interface and gives its address back.
    pub fn open(&self, node: usize) -> Result<()> {
        ip(&format!("-n {} link set eth0 up", self.namespace(node)))?;
        self.give_address(node)
    }

    fn take_address(&self, node: usize) -> Result<()> {
        ip(&format!("-n {} addr del {}/24 dev eth0", self.namespace(node), self.address(node)))
    }

    fn give_address(&self, node: usize) -> Result<()> {
        ip(&format!("-n {} addr add {}/24 dev eth0", self.namespace(node), self.address(node)))
    }

    /// A node's address.
    pub fn ip(&self, node: usize) -> Result<IpAddr> {
        self.ipv4(node).map(IpAddr::V4)
    }

    fn ipv4(&self, node: usize) -> Result<Ipv4Addr> {
        let address = self.address(node);
        address.parse().with_context(|| format!("{address} is no address"))
    }

    /// Pulls a node's cable.
    pub fn cut(&self, node: usize) -> Result<()> {
        ip(&format!("-n {} link set {} down", self.switch(), port(node)))
    }

    /// Puts a node's cable in again.
    pub fn mend(&self, node: usize) -> Result<()> {
        ip(&format!("-n {} link set {} up", self.switch(), port(node)))
    }

    /// Moves these nodes to a switch of their own. No node sees its link go down: the other half is
    /// silent.
    pub fn split(&self, nodes: &[usize]) -> Result<()> {
        nodes.iter().try_for_each(|node| self.plug(&port(*node), "right"))
    }

    /// Moves all nodes back to one switch.
    pub fn join(&self) -> Result<()> {
        (0..self.nodes).try_for_each(|node| self.plug(&port(node), "left"))
    }

    /// Drops all packets between these two nodes silently: each has the hardware address of an
    /// absent device for the other. All others reach both.
    pub fn block(&self, one: usize, other: usize) -> Result<()> {
        for (from, to) in [(one, other), (other, one)] {
            let (namespace, address) = (self.namespace(from), self.address(to));
            ip(&format!(
                "-n {namespace} neigh replace {address} lladdr {NOBODY} dev eth0 nud permanent"
            ))?;
        }
        Ok(())
    }

    /// Lets the two reach one another again.
    pub fn unblock(&self, one: usize, other: usize) -> Result<()> {
        for (from, to) in [(one, other), (other, one)] {
            ip(&format!("-n {} neigh del {} dev eth0", self.namespace(from), self.address(to)))?;
        }
        Ok(())
    }

    fn plug(&self, port: &str, bridge: &str) -> Result<()> {
        ip(&format!("-n {} link set {port} master {bridge}", self.switch()))
    }

    /// Delays and drops packets from now on. Returns the means for messages: the kernel's netem, or
    /// wires of our own where the kernel has none.
    pub fn weather(&mut self, weather: Weather) -> Result<&'static str> {
        let Weather { delay, lost_per_mille } = weather;
        let (delay, percent) = (delay.as_micros(), f64::from(lost_per_mille) / 10.0);
        for node in 0..self.nodes {
            let namespace = self.namespace(node);
            let netem = format!(
                "-n {namespace} qdisc add dev eth0 root netem delay {delay}us loss {percent}%"
            );
            if self.wires.is_empty() && quietly(Command::new("tc").args(netem.split(' '))).is_ok() {
                continue;
            }
            let seed = u64::try_from(node).expect("few nodes");
            self.wire(node, move |near, far| Wire::new(near, far, weather, seed))?;
        }
        Ok(if self.wires.is_empty() {
            "netem"
        } else {
            "wires of our own, since this kernel has no netem"
        })
    }

    /// From now on the path between two nodes silently loses packets longer than this, both ways.
    pub(super) fn hole(
        &mut self,
        one: usize,
        other: usize,
        longest: usize,
    ) -> Result<Arc<BlackHole>> {
        let hole = BlackHole::new([self.ipv4(one)?, self.ipv4(other)?], longest);
        let wired = hole.clone();
        self.wire(one, move |near, far| Wire::with_hole(near, far, &wired))?;
        Ok(hole)
    }

    /// Puts a wire of our own between a node and the switch.
    fn wire(
        &mut self,
        node: usize,
        make: impl FnOnce(&str, &str) -> Result<Wire> + Send + 'static,
    ) -> Result<()> {
        // The node's port moves to a bridge with the wire's near end; the far end replaces it at
        // the switch.
        let (switch, number) = (self.switch(), self.wires.len());
        let (near, far, bridge) =
            (format!("near{number}"), format!("far{number}"), format!("wire{number}"));
        let (from, to) = (near.clone(), far.clone());
        self.wires.push(within(&switch, move || make(&from, &to))??);
        ip(&format!("-n {switch} link add {bridge} type bridge"))?;
        for up in [&bridge, &near, &far] {
            ip(&format!("-n {switch} link set {up} up"))?;
        }
        self.plug(&far, "left")?;
        self.plug(&near, &bridge)?;
        self.plug(&port(node), &bridge)
    }

    /// Sends a request to a node's HTTP port from within its namespace, which works without any
    /// link.
    pub fn ask_within(&self, node: usize, asked: SocketAddr, host: &str) -> Result<Sample> {
        let host = host.to_owned();
        within(&self.namespace(node), move || ask_once(asked, &host))
    }

    /// Lets no more than so many megabits a second pass each node's link, either way.
    pub(crate) fn shape(&self, megabits: u32) -> Result<()> {
        for node in 0..self.nodes {
            for (namespace, device) in
                [(self.namespace(node), "eth0".to_owned()), (self.switch(), port(node))]
            {
                // The burst holds the longest packet that the kernel hands over at once.
                let line = format!(
                    "-n {namespace} qdisc add dev {device} root tbf rate {megabits}mbit \
                     burst 128kb latency 50ms"
                );
                quietly(Command::new("tc").args(line.split(' ')))?;
            }
        }
        Ok(())
    }

    /// Runs `what` on a thread of its own in a node's namespace. It must not start a process.
    pub(crate) fn within<T: Send + 'static>(
        &self,
        node: usize,
        what: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        within(&self.namespace(node), what)
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    fn namespace(&self, node: usize) -> String {
        format!("{}-n{}", self.name, node + 1)
    }

    fn address(&self, node: usize) -> String {
        // Two addresses for each node, used in turn; no two nodes share one.
        let place = usize::from(self.moves[node] % 2);
        format!("198.18.{}.{}", self.subnet, 11 + node + place * (MOST_NODES + 1))
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // An open wire keeps its namespace alive; its threads end when its interfaces are deleted.
        for node in 0..self.wires.len() {
            for end in ["near", "far"] {
                let _ = ip(&format!("-n {} link delete {end}{node}", self.switch()));
            }
        }
        self.wires.clear();
        for resource in self.resources.iter().rev() {
            cleanup::remove(resource);
        }
    }
}

fn add_bridge(namespace: &str, name: &str, address: &str) -> Result<()> {
    ip(&format!("-n {namespace} link add {name} type bridge"))?;
    ip(&format!("-n {namespace} addr add {address} dev {name}"))?;
    ip(&format!("-n {namespace} link set {name} up"))
}

/// The name that a container engine would give.
fn engines_name(bridge: usize) -> String {
    if bridge == 0 { "docker0".into() } else { format!("br-{bridge:012x}") }
}

fn port(node: usize) -> String {
    format!("p{}", node + 1)
}

/// A message about the first program that is not installed, with its package.
pub(crate) fn missing_of(programs: &[(&str, &str)]) -> Option<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there =
        |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let missing: Vec<_> = programs.iter().filter(|(program, _)| !there(program)).collect();
    let (first, package) = missing.first()?;
    Some(format!(
        "the program `{first}` is missing: install the package {package} (apt-get install \
            {package})"
    ))
}

fn ip(arguments: &str) -> Result<()> {
    quietly(Command::new("ip").args(arguments.split(' ')))
}

/// A third byte of 198.18.x.y that no interface here uses.
fn free_subnet(process: u32) -> Result<u8> {
    let shown = crate::workspace::output({
        let mut command = Command::new("ip");
        command.args(["-brief", "-4", "addr"]);
        command
    })?;
    // Runs at the same time mostly begin their search at different bytes.
    let mut tried =
        (0..=255u8).map(|turn| turn.wrapping_add(u8::try_from(process % 256).expect("below 256")));
    tried
        .find(|byte| !shown.contains(&format!(" 198.18.{byte}.")))
        .context("every network of 198.18.x is in use here")
}

/// Runs `what` on a thread of its own within a network namespace. It must not start a process.
fn within<T: Send + 'static>(
    namespace: &str,
    what: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let path = format!("{NAMESPACES}/{namespace}");
    let file = File::open(&path).with_context(|| format!("cannot open {path}"))?;
    let thread = std::thread::spawn(move || -> Result<T> {
        let moved = move_into_link_name_space(
            std::os::fd::AsFd::as_fd(&file),
            Some(LinkNameSpaceType::Network),
        );
        moved.with_context(|| format!("cannot enter the network namespace {path}"))?;
        Ok(what())
    });
    match thread.join() {
        Ok(outcome) => outcome,
        Err(_) => bail!(anyhow!("a look into the namespace {namespace} ended in a panic")),
    }
}
