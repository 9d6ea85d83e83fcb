//! The line that a person carries from a node of the cluster to a new device.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::model::codec;
use crate::model::{Chain, Digest, Grant, KeyPair, PublicKey, Role, WallClock};

use super::accept::Rejection;
use super::{Genesis, authority};

/// Addresses in one line: few enough that the line can be copied by hand.
pub const MAX_ADDRESSES: usize = 16;

const PREFIX: &str = "shoal2:";
/// The line of programs whose clusters had a join key.
const OLD_PREFIX: &str = "shoal1:";
const CHECKSUM: usize = 8;
/// A DNS name, a colon and a port.
const MAX_ADDRESS: usize = 253 + 6;
/// Characters of a line: a chain of full grants and the longest addresses.
const MAX_LINE: usize = 64 * 1024;

/// All that a device needs to join: `shoal2:` + base64url of checksum, root key, the invite's seed
/// and its chain + `@host:port,host:port`.
///
/// A secret until it ends: its bearer can have that many devices admitted.
#[derive(Clone, PartialEq, Eq)]
pub struct Invite {
    /// The cluster's root key.
    pub root: PublicKey,
    /// The seed of the invite's own key.
    pub seed: [u8; 32],
    /// The grants that lead from the root to the invite's key.
    pub chain: Chain,
    /// Addresses of nodes, `host:port` or `[v6]:port`; at most [`MAX_ADDRESSES`], and none if the
    /// members are to be found on the local network.
    pub addresses: Vec<String>,
}

/// Why a text is not an invite.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadInvite {
    #[error(
        "this is not an invite: it starts with `{PREFIX}`; `shoal invite` on a node prints one"
    )]
    Prefix,
    #[error(
        "this is the join line of an older shoal, whose clusters admitted everybody who had it: \
            upgrade the nodes of that cluster (docs/trust.md says how), then `shoal invite` on one \
            of them prints an invite"
    )]
    OlderForm,
    #[error("this invite is of a newer form ({0}): upgrade shoal on this device")]
    NewerForm(String),
    #[error("the invite is cut short after {0} characters: copy the whole line")]
    CutShort(usize),
    #[error("the invite has a character that cannot be in it, `{0}`: copy it again")]
    Character(char),
    #[error(
        "the invite was altered or cut short on the way (its checksum does not match): copy \
        the whole line again"
    )]
    Checksum,
    #[error(
        "the invite is {0} characters long, at most {MAX_LINE} are allowed: copy the line alone"
    )]
    Length(usize),
    #[error("the invite names {0} addresses, at most {MAX_ADDRESSES} are allowed")]
    TooManyAddresses(usize),
    #[error("the address `{0}` is not HOST:PORT")]
    Address(String),
    #[error("the invite does not hold: {0}")]
    Chain(#[from] Rejection),
    #[error("the line is no invite but a grant of the role {0}")]
    Role(&'static str),
}

/// The part of the line before the addresses.
#[derive(Serialize, Deserialize)]
struct Payload {
    root: PublicKey,
    seed: [u8; 32],
    chain: Chain,
}

impl Invite {
    /// The cluster that the invite leads to.
    pub fn genesis(&self) -> Genesis {
        Genesis { root: self.root }
    }

    /// The invite's own key.
    pub fn keys(&self) -> KeyPair {
        KeyPair::from_seed(&self.seed)
    }

    /// The grant of the invite's key.
    pub fn grant(&self) -> Option<Grant> {
        self.chain.peek()
    }

    /// The moment at which it ends: the earliest in its chain.
    ///
    /// # Errors
    /// Its chain does not lead from its root to its key, or gives another right.
    pub fn check(&self) -> Result<Option<WallClock>, BadInvite> {
        let right = authority(&self.genesis(), &self.chain, self.keys().public(), None)?;
        match right.role {
            Role::Inviter { .. } => Ok(right.expires),
            other => Err(BadInvite::Role(other.name())),
        }
    }

    /// The same invite with other addresses, for example the name under which a device is found.
    pub fn with_addresses(self, addresses: Vec<String>) -> Result<Self, BadInvite> {
        check_addresses(&addresses)?;
        Ok(Invite { addresses, ..self })
    }

    fn payload(&self) -> Vec<u8> {
        let (root, seed, chain) = (self.root, self.seed, self.chain.clone());
        codec::encode(&Payload { root, seed, chain })
    }

    fn checksum(payload: &[u8], addresses: &[String]) -> [u8; CHECKSUM] {
        let addresses = addresses.join(",");
        let digest = Digest::of_parts(&[b"shoal/invite/1", payload, addresses.as_bytes()]);
        let mut checksum = [0; CHECKSUM];
        checksum.copy_from_slice(&digest.0[..CHECKSUM]);
        checksum
    }
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = self.payload();
        let mut bytes = Invite::checksum(&payload, &self.addresses).to_vec();
        bytes.extend(payload);
        let text = BASE64_URL_SAFE_NO_PAD.encode(&bytes);
        write!(f, "{PREFIX}{text}@{}", self.addresses.join(","))
    }
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invite")
            .field("root", &self.root)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl FromStr for Invite {
    type Err = BadInvite;

    /// White space is ignored: terminals and mail programs break long lines.
    fn from_str(text: &str) -> Result<Self, BadInvite> {
        if text.len() > MAX_LINE {
            return Err(BadInvite::Length(text.len()));
        }
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let Some(rest) = text.strip_prefix(PREFIX) else {
            return Err(wrong_prefix(&text));
        };
        let Some((encoded, addresses)) = rest.split_once('@') else {
            let bad = rest.chars().find(|c| !is_base64(*c));
            return Err(bad.map_or(BadInvite::CutShort(text.len()), BadInvite::Character));
        };
        if let Some(bad) = encoded.chars().find(|c| !is_base64(*c)) {
            return Err(BadInvite::Character(bad));
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).map_err(|_| BadInvite::Checksum)?;
        let addresses: Vec<String> =
            addresses.split(',').filter(|a| !a.is_empty()).map(str::to_owned).collect();
        let (checksum, payload) = bytes.split_at_checked(CHECKSUM).ok_or(BadInvite::Checksum)?;
        if Invite::checksum(payload, &addresses) != checksum {
            return Err(BadInvite::Checksum);
        }
        let Payload { root, seed, chain } =
            codec::decode_prefix(payload).map_err(|_| BadInvite::Checksum)?;
        check_addresses(&addresses)?;
        let invite = Invite { root, seed, chain, addresses };
        invite.check()?;
        Ok(invite)
    }
}

fn is_base64(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}

fn wrong_prefix(text: &str) -> BadInvite {
    if text.starts_with(OLD_PREFIX) {
        return BadInvite::OlderForm;
    }
    let form = text.split(':').next().unwrap_or_default();
    match form.strip_prefix("shoal").map(str::parse::<u32>) {
        Some(Ok(number)) if number > 2 && text.contains(':') => {
            BadInvite::NewerForm(form.to_owned())
        }
        _ => BadInvite::Prefix,
    }
}

fn check_addresses(addresses: &[String]) -> Result<(), BadInvite> {
    if addresses.len() > MAX_ADDRESSES {
        return Err(BadInvite::TooManyAddresses(addresses.len()));
    }
    match addresses.iter().find(|address| !is_address(address)) {
        Some(address) => Err(BadInvite::Address(address.clone())),
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
