//! Time-outs and bounds, each with its reason.

use std::time::Duration;

/// The settings of membership, grouped by what they tune. The defaults suit networks of devices; a
/// test holds them to the promises of the documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Beats, probes, and how stalls count.
    pub probe: ProbeConfig,
    /// From the first suspicion to the verdict.
    pub suspicion: SuspicionConfig,
    /// How many links, and to how many members.
    pub links: LinkConfig,
    /// When a dial begins, and when it is repeated.
    pub dialing: DialConfig,
    /// Records, planned absences, and the repair of views.
    pub records: RecordConfig,
}

/// Beats, probes, and how stalls count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeConfig {
    /// Nodes that watch a node, 3 to 8; values outside count as the nearer end. Three make a
    /// majority that survives one mistaken observer; each more costs every node one more beat.
    pub observers: usize,
    /// How often a node beats to its observers. Below half of `SuspicionConfig::silent_after`, so
    /// that a second of silence is two lost beats. Three observers at 400 ms cost some 1 KiB/s,
    /// headers included.
    pub beat: Duration,
    /// Between probes of a silent node, and between questions while a node is suspected. Several
    /// must fit between suspicion and verdict, so that single losses do not matter.
    pub every: Duration,
    /// The least time before a probe counts as late; else the round trip and its usual deviation
    /// decide. Above the naps of schedulers and radios.
    pub late_floor: Duration,
    /// How often an idle link's round trip is measured. A link whose other end has not answered for
    /// half of this is closed.
    pub rtt_every: Duration,
    /// A stall of this node shorter than this is ordinary scheduling and does not count.
    pub lag_floor: Duration,
    /// The most that a stall, ours or one that the subject reports, adds to a time-out; below 65 s,
    /// the most that a beat can tell. It keeps a broken node from living for ever.
    pub lag_most: Duration,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        let ms = Duration::from_millis;
        ProbeConfig {
            observers: 3,
            beat: ms(400),
            every: ms(125),
            late_floor: ms(100),
            rtt_every: ms(15_000),
            lag_floor: ms(50),
            lag_most: ms(5000),
        }
    }
}

impl ProbeConfig {
    /// How many observers a node has: the setting, held between 3 and 8.
    pub(super) fn quorum_size(&self) -> usize {
        self.observers.clamp(3, 8)
    }
}

/// From the first suspicion to the verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuspicionConfig {
    /// An observer that has heard nothing for so long, neither itself nor through others, votes
    /// `Silent`. The path's round trip and recent stalls, ours or the subject's, are added. TCP
    /// hides one or two lost packets in a row within 1 s (200 + 400 ms); three need luck at every
    /// observer at once.
    pub silent_after: Duration,
    /// A node that was heard over a link within this time is up, whatever others vote. Zero: the
    /// votes decide.
    pub hears_within: Duration,
    /// The same with no other node to ask. Above `silent_after`, since no other node corrects this
    /// one then: in 3 s TCP needs five losses in a row.
    pub silent_after_alone: Duration,
    /// An observer that was asked and does not answer for so long, its round trip added, counts as
    /// one that cannot be asked.
    pub answer_after: Duration,
    /// Once a majority stands: how long to wait for the other observers, who may know a live path.
    /// It delays every verdict that not all observers voted for.
    pub votes_wait: Duration,
    /// How long a vote counts after it came. Above twice `ProbeConfig::beat`, the longest pause
    /// between two questions, so that an observer that still means it has voted anew.
    pub vote_ttl: Duration,
    /// How long a node that lost its link but is no observer leaves the asking to the observers.
    pub bystander_wait: Duration,
}

impl Default for SuspicionConfig {
    fn default() -> Self {
        let ms = Duration::from_millis;
        SuspicionConfig {
            silent_after: ms(1000),
            hears_within: ms(1000),
            silent_after_alone: ms(3000),
            answer_after: ms(600),
            votes_wait: ms(100),
            vote_ttl: ms(2000),
            bystander_wait: ms(200),
        }
    }
}

/// How many links, and to how many members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Members of the roster, this node included, up to which every node keeps a link to every
    /// other. At most 32: the bounds on inquiries and answers allow for no larger mesh.
    pub full_mesh: usize,
    /// Links of one node beyond its observers and those it observes, above a full mesh. Gossip and
    /// repair need a few shortcuts across the circle.
    pub random: usize,
    /// Links of one node in all. Above it, links that this node does not need are closed once they
    /// are idle, above twice as many at once. A link costs some 70 KB.
    pub max: usize,
}

impl Default for LinkConfig {
    fn default() -> Self {
        LinkConfig { full_mesh: 32, random: 4, max: 48 }
    }
}

/// When a dial begins, and when it is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DialConfig {
    /// How long the node of the greater id leaves a dial to the other one, at least; six round
    /// trips, the time of a handshake, where that is longer, and at most 5 s. Two dials that cross
    /// make two connections.
    pub crossing_delay: Duration,
    /// The same while the round trip is not known.
    pub crossing_delay_unknown: Duration,
    /// A dial whose outcome was not reported counts as timed out then. Above the driver's own
    /// time-out.
    pub lost_after: Duration,
    /// First pause between dials of one node; it doubles up to `redial_most`.
    pub redial_first: Duration,
    /// Longest pause between dials. Nodes that are down are dialled for ever, so this bounds how
    /// long a healed split stays unseen.
    pub redial_most: Duration,
    /// Dials under way at once, at least 1. Sockets and handshakes are dear on small devices.
    pub max: usize,
}

impl Default for DialConfig {
    fn default() -> Self {
        let ms = Duration::from_millis;
        DialConfig {
            crossing_delay: ms(20),
            crossing_delay_unknown: ms(250),
            lost_after: ms(20_000),
            redial_first: ms(250),
            redial_most: ms(10_000),
            max: 16,
        }
    }
}

/// Records, planned absences, and the repair of views.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordConfig {
    /// How long a member may stay unknown after the start or its admission before it can be held to
    /// be down. Devices of one mains switch boot seconds apart.
    pub unknown_grace: Duration,
    /// The longest planned absence that is honoured; a longer one is cut to this. Below 49 days,
    /// the most that a goodbye can tell.
    pub absence_most: Duration,
    /// How long a neighbour's view of who is down may differ before views are exchanged: gossip
    /// needs a moment. An eighth of it when no gossip can be on its way: with a member that
    /// returns, and when one returns that was down for this node alone.
    pub repair_after: Duration,
    /// The longest pause between exchanges of views that did not help; they start at `repair_after`
    /// and double.
    pub repair_most: Duration,
    /// Between two re-issues of the own record in answer to others. Each incarnation costs a disk
    /// write.
    pub reissue_every: Duration,
}

impl Default for RecordConfig {
    fn default() -> Self {
        let ms = Duration::from_millis;
        RecordConfig {
            unknown_grace: ms(10_000),
            absence_most: ms(30_000),
            repair_after: ms(2000),
            repair_most: ms(60_000),
            reissue_every: ms(1000),
        }
    }
}

impl RecordConfig {
    /// The first pause before views are exchanged when no gossip is on its way.
    pub(super) fn repair_soon(&self) -> Duration {
        self.repair_after / 8
    }
}
