//! Asks a server again and again, by its name, and prints the first line of each answer.

use std::env;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

const EVERY: Duration = Duration::from_secs(2);

fn main() {
    let server = env::var("SERVER").unwrap_or_else(|_| "server:8080".into());
    loop {
        match ask(&server) {
            Ok(line) => println!("{server} says: {line}"),
            // The server may be on its way to another node: the next try finds it there.
            Err(error) => println!("{server} does not answer: {error}"),
        }
        thread::sleep(EVERY);
    }
}

fn ask(server: &str) -> std::io::Result<String> {
    // Looked up each time: the name leads to a replica that is ready now.
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(EVERY))?;
    write!(stream, "GET / HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok(body.lines().next().unwrap_or_default().to_owned())
}
