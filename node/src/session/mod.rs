//! Sessions with a running replica: a command in it, its output, its files, a port of it.
//!
//! ```text
//! shoal exec ── unix socket ──▶ any node ── tunnel ──▶ the replica's node ── runtime ──▶ replica
//!    Open (signed) ──────────────────────────────────▶ checks it
//!    ◀───────────────────────────────── Challenge (a number drawn for this conversation)
//! ```
//!
//! With a volume it is the same, at the node that keeps it.
//!
//! A session is an HTTP request that becomes a stream of [`Frame`]s. **Only the replica's own node
//! judges it**, and only an operator may open one: the signature covers the replica, the node, the
//! request and a number which that node has just drawn. Nodes in between copy bytes.

mod frame;
pub(crate) mod fuzzing;
mod open;
mod serve;
#[cfg(test)]
mod tests;
mod volume;

pub use frame::{Failed, Frame, Frames, Receiver, Sender};
pub use open::{OpenError, open};
pub(crate) use serve::connect;
pub use serve::{Host, serve};
pub use volume::{AskedVolume, serve_volume};

/// The protocol's name in the `Upgrade` header. A change of the format changes the name.
pub const PROTOCOL: &str = "shoal-session/1";
