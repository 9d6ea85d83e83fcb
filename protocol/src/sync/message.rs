//! What two nodes say while they compare. Enums are append-only; every list has a bound, checked by
//! who receives it.

use serde::{Deserialize, Serialize};

use super::short_hash::{Prefix, ShortHash};

/// What is compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Tree {
    /// Desired state, by the key's hash.
    Desired,
    /// Rulings, by the key's hash.
    Rulings,
    /// Slots of claim sheets, by the hash of node and slot.
    Sheets,
    /// Node records, by the hash of the node.
    Records,
}

impl Tree {
    /// All there are, in the order of [`Message::Roots`].
    pub const ALL: [Tree; 4] = [Tree::Desired, Tree::Rulings, Tree::Sheets, Tree::Records];

    /// As people and programs are shown it.
    pub fn as_str(self) -> &'static str {
        match self {
            Tree::Desired => "desired",
            Tree::Rulings => "rulings",
            Tree::Sheets => "sheets",
            Tree::Records => "records",
        }
    }
}

/// One comparison between two nodes: whose it is follows from who speaks, the salt is drawn once a
/// link by that one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Round {
    /// For every [`ShortHash`] in it.
    pub salt: u64,
    /// Grows by one each round of a link.
    pub number: u32,
}

/// A tree's root, over what is old and over what is there now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Root {
    /// Over entries as they were when they last came to rest.
    pub settled: ShortHash,
    /// Over entries as they are.
    pub now: ShortHash,
}

/// A question about one range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// Of which tree.
    pub tree: Tree,
    /// Which range.
    pub prefix: Prefix,
    /// The asker has next to nothing there: leaves are cheaper than a further split.
    pub whole: bool,
}

/// Bytes of a [`Leaf`] in a message.
pub(super) const LEAF_BYTES: usize = 17;

/// One entry in a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Leaf {
    /// The head of its key.
    pub head: ShortHash,
    /// Of its key and hash; `ShortHash::NONE` for one that was just forgotten.
    pub version: ShortHash,
    /// It changed a moment ago: no difference yet.
    pub fresh: bool,
}

/// What a node has in one range.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Node {
    /// The print of each child range, in order; `ShortHash::NONE` where there is nothing.
    Split(Vec<ShortHash>),
    /// All entries, by key.
    Leaves(Vec<Leaf>),
}

/// Between linked peers, all by the bulk lane.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Do we agree? Answered by `Agree`, `Later` or `Nodes` of step 0 with the tops of the trees
    /// that differ.
    Roots {
        /// The round it opens.
        round: Round,
        /// By tree; a later program may have more of them.
        roots: Vec<Root>,
    },
    /// Yes.
    Agree {
        /// The round it ends.
        round: Round,
    },
    /// Not now: I am taking in what I lack.
    Later {
        /// The round it ends.
        round: Round,
    },
    /// What do you have there? Answered by `Nodes`.
    Ask {
        /// The round.
        round: Round,
        /// Grows by one each question of a round.
        step: u32,
        /// At most 64.
        asked: Vec<Asked>,
    },
    /// What I have; of as many of the ranges as fit.
    Nodes {
        /// The round.
        round: Round,
        /// The question's.
        step: u32,
        /// What was asked, and the answer.
        nodes: Vec<(Asked, Node)>,
    },
    /// The asker has seen all it wanted to.
    Outcome {
        /// The round it ends.
        round: Round,
        /// It found no difference but what is fresh.
        agreed: bool,
    },
    /// Entries that you lack or have otherwise. Fetch what you want.
    Offer {
        /// For the salt.
        round: Round,
        /// Of which tree.
        tree: Tree,
        /// At most 1,024.
        leaves: Vec<Leaf>,
    },
    /// Give me these. Answered by `Items`.
    Fetch {
        /// Grows by one each fetch of a node.
        request: u32,
        /// Of which tree.
        tree: Tree,
        /// At most 256.
        heads: Vec<ShortHash>,
        /// Payloads of the first key that came already.
        skip: u16,
    },
    /// As much of it as fits.
    Items {
        /// The fetch's.
        request: u32,
        /// Payloads, in the order of the heads.
        items: Vec<Vec<u8>>,
        /// How many of the heads are done with.
        answered: u16,
        /// Payloads of the next key that have come by now.
        skip: u16,
    },
}
