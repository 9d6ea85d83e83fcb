//! The service name and the MAC, which only members can make and check.

use ring::hmac;
use shoal_protocol::model::NodeId;

/// Separates these uses of the cluster's secret from others.
const NAME_DOMAIN: &[u8] = b"shoal/mdns/name/1";
const SEEN_DOMAIN: &[u8] = b"shoal/mdns/seen/1";
/// Bytes of a MAC: a forger needs 2^127 packets on average.
const MAC: usize = 16;

pub(super) struct Secret {
    key: hmac::Key,
    /// The DNS label under which members ask. It reveals nothing about the cluster.
    pub name: String,
}

impl Secret {
    pub(super) fn new(secret: &[u8; 32]) -> Secret {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let tag = hmac::sign(&key, NAME_DOMAIN);
        let name = tag
            .as_ref()
            .iter()
            .take(8)
            .fold(String::from("_"), |name, byte| format!("{name}{byte:02x}"));
        Secret { key, name }
    }

    /// The MAC over a node and its addresses as text.
    pub(super) fn mac(&self, node: &NodeId, addresses: &[String]) -> String {
        let mut message = hmac::Context::with_key(&self.key);
        message.update(SEEN_DOMAIN);
        message.update(node.as_bytes());
        for address in addresses {
            message.update(address.as_bytes());
            message.update(b"\n");
        }
        message
            .sign()
            .as_ref()
            .iter()
            .take(MAC)
            .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
    }

    pub(super) fn is_mac(&self, claimed: &str, node: &NodeId, addresses: &[String]) -> bool {
        // In constant time: the duration must not show how many bytes are right.
        let right = self.mac(node, addresses);
        let wrong = right.bytes().zip(claimed.bytes()).fold(0, |wrong, (a, b)| wrong | (a ^ b));
        claimed.len() == right.len() && wrong == 0
    }
}
