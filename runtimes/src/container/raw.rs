//! Requests over the engine's socket. Their answers are parsed by types of our own, with all
//! fields optional: the typed clients' closed enums fail whole lists on Podman.

use std::io;
use std::path::Path;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use http::request::Builder;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;

use super::refusal::CallError;

/// The most bytes of an answer: a list of a thousand containers with long labels has 4 MiB.
const MAX_ANSWER: usize = 32 << 20;
/// The most bytes of one line of a stream.
const MAX_LINE: usize = 1 << 20;

/// Sends a GET and parses the answer.
pub(super) async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, CallError> {
    let bytes = whole(send(socket, path).await?).await?;
    serde_json::from_slice(&bytes).map_err(CallError::garbled)
}

/// Sends a GET and gives the lines of the answer, as they come. Lines that are no JSON of the
/// wanted form are left out.
pub(super) async fn lines<T: DeserializeOwned + Send>(
    socket: &Path,
    path: &str,
) -> Result<impl Stream<Item = Result<T, CallError>> + use<T>, CallError> {
    Ok(parsed_lines(send(socket, path).await?))
}

/// Sends a POST without a body, with one more header, and gives the lines of the answer like
/// [`lines`].
pub(super) async fn post_lines<T: DeserializeOwned + Send>(
    socket: &Path,
    path: &str,
    more: Option<(&'static str, String)>,
) -> Result<impl Stream<Item = Result<T, CallError>> + Send + use<T>, CallError> {
    let mut request = Request::post(path).header(header::HOST, "localhost");
    if let Some((name, value)) = more {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(CallError::garbled)?;
    Ok(parsed_lines(exchange(socket, request).await?))
}

fn parsed_lines<T: DeserializeOwned + Send>(
    answer: Response<Incoming>,
) -> impl Stream<Item = Result<T, CallError>> + Send + use<T> {
    let body = answer.into_body().into_data_stream();
    let mut buffer = Vec::new();
    let parsed = body.map_err(CallError::broke_off).map(move |chunk| {
        let chunk: Bytes = chunk?;
        buffer.extend_from_slice(&chunk);
        let mut items = Vec::new();
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            items.extend(serde_json::from_slice(&line).ok());
        }
        if buffer.len() > MAX_LINE {
            return Err(CallError::garbled(format!("a line of more than {MAX_LINE} bytes")));
        }
        Ok(items)
    });
    parsed.map_ok(|items: Vec<T>| futures::stream::iter(items.into_iter().map(Ok))).try_flatten()
}

/// A body that is made while it is sent.
pub(super) type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// Posts a stream, and gives the whole answer. An answer of success may still tell of an error:
/// Docker's does, in a line of its own.
pub(super) async fn post(socket: &Path, path: &str, chunks: Chunks) -> Result<Bytes, CallError> {
    stream(socket, Request::post(path), chunks).await
}

/// Puts a stream, and gives the whole answer.
pub(super) async fn put(socket: &Path, path: &str, chunks: Chunks) -> Result<Bytes, CallError> {
    stream(socket, Request::put(path), chunks).await
}

async fn stream(socket: &Path, request: Builder, chunks: Chunks) -> Result<Bytes, CallError> {
    let request = request
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/x-tar")
        .body(StreamBody::new(chunks.map_ok(Frame::data)))
        .map_err(CallError::garbled)?;
    whole(exchange(socket, request).await?).await
}

/// Posts JSON, and gives the whole answer.
pub(super) async fn post_json(socket: &Path, path: &str, body: &Value) -> Result<Bytes, CallError> {
    whole(exchange(socket, json(path, body, None)?).await?).await
}

/// Posts JSON, and gives the connection, which the engine turns into a stream of bytes.
pub(super) async fn hijack(
    socket: &Path,
    path: &str,
    body: &Value,
) -> Result<TokioIo<Upgraded>, CallError> {
    let answer = exchange(socket, json(path, body, Some("tcp"))?).await?;
    hyper::upgrade::on(answer).await.map(TokioIo::new).map_err(CallError::broke_off)
}

fn json(
    path: &str,
    body: &Value,
    upgrade: Option<&str>,
) -> Result<Request<Full<Bytes>>, CallError> {
    let mut request = Request::post(path)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(protocol) = upgrade {
        request = request.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, protocol);
    }
    // Podman writes a body that nobody asked for into the program's standard input.
    let text = if body.is_null() { String::new() } else { body.to_string() };
    request.body(Full::new(text.into())).map_err(CallError::garbled)
}

async fn whole(answer: Response<Incoming>) -> Result<Bytes, CallError> {
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    Ok(body.map_err(CallError::broke_off)?.to_bytes())
}

/// Sends a HEAD: an answer without success is an error, whose text is not told.
pub(super) async fn head(socket: &Path, path: &str) -> Result<(), CallError> {
    let request = Request::head(path)
        .header(header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(CallError::garbled)?;
    exchange(socket, request).await.map(drop)
}

/// Sends a GET and gives the bytes of the answer, as they come.
pub(super) async fn chunks(
    socket: &Path,
    path: &str,
) -> Result<impl Stream<Item = Result<Bytes, CallError>> + Send + use<>, CallError> {
    let body = send(socket, path).await?.into_body().into_data_stream();
    Ok(body.map_err(CallError::broke_off))
}

async fn send(socket: &Path, path: &str) -> Result<Response<Incoming>, CallError> {
    let request = Request::get(path)
        .header(header::HOST, "localhost")
        .body(Empty::<Bytes>::new())
        .map_err(CallError::garbled)?;
    exchange(socket, request).await
}

/// Sends a request over a connection of its own. An answer without success is an error.
async fn exchange<B>(socket: &Path, request: Request<B>) -> Result<Response<Incoming>, CallError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = UnixStream::connect(socket).await.map_err(CallError::unreachable)?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(CallError::unreachable)?;
    // Ends with the answer, or when the answer is dropped.
    tokio::spawn(connection.with_upgrades());
    let answer = sender.send_request(request).await.map_err(CallError::broke_off)?;
    if answer.status().is_success() || answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(answer);
    }
    let status = answer.status().as_u16();
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
    let bytes = body.map(|body| body.to_bytes()).unwrap_or_default();
    Err(CallError::refused(status, &bytes))
}

/// A text as a part of a path or query.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b':' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
