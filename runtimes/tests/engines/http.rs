//! Calls to an engine by hand, so that what the adapter did is checked without it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// Far longer than any call takes: a test fails instead of hanging.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Sends a request and returns the answer's status and body. HTTP/1.0: the body ends with the
/// connection.
pub fn call(
    socket: &Path,
    method: &str,
    path: &str,
    kind: &str,
    body: &[u8],
) -> std::io::Result<(u16, String)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: {kind}\r\n\
         Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Ok((status, body.to_owned()))
}

/// A call with JSON, or an empty body, that must succeed.
pub fn json(socket: &Path, method: &str, path: &str, body: &Value) -> Value {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (status, text) = call(socket, method, path, "application/json", body.as_bytes()).unwrap();
    assert!((200..400).contains(&status), "{method} {path}: {status} {text}");
    serde_json::from_str(&text).unwrap_or(Value::Null)
}

/// The containers with a label, in any state.
pub fn labelled(socket: &Path, label: &str) -> Vec<Value> {
    let filters = format!("{{\"label\":[\"{label}\"]}}");
    let filters: String = filters.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let path = format!("/containers/json?all=1&filters={filters}");
    json(socket, "GET", &path, &Value::Null).as_array().cloned().unwrap_or_default()
}
