//! A container by hand, at the engine's API: what it costs without shoal.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::image::PORT;
use crate::real::TIMEOUT;
use crate::real::http::{Request, ask};
use crate::real::traffic::ask_once;

/// Sends a request to an engine and returns the answer's body. A status of 300 or more is an error.
pub fn call(socket: &str, method: &str, target: &str, body: &[u8]) -> Result<Vec<u8>> {
    let shown = || format!("{method} {target} at {socket}");
    let stream = UnixStream::connect(socket).with_context(shown)?;
    stream.set_read_timeout(Some(TIMEOUT)).with_context(shown)?;
    stream.set_write_timeout(Some(TIMEOUT)).with_context(shown)?;
    let request = Request { method, target, host: "engine", body };
    let answer = ask(stream, &request).with_context(shown)?;
    let status = answer.status;
    let mut body = Vec::new();
    answer.reader().read_to_end(&mut body).with_context(shown)?;
    // 304: it is so already.
    if status >= 300 && status != 304 {
        bail!("{} answered {status}: {}", shown(), String::from_utf8_lossy(&body).trim());
    }
    Ok(body)
}

fn post(socket: &str, target: &str, body: &Value) -> Result<Value> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let answer = call(socket, "POST", target, &body)?;
    Ok(serde_json::from_slice(&answer).unwrap_or(Value::Null))
}

/// Options of `shoal run` for a container that ends as one that [`start`] makes.
pub const SAME_END: [&str; 2] = ["--stop-signal", "SIGKILL"];

/// Creates and starts a container, and returns its id and its address.
pub fn start(socket: &str, image: &str, name: &str, memory: u64) -> Result<(String, SocketAddr)> {
    let body = json!({
        "Image": image,
        "StopSignal": "SIGKILL",
        "HostConfig": { "Memory": memory, "MemorySwap": memory },
    });
    let made = post(socket, &format!("/containers/create?name={name}"), &body)?;
    let id = made["Id"].as_str().context("the engine names no container")?.to_owned();
    post(socket, &format!("/containers/{id}/start"), &Value::Null)?;
    let found = call(socket, "GET", &format!("/containers/{id}/json"), &[])?;
    let found: Value = serde_json::from_slice(&found).context("inspect answers no JSON")?;
    let address = found["NetworkSettings"]["IPAddress"].as_str().unwrap_or_default();
    let address: IpAddr = address.parse().context("the container has no address")?;
    Ok((id, SocketAddr::new(address, PORT)))
}

/// Waits until a container answers a request with 200.
pub fn answered(address: SocketAddr) -> Result<Instant> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let sample = ask_once(address, "raw");
        if sample.good() {
            return Ok(sample.ended);
        }
        if Instant::now() > deadline {
            bail!("the container never answered; the last time: {:?}", sample.answer);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Removes a container that may run.
pub fn remove(socket: &str, id: &str) -> Result<()> {
    // It may have ended already.
    let _ = call(socket, "POST", &format!("/containers/{id}/kill"), &[]);
    call(socket, "DELETE", &format!("/containers/{id}?force=1&v=1"), &[]).map(drop)
}
