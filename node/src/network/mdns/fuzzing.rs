//! Target: packets on a port that the whole local network writes to.

use std::net::SocketAddr;

use shoal_protocol::model::NodeId;

use super::packet::{announcement, question, read};
use super::secret::Secret;
use super::{MAX_ADDRESSES, MAX_MISSING};

const NODE: NodeId = NodeId([0xab; 32]);

fn secret() -> Secret {
    Secret::new(&[1; 32])
}

fn addresses() -> Vec<SocketAddr> {
    ["10.0.0.1:7700", "[2001:db8::1]:7700"].iter().filter_map(|it| it.parse().ok()).collect()
}

/// A member reads the packet. Nobody without the secret makes an announcement.
pub fn run(data: &[u8]) {
    let Some(parsed) = read(data, &secret()) else { return };
    assert!(parsed.questions.len() <= 64 && parsed.announced.len() <= MAX_MISSING);
    for (node, at) in parsed.announced {
        assert!(at.len() <= MAX_ADDRESSES, "{} addresses", at.len());
        assert!(node == NODE && at == addresses(), "an announcement was forged: {node} {at:?}");
    }
}

/// The packets of a member, with compressed names as a reflector writes them, and addresses.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut pointed = question(&secret(), &[]);
    pointed[5] = 2;
    pointed.extend([4, b'a', b'b', b'c', b'd', 0xc0, 12, 0, 16, 0, 1]);
    vec![
        question(&secret(), &[]),
        question(&secret(), &[NODE]),
        announcement(&secret(), &NODE, &addresses()),
        pointed,
        b"/ip4/10.0.0.1/tcp/7700".to_vec(),
        b"[::1]:9".to_vec(),
    ]
}
