//! The body of a node: everything the daemon does, as a library.
//!
//! **What it never does:** decide. Who is alive, who owns what and what runs where is decided by
//! `shoal_protocol`, which this crate feeds with what happens (messages, reports, disk answers) and
//! whose effects it carries out. It adds no state of its own that another node would have to know.
//!
//! ```text
//!              command line, programs                    clients of workloads        other nodes
//!                       │ unix socket                           │ HTTP                    │ TCP
//!                    ┌──▼──┐                               ┌────▼────┐   tunnels     ┌────▼────┐
//!                    │ api │                               │ ingress │◀─────────────▶│ network │
//!                    └──┬──┘                               └────┬────┘               └────┬────┘
//!                       │ commands, views                       │ routes                  │ messages
//!                    ┌──▼──────────────────────────────────────────────────────────────────▼──┐
//!                    │ driver: the one task that owns protocol::Node                          │
//!                    └──┬──────────────────────┬───────────────────────────┬──────────────────┘
//!                       │ orders, reports      │ fetches                   │ records
//!                  ┌────▼─────┐          ┌─────▼────┐                 ┌────▼──┐
//!                  │ executor │          │ transfer │                 │ store │
//!                  └────┬─────┘          └─────┬────┘                 └───────┘
//!                       └── shoal_runtimes ────┘
//! ```
//!
//! A program that wants a node in its own process starts one with [`Node::builder`]; `shoal up`
//! does just that.

pub mod api;
pub mod cli;
pub mod config;
pub mod driver;
pub mod embed;
pub mod executor;
#[cfg(test)]
mod fakes;
pub mod identity;
pub mod ingress;
pub mod manifest;
pub mod nearest;
pub mod network;
pub mod publish;
pub mod shares;
pub mod store;
pub mod telemetry;
pub mod transfer;

pub use embed::{Builder, Node, StartError, event_loop, init};
pub use publish::{Operator, Published, Workload};
pub use shoal_protocol as protocol;
