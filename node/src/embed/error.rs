//! Errors of a node's start. The state is unchanged unless the message says otherwise.

use std::io;
use std::net::SocketAddr;

use shoal_protocol::trust::{BadInvite, Rejection};
use shoal_runtimes::artifacts;
use shoal_runtimes::wasm::SetupError;

use crate::api::SocketError;
use crate::config::ConfigError;
use crate::driver;
use crate::identity::IdentityError;
use crate::network::NetworkError;
use crate::publish::{FileError, OperatorError};
use crate::store::{LockError, StoreError};

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum StartError {
    #[error("the invite cannot be used: {0}")]
    Join(#[from] BadInvite),
    #[error("the cluster cannot be founded: {0}")]
    Founding(#[from] Rejection),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the state folder cannot be used: {0}")]
    Folder(#[from] FileError),
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Operator(#[from] OperatorError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error("port {} of {} is taken by another program", .0.port(), .0.ip())]
    HttpTaken(SocketAddr),
    #[error("{address} cannot be listened on for HTTP: {source}")]
    Http { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error(transparent)]
    Artifacts(#[from] artifacts::Error),
    #[error(transparent)]
    Wasm(#[from] SetupError),
    #[error(transparent)]
    Driver(#[from] driver::StartError),
    #[error("the system refused {doing}: {source}")]
    System { doing: &'static str, source: io::Error },
}

impl StartError {
    /// Advice for the user, where the message has none.
    pub fn hint(&self) -> Option<String> {
        match self {
            StartError::Config(error) => error.hint(),
            StartError::Operator(error) => error.hint(),
            StartError::Folder(_) => {
                Some("Name a folder that this user may write with --state or SHOAL_STATE.".into())
            }
            StartError::HttpTaken(_) | StartError::Http { .. } => Some(
                "Choose another with --http, or stop that program; port 0 takes any free one."
                    .into(),
            ),
            StartError::Artifacts(_) => {
                Some("Is the state folder's disk full or read-only?".into())
            }
            StartError::Join(_)
            | StartError::Founding(_)
            | StartError::Lock(_)
            | StartError::Identity(_)
            | StartError::Store(_)
            | StartError::Network(_)
            | StartError::Socket(_)
            | StartError::Wasm(_)
            | StartError::Driver(_)
            | StartError::System { .. } => None,
        }
    }

    /// Whether the settings are wrong, and not the device.
    pub fn is_usage(&self) -> bool {
        matches!(self, StartError::Join(_) | StartError::Config(_))
    }
}
