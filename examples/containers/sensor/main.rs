//! Answers HTTP on port 8080 with a reading of this device: the content of the file that SENSOR
//! names, by default the temperature of the processor in thousandths of a degree.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

const DEFAULT: &str = "/sys/class/thermal/thermal_zone0/temp";

fn main() -> std::io::Result<()> {
    let sensor = env::var("SENSOR").unwrap_or_else(|_| DEFAULT.into());
    let listener = TcpListener::bind("0.0.0.0:8080")?;
    println!("reading {sensor}");
    for stream in listener.incoming().flatten() {
        // A client that goes away is no reason to end.
        let _ = answer(stream, &sensor);
    }
    Ok(())
}

fn answer(mut stream: TcpStream, sensor: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let (status, text) = match fs::read_to_string(sensor) {
        Ok(reading) => ("200 OK", reading),
        Err(error) => ("503 Service Unavailable", format!("{sensor} cannot be read: {error}\n")),
    };
    let length = text.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    )
}
