//! The place at which an instance takes requests.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use futures::future::BoxFuture;

use crate::error::ServeError;
use crate::model::Body;

/// The place at which a running instance takes HTTP requests.
///
/// Two endpoints are equal when a request takes the same way to the same place: in-process ones by
/// identity, since each life of an instance has its own.
#[derive(Clone)]
pub enum Endpoint {
    /// A guest inside this process.
    InProcess(Arc<dyn Service>),
    /// A server on this device that speaks HTTP/1.1.
    Tcp(SocketAddr),
}

/// An instance that takes requests inside this process.
pub trait Service: Send + Sync + 'static {
    /// Hands over a request and gives its answer, whose body streams. The instance bounds how many
    /// requests it takes, and how long each may last. Dropping the future or the answer tells the
    /// guest that its client is gone.
    ///
    /// # Errors
    /// No answer came. [`ServeError::untouched`] says whether the guest has seen any of the
    /// request.
    fn call(
        &self,
        request: http::Request<Body>,
    ) -> BoxFuture<'_, Result<http::Response<Body>, ServeError>>;
}

impl PartialEq for Endpoint {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Endpoint::InProcess(one), Endpoint::InProcess(other)) => Arc::ptr_eq(one, other),
            (Endpoint::Tcp(one), Endpoint::Tcp(other)) => one == other,
            (Endpoint::InProcess(_), Endpoint::Tcp(_))
            | (Endpoint::Tcp(_), Endpoint::InProcess(_)) => false,
        }
    }
}

impl Eq for Endpoint {}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::InProcess(_) => f.write_str("InProcess"),
            Endpoint::Tcp(address) => write!(f, "Tcp({address})"),
        }
    }
}
