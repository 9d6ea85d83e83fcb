//! Pieces of large artifacts: fetched from several nodes at once, and given to others while the
//! rest is still on its way, so that an image that many nodes need leaves its source about once.
//!
//! ```text
//!   spec ── list of the pieces' digests ──▶ Fetch ── a session for each peer ──▶ other nodes
//!                                             │ which piece next, from whom: Wanted
//!                                             ▼
//!                                   Arrived, in the artifact store: verified pieces
//!                                             ▲
//!   other nodes ── sessions ──▶ Server ───────┘ or the whole artifact
//! ```
//!
//! **A node that has all of it gives each piece to one node first**, and sends others to that
//! node; a node that gets a piece from nowhere else for a while insists.
//!
//! **Nothing is believed**: the list is named by the signed spec, and each piece is compared with
//! it before it is kept or passed on. A peer that gives other bytes is not asked again.

mod fetch;
pub(super) mod fuzzing;
mod serve;
mod session;
#[cfg(test)]
mod tests;
mod wanted;
mod wire;

pub(super) use fetch::{Outcome, fetch};
pub(super) use serve::Server;
