//! Health probes. Not supported yet: their form may change until they are.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The probes of a replica.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Health {
    /// Must succeed once before the others begin.
    pub startup: Option<Probe>,
    /// While it fails the replica gets no requests.
    pub readiness: Option<Probe>,
    /// When it fails the replica is restarted.
    pub liveness: Option<Probe>,
}

/// A probe of a replica.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// The check that is tried.
    pub check: Check,
    /// The pause between tries.
    pub every: Duration,
    /// The time that one try may take.
    pub timeout: Duration,
    /// Failures in a row that count.
    pub failures: u32,
}

/// A check that a probe tries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Check {
    /// A GET that is answered with 200 to 399.
    Http {
        /// The port in the replica.
        port: u16,
        /// The path, as in `/healthz`.
        path: String,
    },
    /// A connection that is accepted.
    Tcp {
        /// The port in the replica.
        port: u16,
    },
    /// A command in the container that ends with 0.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
    },
}
