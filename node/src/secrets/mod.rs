//! Secrets: sealed by their author, opened on the nodes that run what uses them.
//!
//! ```text
//!   author                                   node
//!     draws a key, encrypts the value ─────▶  desired state, on every disk: sealed only
//!     seals the key to each member's          opens the key with its own, for a start
//!     sealing key                             (a node that was left out asks one that has it)
//! ```
//!
//! **A plain value is in memory only**: of the author's command, of the daemon while it starts a
//! replica, and in what the runtime gives the replica.

mod resolve;
pub(crate) mod seal;

pub(crate) use resolve::{KeyBody, KeyQuery};
pub use resolve::{NoValues, Resolver, Values};
