//! Requests whose client wants to go on with another protocol on the same connection, as for
//! WebSocket: once the replica agrees, bytes are copied both ways until one end closes.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use shoal_runtimes::Body;
use tokio::io::copy_bidirectional;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::refusal;

/// A client's wish for another protocol.
pub(super) struct Wish {
    protocol: HeaderValue,
    client: OnUpgrade,
}

/// Things that are kept until the copying ends: permits, and the client's place.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Box<dyn Any + Send>>>>);

impl Wish {
    /// Takes the wish out of a request that has one.
    pub(super) fn take(request: &mut Request<Body>) -> Option<Wish> {
        let mut connection = request.headers().get_all(header::CONNECTION).iter();
        let is_wished = connection.any(|value| {
            let names = value.to_str().unwrap_or_default().split(',');
            names.map(str::trim).any(|name| name.eq_ignore_ascii_case("upgrade"))
        });
        let protocol = request.headers().get(header::UPGRADE).filter(|_| is_wished)?.clone();
        let client = request.extensions_mut().remove::<OnUpgrade>()?;
        Some(Wish { protocol, client })
    }

    /// Asks the server of a request for it.
    pub(super) fn ask(&self, headers: &mut HeaderMap) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, self.protocol.clone());
    }

    /// Fulfils it if the server agreed, until `closing`. `permit` is kept as long as that goes on.
    pub(super) fn grant(
        self,
        mut response: Response<Body>,
        permit: impl Any + Send,
        closing: CancellationToken,
    ) -> Response<Body> {
        let server = hyper::upgrade::on(&mut response);
        let kept = Kept::default();
        kept.keep(permit);
        response.extensions_mut().insert(kept.clone());
        tokio::spawn(async move {
            let _kept = kept;
            let copied = async {
                let (client, server) = tokio::try_join!(self.client, server)?;
                let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
                let copied = copy_bidirectional(&mut client, &mut server).await;
                Ok::<_, hyper::Error>(copied)
            };
            tokio::select! {
                ended = copied => debug!("a connection with another protocol ended: {ended:?}"),
                () = closing.cancelled() => {}
            }
        });
        response
    }
}

impl Kept {
    fn keep(&self, thing: impl Any + Send) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(thing));
    }
}

/// Keeps `thing` until the copying of this answer ends; gives it back when there is none.
pub(super) fn keep<T: Any + Send>(response: &Response<Body>, thing: T) -> Option<T> {
    match response.extensions().get::<Kept>() {
        Some(kept) => {
            kept.keep(thing);
            None
        }
        None => Some(thing),
    }
}

/// Whether a request asks for another protocol.
pub(super) fn is_asked(headers: &HeaderMap) -> bool {
    headers.contains_key(header::UPGRADE)
}

/// Takes the wish away: guests in this process speak HTTP only.
pub(super) fn forget(headers: &mut HeaderMap) {
    headers.remove(header::CONNECTION);
    headers.remove(header::UPGRADE);
}

/// Whether the server agreed.
pub(super) fn is_granted(response: &Response<Body>) -> bool {
    response.status() == StatusCode::SWITCHING_PROTOCOLS
}

/// The answer to a client whose replica agrees to what nobody asked for.
pub(super) fn unasked() -> Response<Body> {
    let why = "the replica wants another protocol, for which nobody asked";
    refusal(StatusCode::BAD_GATEWAY, why, false)
}
