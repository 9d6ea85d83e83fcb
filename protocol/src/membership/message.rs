//! What memberships tell one another, and the limits within which it is believed to be well-formed.

use serde::{Deserialize, Serialize};

use crate::model::record::{MAX_ADDRESSES, MAX_NO_WAY};
use crate::model::spec::{MAX_LABELS, is_label_text};
use crate::model::{NodeId, NodeRecord, Signable, Unverified};

/// Votes in one notice: twice the most observers a node can have.
pub(super) const MAX_VOTES: usize = 16;
/// Nodes in one part of a view: some 20 KB.
pub(super) const MAX_VIEW: usize = 512;
/// Nodes of whose fall a peer may ask to be shown the proof at once.
pub(super) const MAX_WANTED: usize = 32;
/// Bytes of an address, as in DNS names with some multiaddr around them.
pub(super) const MAX_ADDRESS: usize = 300;
/// Bytes of the other texts in a record.
const MAX_TEXT: usize = 128;
/// Counters and incarnations stay far from where adding one overflows.
pub(super) const MAX_COUNTER: u64 = 1 << 62;

/// What travels between memberships. To the node it is opaque.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// First thing over a link: who I am, and whether I know how everyone is.
    Hello {
        /// My record; none before the daemon has set it.
        record: Option<Unverified<NodeRecord>>,
        /// No member is unknown to me.
        settled: bool,
    },
    /// To one's observers: I live.
    Beat {
        /// How long I stalled lately, in milliseconds; be patient with me.
        lag_ms: u16,
        /// A fingerprint of who is down for me.
        view: u32,
    },
    /// Do you live?
    Probe {
        /// Grows with each probe of mine.
        seq: u64,
        /// What else I would like.
        intent: ProbeIntent,
    },
    /// To a probe.
    Answer {
        /// The probe's.
        seq: u64,
        /// As in a beat.
        lag_ms: u16,
    },
    /// I cannot reach this node; can you, now?
    Ask {
        /// The node.
        subject: NodeId,
        /// Which of its lives.
        incarnation: u64,
        /// To be repeated in the answer, so that I know how fresh it is.
        round: u32,
        /// What I saw myself.
        vote: Option<Unverified<Vote>>,
    },
    /// It answered a probe that I sent after your question came.
    Alive {
        /// The node.
        subject: NodeId,
        /// Which of its lives.
        incarnation: u64,
        /// The question's.
        round: u32,
    },
    /// I cannot reach it either; the sender signed it.
    Vote(Unverified<Vote>),
    /// Its observers agree that it is down. In repair its record comes along: without it, a notice
    /// about a life not heard of could not be judged, and apart from it, the record would be taken
    /// for a return.
    Down(Notice, Option<Unverified<NodeRecord>>),
    /// I stop on purpose.
    Goodbye(Unverified<Goodbye>),
    /// What a node says of itself. Whoever passes it on holds that node to be up.
    Record(Unverified<NodeRecord>),
    /// Who of a range of members is not up for me. Who is in the range and not named is up. Only
    /// settled nodes say this.
    View {
        /// The range begins behind this id; none is the least.
        after: Option<NodeId>,
        /// It ends with this one; none is the greatest.
        upto: Option<NodeId>,
        /// By id, at most `MAX_VIEW`.
        gone: Vec<Gone>,
    },
    /// Show me the notices of these.
    Want(Vec<NodeId>),
}

/// What comes with a probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ProbeIntent {
    /// Nothing.
    None,
    /// I watch you and hear no beats: beat for me, even if you would not count me as an observer.
    Beats,
    /// I do not need this link. If you do not either, close it.
    ReleaseLink,
}

/// A member that is not up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gone {
    /// The member.
    pub node: NodeId,
    /// In which of its lives.
    pub incarnation: u64,
    /// Down; else its state is unknown.
    pub down: bool,
}

/// How a node looks to one observer. The greater weighs more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Seen {
    /// Its link closed; dialling has not ended yet. Counts only beside somebody's `Refused`.
    Closed,
    /// Nothing was heard from it for the time of a cut, over no path.
    Silent,
    /// Its link closed and every address of it refused: nobody listens, so the process is gone.
    Refused,
}

/// An observer's word on a node; the signer is the observer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Vote {
    /// The node.
    pub subject: NodeId,
    /// Which of its lives.
    pub incarnation: u64,
    /// What was seen.
    pub seen: Seen,
}

impl Signable for Vote {
    const DOMAIN: &'static str = "shoal/vote/1";
}

/// A node's word that it stops on purpose. One per incarnation counts, so an old one cannot be
/// played again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Goodbye {
    /// Which of its lives ends.
    pub incarnation: u64,
    /// When it hopes to be back; 0: not soon, place its work elsewhere at once.
    pub back_in_ms: u32,
}

impl Signable for Goodbye {
    const DOMAIN: &'static str = "shoal/goodbye/1";
}

/// The votes by which a node is held to be down.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Notice {
    /// The node.
    pub subject: NodeId,
    /// Which of its lives.
    pub incarnation: u64,
    /// 1 to `MAX_VOTES`.
    pub votes: Vec<Unverified<Vote>>,
}

/// Whether a record is within the bounds that protect those who keep it. The signature says nothing
/// about that.
pub(super) fn is_within_bounds(record: &NodeRecord) -> bool {
    let short = |text: &String| text.len() <= MAX_TEXT;
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
}

/// Whether these addresses are few and short enough to keep.
pub(super) fn are_within_bounds(addresses: &[String]) -> bool {
    addresses.len() <= MAX_ADDRESSES && addresses.iter().all(|address| address.len() <= MAX_ADDRESS)
}
