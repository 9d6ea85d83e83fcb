//! The whole boundary of the core: [`Input`] in, [`Effect`] out, and what both carry.
//!
//! The *driver* is the program around the core: the daemon, or a simulator. It calls
//! [`Node::handle`](super::Node::handle) with each input, in the order in which they happened, and
//! takes all effects after each call. **An effect whose `after` names a batch waits until that
//! batch is on disk**; all others are carried out at once.
//!
//! Multiaddrs are text as in `/ip4/10.0.0.1/tcp/7700`. Durations are measured by the device's
//! monotonic clock.

mod command;
mod disk;
mod effect;
mod input;
mod routes;

pub use crate::membership::Answerer;
pub use crate::model::PersistId;
pub use command::{Command, Draft, MAX_UNHEARD, Refusal, Reply, Version};
pub use disk::{OldVersion, Record, Saved};
pub use effect::{Action, Effect, Order, Verdict};
pub use input::{
    DialFailure, DialTarget, FetchOutcome, Input, OwnAddresses, Report, RequestId, Ticket,
};
pub use routes::{Reachability, Route, Routes};
