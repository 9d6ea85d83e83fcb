//! The unix socket of the API, and the API for other nodes.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use shoal_protocol::model::NodeId;
use shoal_runtimes::{Body, BodyError};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::{Asker, Service, routes};
use crate::groups;
use crate::ingress::server::PeerApi;

/// Connections to the API at one time. All are from this machine, its owner or the socket's group.
const CLIENTS: usize = 128;
/// Time for a request's head, and for an idle connection between two requests.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// Time for answers under way when the node stops; watches are cut off then.
const DRAIN: Duration = Duration::from_millis(500);
/// Bytes of a unix socket's path, its closing zero included.
const LONGEST_PATH: usize = 108;

/// The mode of a state folder through which the socket's group may pass.
const FOR_GROUP: u32 = 0o710;

/// Why the API's socket could not be created.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SocketError {
    #[error("the path of the API's socket is too long for a socket ({} bytes, {} at most): \
        {}", .0.as_os_str().len(), LONGEST_PATH - 1, .0.display())]
    TooLong(PathBuf),
    #[error("{} is in the way of the API's socket, and is no socket: move it away", .0.display())]
    InTheWay(PathBuf),
    #[error(
        "socket_group: there is no group `{0}` on this device (/etc/group); `none` lets the owner \
            in alone"
    )]
    NoGroup(String),
    #[error("the API's socket {} cannot be made: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// The bound socket. Dropping it removes its file.
pub struct Socket {
    path: PathBuf,
    listener: UnixListener,
}

impl Socket {
    /// Binds `path`, for its owner alone. Replaces the socket of an earlier daemon: **the caller
    /// holds the state folder's lock**, so no process listens on it.
    pub fn bind(path: &Path) -> Result<Socket, SocketError> {
        if path.as_os_str().len() >= LONGEST_PATH {
            return Err(SocketError::TooLong(path.to_owned()));
        }
        let failed = |source| SocketError::Io { path: path.to_owned(), source };
        match fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => fs::remove_file(path).map_err(failed)?,
            Ok(_) => return Err(SocketError::InTheWay(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        let socket = Socket { path: path.to_owned(), listener };
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(socket)
    }

    /// Lets the members of a group in as well, and through `state`, if the socket is there. Without
    /// a group nobody passes there who could not before there was one.
    pub fn open_to(&self, group: Option<&str>, state: &Path) -> Result<(), SocketError> {
        let failed = |source| SocketError::Io { path: self.path.clone(), source };
        let folder = self.path.parent().filter(|folder| *folder == state);
        let chmod = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
        let Some(group) = group else {
            let Some(folder) = folder else { return Ok(()) };
            let mode = fs::metadata(folder).map_err(failed)?.permissions().mode() & 0o777;
            return if mode == FOR_GROUP { chmod(folder, 0o700).map_err(failed) } else { Ok(()) };
        };
        let number = groups::number_of(group).ok_or_else(|| SocketError::NoGroup(group.into()))?;
        chown(&self.path, None, Some(number)).map_err(failed)?;
        if let Some(folder) = folder {
            // They may pass, and not list; what is secret in it is readable by its owner alone.
            chown(folder, None, Some(number)).map_err(failed)?;
            chmod(folder, FOR_GROUP).map_err(failed)?;
        }
        chmod(&self.path, 0o660).map_err(failed)
    }

    /// Serves the API until `stop`.
    pub async fn serve(self, service: Service, stop: CancellationToken) {
        let router = routes::all(service);
        let clients = Arc::new(Semaphore::new(CLIENTS));
        let open = TaskTracker::new();
        loop {
            let permit = tokio::select! {
                permit = clients.clone().acquire_owned() => permit.expect("the semaphore is never \
                    closed"),
                () = stop.cancelled() => break,
            };
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!("no client of the API can be taken: {error}");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let (router, stop) = (router.clone(), stop.clone());
            open.spawn(async move {
                let _permit = permit;
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_WITHIN)
                    .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
                    .with_upgrades();
                let mut connection = std::pin::pin!(connection);
                let ended = tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = stop.cancelled() => {
                        connection.as_mut().graceful_shutdown();
                        timeout(DRAIN, connection).await.unwrap_or(Ok(()))
                    }
                };
                if let Err(error) = ended {
                    debug!("a client of the API left: {error}");
                }
            });
        }
        open.close();
        open.wait().await;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            debug!("{}: {error}", self.path.display());
        }
    }
}

/// The part of the API that other nodes may use.
pub struct ForPeers(Router);

impl ForPeers {
    /// The API of this service.
    pub fn new(service: Service) -> Self {
        ForPeers(routes::for_peers(service))
    }
}

impl PeerApi for ForPeers {
    fn answer(&self, from: NodeId, request: Request<Body>) -> BoxFuture<'_, Response<Body>> {
        debug!(from = %from.short(), path = request.uri().path(), "asked");
        let router = TowerToHyperService::new(self.0.clone());
        let mut request = request.map(axum::body::Body::new);
        request.extensions_mut().insert(Asker(from));
        let answered = router.call(request);
        async move {
            let response = match answered.await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            response
                .map(|body| body.map_err(|error| -> BodyError { Box::new(error) }).boxed_unsync())
        }
        .boxed()
    }
}
