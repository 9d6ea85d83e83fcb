//! The keys of an attacker, and the node that it attacks.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use libp2p::identity::Keypair;
use serde_json::Value;
use shoal_protocol::model::{ClusterId, Digest, KeyPair, NodeId, PublicKey};
use shoal_protocol::trust::Genesis;

use crate::real::Daemon;

/// A node's port for other nodes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The node behind it.
    pub node: NodeId,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Target {
    /// The port of a daemon that runs on loopback.
    pub fn of(daemon: &Daemon) -> Result<Target> {
        let me = daemon.api().nodes()?.into_iter().find(|node| node.me);
        let me = me.with_context(|| format!("{} does not show itself", daemon.name))?;
        let port = me.addresses.iter().find_map(|address| address.rsplit_once("/tcp/"));
        let port = port.with_context(|| format!("{} has no TCP port", daemon.name))?.1;
        let address = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port.parse()?);
        Ok(Target { node: NodeId(me.id.parse::<Digest>()?.0), address })
    }
}

/// The key with which an attacker speaks, and the address from which it comes.
#[derive(Clone)]
pub struct Attacker {
    /// The cluster that it knows.
    pub genesis: Genesis,
    /// Its key, for statements.
    pub keys: KeyPair,
    /// The same for handshakes.
    pub(super) handshake: Keypair,
    /// The local address of its connections.
    pub from: IpAddr,
}

impl Attacker {
    /// The member whose state folder was stolen.
    pub fn stolen(state: &Path, from: IpAddr) -> Result<Attacker> {
        let file = state.join("identity.json");
        let text = fs::read(&file).with_context(|| format!("no key in {}", file.display()))?;
        let identity: Value = serde_json::from_slice(&text)?;
        let field = |name: &str| {
            identity[name].as_str().with_context(|| format!("the identity has no `{name}`"))
        };
        let seed: Digest = field("node_seed")?.parse()?;
        let root: PublicKey = field("root")?.parse()?;
        Ok(Attacker::with(Genesis { root }, seed.0, from))
    }

    /// A stranger that knows the cluster of this attacker; each has another key.
    pub fn stranger(&self, from: IpAddr) -> Attacker {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let seed = Digest::of_parts(&[b"stranger", &self.keys.public().0, &number]);
        Attacker::with(self.genesis, seed.0, from)
    }

    /// An attacker with this key, of the cluster with this beginning.
    pub fn with(genesis: Genesis, seed: [u8; 32], from: IpAddr) -> Attacker {
        let handshake = Keypair::ed25519_from_bytes(seed).expect("any 32 bytes are a seed");
        Attacker { genesis, keys: KeyPair::from_seed(&seed), handshake, from }
    }

    /// Its own id.
    pub fn node(&self) -> NodeId {
        NodeId(self.keys.public().0)
    }

    /// The id of the cluster.
    pub fn cluster(&self) -> ClusterId {
        self.genesis.cluster()
    }

    /// The bytes that both ends of a handshake must know.
    pub(super) fn prologue(&self) -> Vec<u8> {
        Digest::of_parts(&[b"shoal/transport/2", self.cluster().as_bytes()]).0.to_vec()
    }

    /// The name of a protocol of the cluster.
    pub fn protocol(&self, what: &str) -> String {
        format!("/shoal/{}/{what}", self.cluster().short())
    }
}
