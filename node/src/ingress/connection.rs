//! The client's end of one HTTP/1.1 connection, to another node or to a replica with an address.

use std::error::Error;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use shoal_runtimes::{Body, BodyError};
use tokio::io::{AsyncRead, AsyncWrite};

use super::flow::{Flow, Server};
use super::idle_timeouts::{Party, Stalled};

/// Bytes of an answer's head, and of one read.
const BUFFER: usize = 16 * 1024;

/// Why a request on one connection has no answer.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nothing was sent.
    Unsent {
        /// The request, untouched.
        request: Box<Request<Body>>,
        /// Why nothing could be sent.
        why: String,
    },
    /// At least a part was sent.
    Sent {
        /// Why there is no answer.
        why: String,
        /// The connection broke; otherwise the server was only silent.
        is_lost: bool,
    },
    /// A part was sent, and the client did not go on.
    Client {
        /// The client's stall.
        why: Stalled,
    },
}

/// Prepares a byte stream for requests, one at a time. Dropping the result closes the stream.
pub(super) async fn open<T>(bytes: T) -> hyper::Result<SendRequest<Body>>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (requests, connection) =
        http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(bytes)).await?;
    tokio::spawn(async move {
        // A broken connection fails the request on it, which reports the error.
        let _ = connection.with_upgrades().await;
    });
    Ok(requests)
}

/// Sends a request and gives the head of its answer, whose body streams and has its [`Flow`] among
/// the answer's extensions. Dropping the future or the answer closes the connection.
pub(super) async fn send(
    requests: &mut SendRequest<Body>,
    server: Server,
    request: Request<Body>,
) -> Result<Response<Body>, Failed> {
    let (flow, request) = Flow::over(server, request);
    match flow.answer(requests.try_send_request(request)).await {
        Ok(Ok(mut response)) => {
            response.extensions_mut().insert(flow);
            Ok(response
                .map(|body| body.map_err(|error| -> BodyError { Box::new(error) }).boxed_unsync()))
        }
        Ok(Err(mut error)) => {
            let why = with_causes(error.error());
            let stalled = Stalled::find(error.error());
            let is_lost = stalled.is_none();
            match (error.take_message(), stalled.filter(|stalled| stalled.party == Party::Client)) {
                (Some(request), _) => Err(Failed::Unsent { request: Box::new(request), why }),
                (None, Some(why)) => Err(Failed::Client { why }),
                (None, None) => Err(Failed::Sent { why, is_lost }),
            }
        }
        Err(stalled) => Err(Failed::Sent { why: stalled.to_string(), is_lost: false }),
    }
}

/// An error with its causes: hyper's own text leaves out the stream's error, such as that its path
/// loses packets.
pub(super) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
