//! Answers HTTP on port 8080 with its name, its replica and the path. No library, so that its image
//! needs nothing but this one program.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

fn main() -> std::io::Result<()> {
    // All addresses: on 127.0.0.1 alone nobody outside of the container would reach it.
    let listener = TcpListener::bind("0.0.0.0:8080")?;
    println!("listening on port 8080");
    for stream in listener.incoming().flatten() {
        // A client that goes away is no reason to end.
        thread::spawn(move || answer(stream));
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
    let mut header = String::new();
    while reader.read_line(&mut header)? > 2 {
        header.clear();
    }
    let variable = |name| env::var(name).unwrap_or_else(|_| "?".into());
    let text = format!(
        "hello, {}\nreplica {}\nnode {}\npath {path}\n",
        env::var("NAME").unwrap_or_else(|_| "world".into()),
        variable("SHOAL_REPLICA"),
        variable("SHOAL_NODE"),
    );
    println!("{path} answered");
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{text}",
        text.len()
    )
}
