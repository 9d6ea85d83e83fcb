//! The settings of the room `claims`.

use std::time::Duration;

/// Pauses and bounds of disputes, and of what is remembered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The time after which a loser asks a silent keeper again; it doubles up to
    /// [`Config::ask_at_most_every`]. At least a round trip. Sane: 250 ms.
    pub ask_again_after: Duration,
    /// The longest time between two questions about one replica. Duplicates are rare and cost only
    /// resources. Sane: 5 s.
    pub ask_at_most_every: Duration,
    /// Questions that are sent at once; further ones wait, so that a healed partition with
    /// thousands of duplicates does not flood one link. Sane: 128.
    pub max_asks_at_once: usize,
    /// Remembered tokens of replicas that no node claims. Each takes some 150 bytes. Beyond it the
    /// one that was idle longest is forgotten: the next token of its replica may be too low, until
    /// a bidder refuses it. Sane: 50,000.
    pub max_idle_tokens: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            ask_again_after: Duration::from_millis(250),
            ask_at_most_every: Duration::from_secs(5),
            max_asks_at_once: 128,
            max_idle_tokens: 50_000,
        }
    }
}
