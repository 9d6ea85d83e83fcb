//! The load of a running replica.

use serde::{Deserialize, Serialize};

/// What a replica used since it was measured last, as its node saw it. Nothing proves it: a node
/// could get more replicas of what it runs, within the bounds that an operator signed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Load {
    /// Thousandths of a core, on average.
    pub cpu: u32,
    /// Bytes of memory at that moment.
    pub memory: u64,
    /// Thousandths of a request that was being answered, on average.
    pub in_flight: u32,
    /// Requests that came in.
    pub requests: u32,
}
