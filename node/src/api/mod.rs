//! The node's API: HTTP with JSON on a unix socket, for the command line and for programs on the
//! same device.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /v1/status`, `/v1/nodes`, `/v1/meeting`, `/metrics` | the current state |
//! | `GET /v1/workloads[?watch=true]` | with `watch` a line of JSON at each change |
//! | `GET /v1/workloads/{ns}/{name}[?watch=true]` | the same for one workload |
//! | `GET /v1/explain/{ns}/{name}/{index}` | a replica, and its auctions as their nodes tell them |
//! | `GET /v1/logs/{ns}/{name}/{index}[?lines=N&follow=true]` | lines of JSON from its node |
//! | `GET /v1/running/{uid}/{node}` | what of a workload still runs on a node |
//! | `GET /v1/events[?follow=true&since=SEQ]` | lines of JSON |
//! | `GET /v1/history[?name=NAME]` | who changed what, lines of JSON |
//! | `HEAD`, `PUT /v1/artifacts/{sha256}` | whether it is here; stores the verified bytes |
//! | `GET /v1/images` | the images over all nodes |
//! | `POST /v1/images/resolve` | the bytes that a name means: lines of JSON, the last `done` or `failed` |
//! | `POST /v1/images`, `/v1/images/remove`, `/v1/images/prune` | a pushed image's name; removal |
//! | `POST /v1/prepare`, `/v1/submit` | what to sign; accepted once it is on disk |
//! | `GET /v1/volumes/{ns}/{name}/{index}/{volume}[?node=NAME]` | a session with a volume, upgraded |
//! | `GET /v1/values`, `/v1/readers/{ns}/{name}`, `/v1/configs/{ns}/{name}` | secrets and configs; to whom a secret can be sealed; a config's bytes |
//! | `POST /v1/down` | stops gracefully |
//!
//! **The socket is the permission**: only its owner, and the group that `shoal up --socket-group`
//! names, can open its file. Changes of desired state must also be signed. From elsewhere an
//! operator asks over the mesh's port, and may what its role says (`operators`).
//!
//! Every answer without success has a body `{"error": {"code", "message", "hint"}}`.

mod change;
mod core;
mod error;
mod explain;
mod follow;
pub mod form;
pub(crate) mod fuzzing;
pub mod images;
mod logs;
pub mod operators;
mod routes;
mod running;
mod seen;
mod service;
mod session;
mod since;
mod socket;
mod usage;
mod values;
mod volumes;

pub use change::{Accepted, Prepared, Proposal};
pub use core::{Core, Soon};
pub use error::ApiError;
pub use service::{About, Service, StatusBody, short_name};
pub use since::Since;
pub use socket::{ForPeers, Socket, SocketError};
pub(crate) use values::Asker;

#[cfg(test)]
mod tests;
