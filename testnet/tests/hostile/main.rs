//! Hostile peers at the mesh port of real daemons: what they try, and that nobody notices.
//!
//! Three daemons run a workload of two replicas. While an attack goes on, and after it, they stay
//! linked, no good node is called down, the replicas stay where they were and answer every request,
//! and a publish goes through. Files and memory stay within stated bounds, and come back.

mod anybody;
mod member;
mod scene;
mod stranger;
