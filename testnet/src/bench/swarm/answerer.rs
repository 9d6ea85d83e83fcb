//! The replica of Swarm's service: gives every request the same answer. Compiled on its own, see
//! `image.rs`; argument: the address to listen at.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n";

fn main() -> std::io::Result<()> {
    let place = std::env::args().nth(1).unwrap_or_default();
    for client in TcpListener::bind(place)?.incoming().flatten() {
        // A client that sends nothing, or leaves, gets no answer.
        let _ = answer(client);
    }
    Ok(())
}

fn answer(mut client: TcpStream) -> std::io::Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(1)))?;
    // A request has a few headers and comes in one piece.
    let mut request = [0; 4096];
    client.read(&mut request)?;
    client.write_all(ANSWER)
}
