//! What only members can make and check.

use ring::hmac;
use shoal_protocol::model::NodeId;

/// Apart from whatever else the cluster's secret is used for.
const NAME_DOMAIN: &[u8] = b"shoal/mdns/name/1";
const SEEN_DOMAIN: &[u8] = b"shoal/mdns/seen/1";
/// Bytes of a MAC: forging one takes 2^127 packets.
const MAC: usize = 16;

pub(super) struct Secret {
    key: hmac::Key,
    /// The name under which members ask: nothing about the cluster can be read from it.
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

    /// Over a node and its addresses as they are written.
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
        // Compared as a whole: how many bytes are right must not show in the time it takes.
        let right = self.mac(node, addresses);
        let wrong = right.bytes().zip(claimed.bytes()).fold(0, |wrong, (a, b)| wrong | (a ^ b));
        claimed.len() == right.len() && wrong == 0
    }
}
