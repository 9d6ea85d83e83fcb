//! Invites: lines that let devices join, made with an operator's key.

use std::time::Duration;

use shoal_protocol::model::grant::{MAX_GRANT_NAME, MAX_LABELS, MAX_USES};
use shoal_protocol::model::{KeyPair, Namespaces, Role, WallClock};
use shoal_protocol::trust::{self, BadInvite, Invite, Rejection, Terms};

use super::Operator;
use crate::api::form::MeetingBody;
use crate::identity::{self, IdentityError};

/// The longest life of an invite: whoever finds an older one must not get in with it.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// A clock before this was never set: 2020-01-01.
const EARLIEST: u64 = 1_577_836_800_000;

/// The terms of an invite that is to be made.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// How many devices.
    pub uses: u32,
    /// For how long.
    pub ttl: Duration,
    /// Labels for the devices.
    pub labels: Vec<(String, String)>,
    /// Where the devices find the cluster, in place of the node's own addresses.
    pub addresses: Vec<String>,
}

impl Default for Wishes {
    /// For one device, within ten minutes.
    fn default() -> Self {
        let ttl = Duration::from_secs(600);
        Wishes { uses: 1, ttl, labels: Vec::new(), addresses: Vec::new() }
    }
}

/// Why no invite was made. Nothing changed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum InviteError {
    #[error("nothing can be signed: {0}")]
    Operator(String),
    #[error("an invite is for 1 to {MAX_USES} devices, not {0}")]
    Uses(u32),
    #[error("an invite holds for a second to 30 days, not {0:?}")]
    Ttl(Duration),
    #[error(
        "an invite gives at most {MAX_LABELS} labels, each with a key of 1 to \
        {MAX_GRANT_NAME} bytes and a value of at most as many"
    )]
    Labels,
    #[error("{0}")]
    NoAddress(String),
    #[error(
        "the clock of this node says {0}: an invite could not end. Set the clock, or make the \
        invite on another node"
    )]
    Clock(WallClock),
    #[error("the operator key is of cluster {operator}, this node is of cluster {node}")]
    OtherCluster { operator: String, node: String },
    #[error("{0}. It takes an administrator of all namespaces to invite devices")]
    Right(Rejection),
    #[error(transparent)]
    Line(#[from] BadInvite),
    #[error(transparent)]
    Random(#[from] IdentityError),
}

/// Makes an invite in the name of `operator`, to the node that `meeting` is of, by that node's
/// clock.
pub fn invite(
    operator: &Operator,
    meeting: MeetingBody,
    wishes: Wishes,
) -> Result<Invite, InviteError> {
    let Wishes { uses, ttl, labels, addresses } = wishes;
    if operator.cluster() != meeting.cluster {
        let (operator, node) = (operator.cluster().short(), meeting.cluster.short());
        return Err(InviteError::OtherCluster { operator, node });
    }
    if !(1..=MAX_USES).contains(&uses) {
        return Err(InviteError::Uses(uses));
    }
    if ttl < Duration::from_secs(1) || ttl > LONGEST {
        return Err(InviteError::Ttl(ttl));
    }
    let is_good = |(key, value): &(String, String)| {
        (1..=MAX_GRANT_NAME).contains(&key.len()) && value.len() <= MAX_GRANT_NAME
    };
    if labels.len() > MAX_LABELS || !labels.iter().all(is_good) {
        return Err(InviteError::Labels);
    }
    if meeting.now < EARLIEST {
        return Err(InviteError::Clock(WallClock(meeting.now)));
    }
    let addresses = match (addresses.is_empty(), meeting.trouble) {
        (false, _) => addresses,
        (true, None) => meeting.addresses,
        (true, Some(why)) => {
            return Err(InviteError::NoAddress(format!(
                "{why}. Ask a node that others can reach, or name an address that leads here with \
                    --address HOST:PORT"
            )));
        }
    };
    let seed = identity::random()?;
    let ends = meeting.now + u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    let terms = Terms {
        name: "invite".into(),
        role: Role::Inviter { uses, labels },
        namespaces: Namespaces::All,
        serial: trust::serial_at(WallClock(meeting.now)),
        expires: Some(WallClock(ends)),
    };
    let key = KeyPair::from_seed(&seed).public();
    let chain = operator.grant(key, terms).map_err(InviteError::Right)?;
    let root = operator.genesis().root;
    Ok(Invite { root, seed, chain, addresses: Vec::new() }.with_addresses(addresses)?)
}
