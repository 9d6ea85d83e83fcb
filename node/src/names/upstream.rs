//! The device's own name servers, for names that are no workloads.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// The device's list of name servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Time for one of them to answer: a container's resolver waits five seconds in all.
const WITHIN: Duration = Duration::from_secs(2);
/// Servers that are asked, one after the other.
const SERVERS: usize = 3;
/// Bytes of an answer.
const ANSWER: usize = 64 * 1024;

/// The answer of the first of the device's name servers that gives one.
pub(super) async fn ask(question: &[u8], own: Ipv4Addr, over_tcp: bool) -> io::Result<Vec<u8>> {
    // Read each time: it changes with the device's network.
    let text = tokio::fs::read_to_string(RESOLV_CONF).await?;
    let mut last = io::Error::other(format!("{RESOLV_CONF} names no name server"));
    for server in servers(&text).into_iter().filter(|it| *it != own).take(SERVERS) {
        let server = SocketAddr::new(server, super::DNS);
        let asked = async {
            match over_tcp {
                true => by_tcp(server, question).await,
                false => by_udp(server, question).await,
            }
        };
        match timeout(WITHIN, asked).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(last)
}

fn servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        address.parse::<IpAddr>().ok()
    };
    text.lines().filter_map(server).collect()
}

async fn by_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // A socket of its own for each question: a random port, and answers of that server alone.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut answer = vec![0; ANSWER];
    loop {
        let length = socket.recv(&mut answer).await?;
        // The first two bytes are the question's number.
        if answer[..length].get(..2) == question.get(..2) {
            answer.truncate(length);
            return Ok(answer);
        }
    }
}

async fn by_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_from_the_devices_list() {
        let text = "# a comment\nsearch lan\nnameserver 10.0.0.1\nnameserver  fe80::1%eth0\n\
            nameserver\t2001:db8::1 \noptions edns0\n";
        let [one, two] = ["10.0.0.1", "2001:db8::1"].map(|text| text.parse::<IpAddr>().unwrap());
        assert_eq!(servers(text), [one, two]);
        assert!(servers("").is_empty());
    }
}
