//! What of `claims` can be tuned.

use std::time::Duration;

/// How disputes are paced, and what is remembered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// How long a loser waits for the keeper's answer before it asks again; doubles up to
    /// [`Config::ask_at_most_every`]. At least a round trip. Sane: 250 ms.
    pub ask_again_after: Duration,
    /// The longest time between two questions about one replica. Duplicates are rare and cost only
    /// resources. Sane: 5 s.
    pub ask_at_most_every: Duration,
    /// Questions sent at once; the rest waits for its turn, so that a healed partition with
    /// thousands of duplicates does not flood one link. Sane: 128.
    pub max_asks_at_once: usize,
    /// Tokens remembered of replicas that nobody claims. Each takes some 150 bytes; beyond it the
    /// one that was idle longest is forgotten, and its next token may start low again, which the
    /// auction heals. Sane: 50,000.
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
