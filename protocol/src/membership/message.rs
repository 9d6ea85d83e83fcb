//! Messages between memberships, and the bounds outside which they are refused.

use serde::{Deserialize, Serialize};

use crate::model::record::{MAX_ADDRESSES, MAX_NO_WAY};
use crate::model::spec::{MAX_ALLOWANCE, MAX_ALLOWED, MAX_LABELS, is_label_text};
use crate::model::volume::MAX_VOLUMES;
use crate::model::{NodeId, NodeRecord, Signable, Unverified};

/// Votes in one notice: twice the most observers a node can have.
pub(super) const MAX_VOTES: usize = 16;
/// Nodes in one part of a view: some 20 KB.
pub(super) const MAX_VIEW: usize = 512;
/// Nodes of which a peer may ask for the notices at once.
pub(super) const MAX_WANTED: usize = 32;
/// Bytes of an address: a DNS name with some multiaddr around it.
pub(super) const MAX_ADDRESS: usize = 300;
/// Bytes of the other texts in a record.
const MAX_TEXT: usize = 128;
/// Counters and incarnations stay far from where adding one overflows.
pub(super) const MAX_COUNTER: u64 = 1 << 62;

/// A message between memberships. The node does not look into it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// The first message over a link: the sender's record, and whether it knows the state of all
    /// members.
    Hello {
        /// The sender's record; none before the daemon has set it.
        record: Option<Unverified<NodeRecord>>,
        /// Whether no member is unknown to the sender.
        settled: bool,
    },
    /// To the sender's observers, at regular times.
    Beat {
        /// How long the sender stalled lately, in milliseconds: the receiver waits longer for it.
        lag_ms: u16,
        /// Fingerprint of the members that the sender holds to be down.
        view: u32,
    },
    /// Asks the receiver for an answer, as a sign of life.
    Probe {
        /// Grows with each probe of the sender.
        seq: u64,
        /// A request that comes with the probe.
        intent: ProbeIntent,
    },
    /// The answer to a probe.
    Answer {
        /// The number of the probe.
        seq: u64,
        /// As in a beat.
        lag_ms: u16,
    },
    /// Asks whether the receiver can reach the subject now; the sender cannot.
    Ask {
        /// The subject's id.
        subject: NodeId,
        /// Its incarnation.
        incarnation: u64,
        /// Repeated in the answer, which tells the asker how old the answer is.
        round: u32,
        /// The asker's own vote.
        vote: Option<Unverified<Vote>>,
    },
    /// The subject answered a probe that was sent after the question came.
    Alive {
        /// The subject's id.
        subject: NodeId,
        /// Its incarnation.
        incarnation: u64,
        /// The round of the question.
        round: u32,
    },
    /// The sender cannot reach the subject, and signed what it saw.
    Vote(Unverified<Vote>),
    /// The observers agree that a node is down. In repair its record is sent along: without it, a
    /// notice about an unknown incarnation could not be judged, and a record sent by itself would
    /// be taken for a return.
    Down(Notice, Option<Unverified<NodeRecord>>),
    /// The signer stops on purpose.
    Goodbye(Unverified<Goodbye>),
    /// A node's record. A node that passes it on holds its author to be up.
    Record(Unverified<NodeRecord>),
    /// The members of a range that are not up for the sender; all others in the range are up. Only
    /// settled nodes send this.
    View {
        /// The range begins behind this id; none is the start.
        after: Option<NodeId>,
        /// The range ends with this id; none is the end.
        upto: Option<NodeId>,
        /// By id, at most `MAX_VIEW`.
        gone: Vec<Gone>,
    },
    /// Asks for the notices about these nodes, at most `MAX_WANTED`.
    Want(Vec<NodeId>),
}

/// A request that comes with a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ProbeIntent {
    /// No request.
    None,
    /// The sender watches the receiver and hears no beats: asks for beats, even if the receiver
    /// does not count it as an observer.
    Beats,
    /// The sender does not need this link: asks the receiver to close it if it does not need it
    /// either.
    ReleaseLink,
}

/// A member that is not up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gone {
    /// The member's id.
    pub node: NodeId,
    /// Its highest incarnation known to the sender.
    pub incarnation: u64,
    /// Whether it is down; else its state is unknown.
    pub down: bool,
}

/// How a node looks to an observer. The greater weighs more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Seen {
    /// Its link closed and no dial has ended yet. Counts only beside another observer's `Refused`.
    Closed,
    /// Nothing was heard from it over any path for the time after which silence counts.
    Silent,
    /// Its link closed and every address refused: nothing listens, so the process is gone.
    Refused,
}

/// A vote on a node; its signer is the observer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Vote {
    /// The subject's id.
    pub subject: NodeId,
    /// Its incarnation.
    pub incarnation: u64,
    /// How the subject looks to the observer.
    pub seen: Seen,
}

impl Signable for Vote {
    const DOMAIN: &'static str = "shoal/vote/1";
}

/// A node's statement that it stops on purpose. One counts per incarnation, so an old one cannot be
/// replayed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Goodbye {
    /// The incarnation that ends.
    pub incarnation: u64,
    /// The planned absence in milliseconds; 0: it will not be back soon, place its work elsewhere
    /// at once.
    pub back_in_ms: u32,
}

impl Signable for Goodbye {
    const DOMAIN: &'static str = "shoal/goodbye/1";
}

/// The votes by which a node is held to be down.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// The subject's id.
    pub subject: NodeId,
    /// Its incarnation.
    pub incarnation: u64,
    /// 1 to `MAX_VOTES` votes.
    pub votes: Vec<Unverified<Vote>>,
}

/// Whether a record is within the bounds that protect the nodes that keep it. A signature does not
/// check that.
pub(super) fn is_within_bounds(record: &NodeRecord) -> bool {
    let short = |text: &String| text.len() <= MAX_TEXT && is_printable(text);
    record.counter < MAX_COUNTER
        && record.incarnation < MAX_COUNTER
        && short(&record.name)
        && short(&record.version)
        && short(&record.facts.arch)
        && are_within_bounds(&record.addresses)
        && record.no_way_to.len() <= MAX_NO_WAY
        && record.no_way_to.is_sorted_by(|one, next| one < next)
        && record.facts.labels.len() <= MAX_LABELS
        && record
            .facts
            .labels
            .iter()
            .flat_map(|(name, value)| [name, value])
            .all(|text| is_label_text(text))
        && record.facts.volumes.len() <= MAX_VOLUMES
        && record.facts.volumes.iter().all(|it| short(&it.place))
        && record.facts.allowed.0.len() <= MAX_ALLOWED
        && record.facts.allowed.0.iter().all(|it| it.to_string().len() <= MAX_ALLOWANCE)
}

/// Whether these addresses are few and short enough to keep.
pub(super) fn are_within_bounds(addresses: &[String]) -> bool {
    let is_good = |address: &String| address.len() <= MAX_ADDRESS && is_printable(address);
    addresses.len() <= MAX_ADDRESSES && addresses.iter().all(is_good)
}

/// Whether a text may be written to a person's terminal: a control character could write there what
/// no program said.
pub(super) fn is_printable(text: &str) -> bool {
    !text.chars().any(char::is_control)
}
