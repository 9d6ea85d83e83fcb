//! Adapters that run workloads on one device, and the store of the bytes that they run.
//!
//! **The law.** A runtime does what it is told on this device and reports the latest state of each
//! instance. It decides nothing that concerns another node: not what should run, not where, not how
//! often. It never uses the network, never trusts bytes that were not verified, never gives a guest
//! anything that its [`Launch`] does not name, and never lets a guest harm anything but itself.
//!
//! ```text
//!                node's executor, API                    node's ingress
//!                   |  start, stop, logs     ^ watch        |  endpoint: where a running instance
//!                   v                        |              v  takes requests
//!            +-- trait Runtime ----------------- StatusTable --+
//!            |                                                 |
//!            |  wasm::Wasm (wasmtime)    container::Containers |  contract: what every adapter
//!            |   |        |       |          |                 |            must do
//!            |   |        |       |          +--- socket ---> Docker or Podman ---> containers,
//!            |   |        |       |                            |   which outlive the adapter
//!            |   |        |       +- guests: own threads, low priority, a CPU share,
//!            |   |        |                  a memory limit, a deadline
//!            |   |        +--------- compiled code under a MAC <-- child process: the only
//!            |   |                                             |   place that compiles
//!            +---|---------------------------------------------+
//!                v                         |
//!        artifacts::ArtifactStore      logs::Logs
//!        bytes named by their SHA-256  bounded lines, in memory and on disk
//! ```
//!
//! `images` reads container images from files into such bytes, and writes archives that engines
//! load.
//!
//! A replica is an *instance* here: one [`Launch`] under one [`InstanceId`]. An instance's life is
//! `Starting -> Running -> Stopped`, or `Failed` with a reason a person can read. Nothing depends
//! on seeing each step: [`Watch`] gives the latest state of each instance that changed.
//!
//! Modules import only what stands to their left:
//!
//! ```text
//! model, artifacts, images <- error <- endpoint <- status <- logs, session <- runtime <- contract,
//! wasm, container, noop
//! ```

pub mod artifacts;
#[cfg(feature = "container")]
pub mod container;
pub mod contract;
mod endpoint;
mod error;
#[cfg(any(feature = "wasm", feature = "container"))]
mod files;
#[doc(hidden)]
pub mod fuzzing;
pub mod given;
#[cfg(feature = "images")]
pub mod images;
pub mod logs;
mod model;
pub mod noop;
mod runtime;
pub mod session;
mod status;
#[cfg(feature = "wasm")]
pub mod wasm;

pub use endpoint::{Endpoint, Service};
pub use error::{DeviceError, LogsError, PrepareError, ServeError, StartError};
pub use model::{
    Body, BodyError, Command, ContainerPayload, Folder, Instance, InstanceId, InvalidInstanceId,
    Launch, Payload, Traffic, Usage, VolumeKey, VolumeOf, body,
};
pub use runtime::Runtime;
pub use status::{Fault, Status, StatusHandle, StatusTable, Watch};
