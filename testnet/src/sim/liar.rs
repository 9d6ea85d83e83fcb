//! The lies of a device, and what it needs for them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use shoal_protocol::model::{Chain, Claim, KeyPair, ReplicaId};
use shoal_protocol::node::Message;

/// Messages that a liar keeps to say them again.
const MAX_HEARD: usize = 300;

/// A kind of lies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Lie {
    /// It awards to itself what others run well, and claims to keep it.
    Award,
    /// It claims what it does not run, beyond its capacity.
    Claims,
    /// It votes that nodes are down that are up.
    Votes,
    /// It makes rulings without end.
    Rulings,
    /// It admits devices without an invite, or with one that is used up.
    Ghosts,
    /// It says again what others said, some of it with a byte changed.
    Replay,
    /// It tells of artifacts that do not exist.
    Have,
    /// Its record has texts, addresses and numbers that no device has.
    Texts,
    /// It bids on everything at price zero, and runs nothing of it.
    Dumb,
}

impl Lie {
    /// All kinds with their words in a scenario.
    pub const WORDS: [(&str, Lie); 9] = [
        ("award", Lie::Award),
        ("claims", Lie::Claims),
        ("votes", Lie::Votes),
        ("rulings", Lie::Rulings),
        ("ghosts", Lie::Ghosts),
        ("replay", Lie::Replay),
        ("have", Lie::Have),
        ("texts", Lie::Texts),
        ("dumb", Lie::Dumb),
    ];
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Lie::WORDS.iter().find(|(_, lie)| lie == self);
        f.write_str(word.map_or("", |(word, _)| word))
    }
}

/// An invite for one device that the liar used itself.
#[derive(Clone)]
pub struct Spent {
    pub keys: KeyPair,
    pub chain: Chain,
    /// A serial after that of its use.
    pub serial: u64,
}

/// What a lying device keeps.
#[derive(Default)]
pub struct Liar {
    /// Its kinds of lies, in the order in which they began.
    pub lies: Vec<Lie>,
    /// The claims that it forged and stands by.
    pub claims: BTreeMap<ReplicaId, Claim>,
    /// The claims whose awards it forged in the name of others.
    pub stolen: BTreeMap<ReplicaId, Claim>,
    /// Forged slots so far.
    pub slots: u64,
    /// Forged records so far.
    pub records: u64,
    /// Messages that it heard lately, the oldest first.
    pub heard: VecDeque<Message>,
    /// The keys of devices that it says are members.
    pub ghosts: Vec<KeyPair>,
    pub spent: Option<Spent>,
}

impl Liar {
    pub fn tells(&self, lie: Lie) -> bool {
        self.lies.contains(&lie)
    }

    /// Whether it keeps from all others what its daemon claims, because that would take back what
    /// it forged.
    pub fn hides(&self) -> bool {
        self.lies.iter().any(|lie| matches!(lie, Lie::Award | Lie::Claims | Lie::Dumb))
    }

    /// The claim of a replica that it forged.
    pub fn claim(&self, replica: &ReplicaId) -> Option<&Claim> {
        self.claims.get(replica).or_else(|| self.stolen.get(replica))
    }

    /// Keeps a message to say it again.
    pub fn keep(&mut self, message: &Message) {
        if self.tells(Lie::Replay) {
            if self.heard.len() >= MAX_HEARD {
                self.heard.pop_front();
            }
            self.heard.push_back(message.clone());
        }
    }
}
