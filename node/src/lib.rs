//! The daemon of a node, as a library.
//!
//! **What it never does:** decide. Which nodes are alive, which node owns a workload and where
//! replicas run is decided by `shoal_protocol`, which this crate feeds with inputs (messages,
//! reports, disk answers) and whose effects it carries out. It adds no state of its own that
//! another node would have to know.
//!
//! ```text
//!              command line, programs              clients of workloads       other nodes
//!                       │ unix socket                     │ HTTP                   │ TCP
//!                    ┌──▼──┐                         ┌────▼────┐  tunnels     ┌────▼────┐
//!                    │ api │                         │ ingress │◀────────────▶│ network │
//!                    └──┬──┘                         └────┬────┘              └────┬────┘
//!                       │ commands, views                 │ routes                 │ messages
//!                    ┌──▼───────────────────────────────────────────────────────────▼──┐
//!                    │ driver: the one task that owns protocol::Node                   │
//!                    └──┬──────────────────────┬─────────────────────────┬─────────────┘
//!                       │ orders, reports      │ fetches                 │ records
//!                  ┌────▼─────┐          ┌─────▼────┐               ┌────▼──┐
//!                  │ executor │          │ transfer │               │ store │
//!                  └────┬─────┘          └─────┬────┘               └───────┘
//!                  ┌────▼──────────────────────▼────┐
//!                  │ runtimes: shoal_runtimes::*    │◀── ingress: endpoints, api: logs
//!                  └────────────────────────────────┘
//! ```
//!
//! A program that embeds a node starts it with [`Node::builder`], as `shoal up` does.

pub mod api;
pub mod cli;
pub mod config;
pub mod driver;
pub mod embed;
pub mod executor;
pub mod facts;
#[cfg(test)]
mod fakes;
#[doc(hidden)]
pub mod fuzzing;
mod groups;
mod hex;
pub mod history;
pub mod identity;
pub mod images;
pub mod ingress;
mod loads;
pub mod manifest;
mod names;
pub mod network;
pub mod publish;
pub mod runtimes;
pub mod secrets;
pub mod session;
pub mod shares;
mod spool;
pub mod store;
pub mod telemetry;
pub mod transfer;

pub use embed::{Builder, Node, StartError, event_loop, init};
pub use publish::{Operator, Published, Workload};
pub use shoal_protocol as protocol;
pub use shoal_protocol::model::nearest;
