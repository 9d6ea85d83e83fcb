//! Bounds and pauses of own replicas.

use std::time::Duration;

/// Bounds and pauses of own replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Further tries on this node before a replica is given up to others. 3.
    pub max_restarts: u32,
    /// Fetches in a row that may fail before a replica is given up to others, while no revision of
    /// it serves. 4: some eight seconds. The reason may be this device, for example its full disk,
    /// and the place is not auctioned again while it holds it.
    pub max_fetches: u32,
    /// The pause before the first further try; it doubles. 1 s.
    pub restart_after: Duration,
    /// The longest pause between tries of a replacement, while the old revision serves. 5 min.
    pub restart_at_most: Duration,
    /// The time after which a ready replica's count of tries is reset. 60 s.
    pub forgiven_after: Duration,
    /// The time for which a late claim is not reported healthy, because the owner may have picked
    /// another node, whose claim would be on its way. 1 s.
    pub late_report_after: Duration,
    /// The time for which a claim shows why it failed before it is released. 2 s.
    pub give_up_after: Duration,
    /// The time that a version has to be ready after a start of the daemon before the one that is
    /// wished for takes its place. 2 min.
    pub returns_within: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_restarts: 3,
            max_fetches: 4,
            restart_after: Duration::from_secs(1),
            restart_at_most: Duration::from_secs(300),
            forgiven_after: Duration::from_secs(60),
            late_report_after: Duration::from_secs(1),
            give_up_after: Duration::from_secs(2),
            returns_within: Duration::from_secs(120),
        }
    }
}
