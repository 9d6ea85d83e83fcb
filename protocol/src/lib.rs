//! The core of one node.
//!
//! **This crate never touches the world.** It uses no sockets, files, threads or clocks, and no
//! order that its seed does not fix: bytes and instants come in, effects come out. The same seed
//! and the same inputs give the same effects, byte for byte, on every device. So a simulator can
//! run thousands of nodes and replay any history.
//!
//! ```text
//!             ┌────────────────────────────── node ──────────────────────────────┐
//!   Input ──► │ membership  ring  desired  claims  plan  auction  sync  rulings  │ ──► Effect
//!             │ trust  readiness  holding  artifacts  workload                   │
//!             │           each a room: handle_*(now, .., out) -> facts           │
//!             └─────────── model: plain types ── wire: the envelope ─────────────┘
//! ```
//!
//! The loop of the driver, which is the daemon or a simulator:
//!
//! ```text
//! loop {
//!     while let Some(effect) = node.poll_effect() { run it, once its batch is on disk }
//!     wait for an input, or until node.poll_timeout()
//!     node.handle(now, input)  or  node.handle_timeout(now)
//! }
//! ```
//!
//! The one rule: **an effect that names a batch of records waits until that batch is on disk.** All
//! others are run at once.

pub mod artifacts;
pub mod auction;
pub mod claims;
pub mod desired;
#[doc(hidden)]
pub mod fuzzing;
pub mod holding;
pub mod membership;
pub mod model;
pub mod node;
pub mod plan;
pub mod readiness;
pub mod ring;
pub mod rulings;
pub mod sync;
pub mod trust;
pub mod wire;
pub mod workload;
