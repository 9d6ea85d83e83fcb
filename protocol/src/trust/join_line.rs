//! The line that a person carries from a node of the cluster to a new device.

use std::fmt;
use std::str::FromStr;

use crate::model::{Digest, KeyPair, PublicKey};

use super::Genesis;

/// Addresses in one line: few enough that the line can be copied by hand.
pub const MAX_ADDRESSES: usize = 16;

const PREFIX: &str = "shoal1:";
const CHECKSUM: usize = 8;
const PAYLOAD: usize = 32 + 32 + CHECKSUM;
/// 72 bytes are exactly 96 characters of base64: no padding and no spare bit.
const PAYLOAD_TEXT: usize = PAYLOAD / 3 * 4;
/// A DNS name, a colon and a port.
const MAX_ADDRESS: usize = 253 + 6;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// All that a device needs to join: `shoal1:` + base64url of root key, join seed and checksum +
/// `@host:port,host:port`.
///
/// A secret: its bearer can add devices to the cluster, though not tell them what to run.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinLine {
    /// The cluster's root key.
    pub root: PublicKey,
    /// The seed of the join key.
    pub join_seed: [u8; 32],
    /// Addresses of nodes, `host:port` or `[v6]:port`; 1 to [`MAX_ADDRESSES`].
    pub addresses: Vec<String>,
}

/// Why a text is not a join line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadJoinLine {
    #[error(
        "this is not a join line: it starts with `{PREFIX}`; `shoal join-line` on a node prints it"
    )]
    Prefix,
    #[error("this join line is of a newer form ({0}): upgrade shoal on this device")]
    NewerForm(String),
    #[error("the join line is cut short after {0} characters: copy the whole line")]
    CutShort(usize),
    #[error("the join line has a character that cannot be in it, `{0}`: copy it again")]
    Character(char),
    #[error(
        "the join line was altered or cut short on the way (its checksum does not match): copy \
            the whole line again; \
         with another address it is printed by `shoal join-line --address HOST:PORT`"
    )]
    Checksum,
    #[error("the join line names no address")]
    NoAddress,
    #[error("the join line names {0} addresses, at most {MAX_ADDRESSES} are allowed")]
    TooManyAddresses(usize),
    #[error("the address `{0}` is not HOST:PORT")]
    Address(String),
}

impl JoinLine {
    /// The keys of the cluster that the line leads to.
    pub fn genesis(&self) -> Genesis {
        Genesis { root: self.root, join: self.join_key().public() }
    }

    /// The key that admits nodes.
    pub fn join_key(&self) -> KeyPair {
        KeyPair::from_seed(&self.join_seed)
    }

    /// The same line with other addresses, for example the name under which a device is found.
    pub fn with_addresses(self, addresses: Vec<String>) -> Result<Self, BadJoinLine> {
        check_addresses(&addresses)?;
        Ok(JoinLine { addresses, ..self })
    }

    fn checksum(&self) -> [u8; CHECKSUM] {
        let addresses = self.addresses.join(",");
        let digest = Digest::of_parts(&[
            b"shoal/join-line/1",
            self.root.as_bytes(),
            &self.join_seed,
            addresses.as_bytes(),
        ]);
        let mut checksum = [0; CHECKSUM];
        checksum.copy_from_slice(&digest.0[..CHECKSUM]);
        checksum
    }
}

impl fmt::Display for JoinLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut payload = [0; PAYLOAD];
        payload[..32].copy_from_slice(self.root.as_bytes());
        payload[32..64].copy_from_slice(&self.join_seed);
        payload[64..].copy_from_slice(&self.checksum());
        write!(f, "{PREFIX}{}@{}", to_base64(&payload), self.addresses.join(","))
    }
}

impl fmt::Debug for JoinLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinLine")
            .field("root", &self.root)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl FromStr for JoinLine {
    type Err = BadJoinLine;

    /// White space is ignored: terminals and mail programs break long lines.
    fn from_str(text: &str) -> Result<Self, BadJoinLine> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let Some(rest) = text.strip_prefix(PREFIX) else {
            return Err(wrong_prefix(&text));
        };
        let (payload, addresses) = match rest.split_once('@') {
            Some((payload, addresses)) => (payload, Some(addresses)),
            None => (rest, None),
        };
        let payload = from_base64(payload, text.len())?;
        let addresses = addresses.ok_or(BadJoinLine::CutShort(text.len()))?;
        let addresses: Vec<String> =
            addresses.split(',').filter(|a| !a.is_empty()).map(str::to_owned).collect();
        let line = JoinLine {
            root: PublicKey(half(&payload, 0)),
            join_seed: half(&payload, 32),
            addresses,
        };
        if line.checksum() != payload[64..] {
            return Err(BadJoinLine::Checksum);
        }
        check_addresses(&line.addresses)?;
        Ok(line)
    }
}

fn half(payload: &[u8; PAYLOAD], from: usize) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(&payload[from..from + 32]);
    bytes
}

fn wrong_prefix(text: &str) -> BadJoinLine {
    let form = text.split(':').next().unwrap_or_default();
    match form.strip_prefix("shoal").map(str::parse::<u32>) {
        Some(Ok(number)) if number > 1 && text.contains(':') => {
            BadJoinLine::NewerForm(form.to_owned())
        }
        _ => BadJoinLine::Prefix,
    }
}

fn check_addresses(addresses: &[String]) -> Result<(), BadJoinLine> {
    match addresses.len() {
        0 => return Err(BadJoinLine::NoAddress),
        count if count > MAX_ADDRESSES => return Err(BadJoinLine::TooManyAddresses(count)),
        _ => {}
    }
    match addresses.iter().find(|address| !is_address(address)) {
        Some(address) => Err(BadJoinLine::Address(address.clone())),
        None => Ok(()),
    }
}

fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    let name = |host: &str| {
        !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
    };
    let v6 = |host: &str| {
        let inner =
            host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or_default();
        inner.contains(':')
            && inner.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'.'))
    };
    let port_is_good =
        port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    address.len() <= MAX_ADDRESS && (name(host) || v6(host)) && port_is_good
}

fn to_base64(bytes: &[u8; PAYLOAD]) -> String {
    let mut text = String::with_capacity(PAYLOAD_TEXT);
    for group in bytes.chunks_exact(3) {
        let bits = u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]);
        for shift in [18, 12, 6, 0] {
            text.push(char::from(ALPHABET[(bits >> shift & 63) as usize]));
        }
    }
    text
}

/// `given` is the length of the pasted text, for the message.
fn from_base64(text: &str, given: usize) -> Result<[u8; PAYLOAD], BadJoinLine> {
    let mut bits = Vec::with_capacity(PAYLOAD_TEXT);
    for character in text.chars() {
        let value = u8::try_from(character)
            .ok()
            .and_then(|byte| ALPHABET.iter().position(|letter| *letter == byte));
        bits.push(value.ok_or(BadJoinLine::Character(character))? as u32);
    }
    match bits.len() {
        count if count < PAYLOAD_TEXT => return Err(BadJoinLine::CutShort(given)),
        count if count > PAYLOAD_TEXT => return Err(BadJoinLine::Checksum),
        _ => {}
    }
    let mut bytes = [0; PAYLOAD];
    for (group, out) in bits.chunks_exact(4).zip(bytes.chunks_exact_mut(3)) {
        let word = group[0] << 18 | group[1] << 12 | group[2] << 6 | group[3];
        out.copy_from_slice(&word.to_be_bytes()[1..]);
    }
    Ok(bytes)
}
