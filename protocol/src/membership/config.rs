//! Time-outs and bounds, each with its reason.

use std::time::Duration;

/// What can be tuned. The defaults suit networks of devices; a test holds them to the promises of
/// the documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many nodes watch a node, 3 to 8. Three make a majority that survives one mistaken
    /// observer; each more costs every node one more beat.
    pub observers: usize,
    /// How often a node shows its observers that it lives. With three observers of 400 ms each this
    /// is some 1 KiB/s, headers included, and a second of silence is two lost beats.
    pub beat: Duration,
    /// The pace of probes and questions while a node is in doubt: several fit between doubt and
    /// verdict, so that single losses do not matter.
    pub probe_every: Duration,
    /// A probe is late after the round trip and its usual swing, and never before this: schedulers
    /// and radios take naps.
    pub probe_floor: Duration,
    /// An observer that has heard nothing for so long, neither itself nor through others, votes
    /// `silent`. On top come the path's round trip and whatever stalls the subject or we ourselves
    /// had lately. TCP hides one or two lost packets in a row within this (200 + 400 ms), three
    /// need luck at every observer at once.
    pub cut: Duration,
    /// The same with nobody else to ask. Longer, since nobody corrects us then: TCP needs five
    /// losses in a row.
    pub cut_alone: Duration,
    /// An observer that was asked and says nothing for so long (round trip on top) counts as one
    /// that cannot be asked.
    pub answer: Duration,
    /// Once a majority stands: how long to wait for the rest, who may know a live path.
    pub patience: Duration,
    /// A vote counts for so long after it came; whoever still means it is asked again far more
    /// often.
    pub vote_ttl: Duration,
    /// A node with a lost link that watches not leaves the asking to the observers for so long.
    pub bystander: Duration,
    /// The node of the greater id leaves the dial to the other for so long, or for a handshake's
    /// six round trips: two dials that cross make two connections.
    pub courtesy: Duration,
    /// The same before the round trip is known.
    pub courtesy_unknown: Duration,
    /// A dial whose outcome nobody told counts as timed out then; above the driver's own time-out.
    pub dial_lost: Duration,
    /// First pause between dials; it doubles up to `redial_most`.
    pub redial_first: Duration,
    /// Longest pause between dials. The dead are dialled for ever, so this bounds how long a healed
    /// split stays unseen.
    pub redial_most: Duration,
    /// Dials under way at once: sockets and handshakes are dear on small devices.
    pub max_dials: usize,
    /// How long a member may stay unknown after the start or its admission before it is held to be
    /// down. Devices of one mains switch boot seconds apart.
    pub unknown_grace: Duration,
    /// The longest planned absence that is honoured.
    pub back_by_most: Duration,
    /// Up to this many members everyone keeps a link to everyone.
    pub full_mesh: usize,
    /// Links beyond observers and observed in larger clusters: gossip and repair need shortcuts.
    pub random_links: usize,
    /// Links in all; above it those that nobody here wants are closed as soon as they are idle,
    /// above twice as many at once. One costs some 70 KB.
    pub max_links: usize,
    /// How often an idle link's round trip is measured.
    pub rtt_every: Duration,
    /// How long a neighbour's view of who is down may differ before views are exchanged: gossip
    /// needs a moment. An eighth of it with one that returns, or when one returns of whom no gossip
    /// tells.
    pub repair_after: Duration,
    /// The longest pause between exchanges that did not help; they start at `repair_after` and
    /// double.
    pub repair_most: Duration,
    /// A stall of ours shorter than this is ordinary scheduling.
    pub lag_floor: Duration,
    /// The most that stalls, ours or the subject's own word of them, add to a time-out: a broken
    /// node must not be unkillable.
    pub lag_most: Duration,
    /// Re-issues of the own record in answer to others, one per so long: each incarnation costs a
    /// disk write.
    pub reissue_every: Duration,
}

impl Default for Config {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Config {
            observers: 3,
            beat: ms(400),
            probe_every: ms(125),
            probe_floor: ms(100),
            cut: ms(1000),
            cut_alone: ms(3000),
            answer: ms(600),
            patience: ms(100),
            vote_ttl: ms(2000),
            bystander: ms(200),
            courtesy: ms(20),
            courtesy_unknown: ms(250),
            dial_lost: ms(20_000),
            redial_first: ms(250),
            redial_most: ms(10_000),
            max_dials: 16,
            unknown_grace: ms(10_000),
            back_by_most: ms(30_000),
            full_mesh: 32,
            random_links: 4,
            max_links: 48,
            rtt_every: ms(15_000),
            repair_after: ms(2000),
            repair_most: ms(60_000),
            lag_floor: ms(50),
            lag_most: ms(5000),
            reissue_every: ms(1000),
        }
    }
}

impl Config {
    /// How many observers a node has: the setting, held between 3 and 8.
    pub(super) fn quorum_size(&self) -> usize {
        self.observers.clamp(3, 8)
    }

    /// The first pause before views are exchanged when no gossip is on its way.
    pub(super) fn repair_soon(&self) -> Duration {
        self.repair_after / 8
    }
}
