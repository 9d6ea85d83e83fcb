//! A client for endpoints with an address: one request on one connection.

use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::HOST;
use crate::error::ServeError;
use crate::model::InstanceId;

/// Time for a connection, as every client has one: when a container's network goes away while it is
/// being made, the kernel tries on for two minutes.
const CONNECT: Duration = Duration::from_secs(10);

/// Sends a GET and returns the answer's status and text. HTTP/1.0: the answer's body is plain bytes
/// up to the end of the connection.
pub(super) async fn get(
    id: &InstanceId,
    address: SocketAddr,
    path: &str,
) -> Result<(u16, String), ServeError> {
    let unreachable = |error: std::io::Error| ServeError::Unreachable {
        id: id.clone(),
        reason: error.to_string(),
    };
    let broke_off = |reason: String| ServeError::Guest {
        id: id.clone(),
        status: StatusCode::BAD_GATEWAY,
        reason,
    };
    let stream = match timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(stream) => stream,
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    };
    let mut stream = stream.map_err(unreachable)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {HOST}\r\n\r\n");
    let mut answer = Vec::new();
    let exchanged = async {
        stream.write_all(request.as_bytes()).await?;
        stream.read_to_end(&mut answer).await
    };
    exchanged.await.map_err(|error| broke_off(format!("broke off: {error}")))?;
    let answer = String::from_utf8_lossy(&answer);
    let parsed = answer
        .split_once("\r\n\r\n")
        .and_then(|(head, text)| Some((head.split(' ').nth(1)?.parse().ok()?, text.to_owned())));
    parsed.ok_or_else(|| broke_off(format!("gave no HTTP answer: {answer:?}")))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers, one that closes at once, and one that is gone: the last leaves the
    /// request untouched.
    #[tokio::test]
    async fn answers_and_failures_are_told_apart() {
        let id = InstanceId::new("web/0").unwrap();
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let serve = async {
            for answer in ["HTTP/1.0 201 Created\r\nX: y\r\n\r\nhi\r\n\r\nthere", ""] {
                let (mut stream, _) = server.accept().await.unwrap();
                let mut seen = Vec::new();
                while !seen.ends_with(b"\r\n\r\n") {
                    seen.push(stream.read_u8().await.unwrap());
                }
                assert!(seen.starts_with(b"GET /a HTTP/1.0\r\n"));
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let ask = async {
            let answer = get(&id, address, "/a").await.unwrap();
            assert_eq!(answer, (201, "hi\r\n\r\nthere".to_owned()));
            assert!(!get(&id, address, "/a").await.unwrap_err().untouched());
        };
        tokio::join!(serve, ask);
        drop(server);
        assert!(get(&id, address, "/a").await.unwrap_err().untouched());
    }
}
