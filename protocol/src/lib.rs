//! The brain of one node.
//!
//! **This crate never touches the world.** It knows no sockets, files, threads or clocks, and no
//! order that a seed does not fix: bytes and instants come in, effects come out. The same seed and
//! the same inputs give the same effects, byte for byte, on every device, which is why a simulated
//! world can run thousands of nodes and replay any history.
//!
//! ```text
//!                  ┌───────────────────────────── node ─────────────────────────────┐
//!   Input ───────► │ membership  ring  desired  claims  plan  auction  sync  rulings │ ───────► Effect
//!   (what          │      each a room: handle_*(now, .., out) -> facts               │  (what it asks of the world)
//!    happened)     │                    trust: who may write                         │
//!                  └────────── model: plain types ── wire: the envelope ─────────────┘
//! ```
//!
//! The loop of whoever drives a node, real or simulated:
//!
//! ```text
//! loop {
//!     while let Some(effect) = node.poll_effect() { do it, once what it waits for is on disk }
//!     wait for an input, or until node.poll_timeout()
//!     node.handle(now, input)  or  node.handle_timeout(now)
//! }
//! ```
//!
//! The one rule: **an effect that names a batch of records waits until that batch is on disk.** All
//! others go at once.

pub mod artifacts;
pub mod auction;
pub mod claims;
pub mod desired;
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
