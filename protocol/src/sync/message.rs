//! Messages of a comparison. Enums are append-only; the receiver checks the bound of every list.

use serde::{Deserialize, Serialize};

use super::short_hash::{Prefix, ShortHash};

/// A set of entries that is compared as a whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Tree {
    /// Desired state, by key hash.
    Desired,
    /// Rulings, by key hash.
    Rulings,
    /// Slots of claim sheets, by the hash of node and slot.
    Sheets,
    /// Node records, by the hash of the node.
    Records,
}

impl Tree {
    /// All trees, in the order of [`Message::Roots`].
    pub const ALL: [Tree; 4] = [Tree::Desired, Tree::Rulings, Tree::Sheets, Tree::Records];

    /// The name in the API and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Tree::Desired => "desired",
            Tree::Rulings => "rulings",
            Tree::Sheets => "sheets",
            Tree::Records => "records",
        }
    }
}

/// A comparison between two nodes. The asker draws the salt once a link; which end asks follows
/// from the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Round {
    /// Salts every [`ShortHash`] of the round but the heads of keys.
    pub salt: u64,
    /// Grows by one each round of a link.
    pub number: u32,
}

/// The root of a tree, over entries at rest and over entries as they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Root {
    /// Over entries as they were when they last came to rest.
    pub settled: ShortHash,
    /// Over entries as they are.
    pub now: ShortHash,
}

/// A question about a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// The tree that is asked about.
    pub tree: Tree,
    /// The range of keys that is asked about.
    pub prefix: Prefix,
    /// The asker has next to nothing in the range: leaves are cheaper than a further split.
    pub whole: bool,
}

/// Bytes of a [`Leaf`] in a message.
pub(super) const LEAF_BYTES: usize = 17;

/// An entry in a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Leaf {
    /// The head of its key.
    pub head: ShortHash,
    /// Over its key and hash; `ShortHash::NONE` for an entry that was just forgotten.
    pub version: ShortHash,
    /// It has not come to rest: no difference yet.
    pub fresh: bool,
}

/// The entries of a node in a range.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Node {
    /// The short hash of each child range, in order; `ShortHash::NONE` for an empty one.
    Split(Vec<ShortHash>),
    /// All entries, by key.
    Leaves(Vec<Leaf>),
}

/// Messages between linked peers, all in the bulk lane.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Opens a round. Answered by `Agree`, `Later`, or `Nodes` of step 0 with the tops of the trees
    /// that differ.
    Roots {
        /// Number and salt of the round that it opens.
        round: Round,
        /// By tree; a later program may send more of them.
        roots: Vec<Root>,
    },
    /// Answer to `Roots`: all trees agree.
    Agree {
        /// The round that it ends.
        round: Round,
    },
    /// Answer to `Roots`: the answerer is fetching, or its own question stands.
    Later {
        /// The round that it ends.
        round: Round,
    },
    /// Asks for the entries in these ranges. Answered by `Nodes`.
    Ask {
        /// The round that it belongs to.
        round: Round,
        /// Grows by one each question of a round.
        step: u32,
        /// At most 64.
        asked: Vec<Asked>,
    },
    /// Answer to `Roots` or `Ask`: as many of the ranges as fit.
    Nodes {
        /// The round that it belongs to.
        round: Round,
        /// The step of the question.
        step: u32,
        /// Each range with the entries in it.
        nodes: Vec<(Asked, Node)>,
    },
    /// The asker has seen all that differs.
    Outcome {
        /// The round that it ends.
        round: Round,
        /// The asker found no difference but fresh entries.
        agreed: bool,
    },
    /// Entries that the receiver lacks or has in another version. It fetches those that it wants.
    Offer {
        /// Tells the salt of the versions.
        round: Round,
        /// The tree that is asked about.
        tree: Tree,
        /// At most 1,024.
        leaves: Vec<Leaf>,
    },
    /// Asks for entries by the heads of their keys. Answered by `Items`.
    Fetch {
        /// Grows by one each fetch of a node.
        request: u32,
        /// The tree that is asked about.
        tree: Tree,
        /// At most 256.
        heads: Vec<ShortHash>,
        /// Payloads of the first key that have come already.
        skip: u16,
    },
    /// Answer to `Fetch`: as many payloads as fit.
    Items {
        /// The request of the fetch.
        request: u32,
        /// Payloads, in the order of the heads.
        items: Vec<Vec<u8>>,
        /// Number of heads whose payloads have all come.
        answered: u16,
        /// Payloads of the next key that have come by now.
        skip: u16,
    },
}
