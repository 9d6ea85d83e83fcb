//! The moment at which a container's program takes connections, and the address that leads to it.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use shoal_protocol::model::spec::NetworkMode;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::forms::Inspected;
use crate::session::Doors;

/// The first pause between two tries.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
/// The longest pause between two tries: what a late program costs the device.
const LAST_PAUSE: Duration = Duration::from_millis(100);
/// Time for a connection on this device.
const CONNECT: Duration = Duration::from_secs(1);
/// Time in which the engine's proxy closes a connection when nothing listens behind it.
const CLOSE: Duration = Duration::from_millis(100);

impl Doors {
    /// The addresses of a container that was inspected.
    pub(super) fn of(network: NetworkMode, port: u16, found: &Inspected, rootless: bool) -> Self {
        match network {
            NetworkMode::None => Doors::default(),
            NetworkMode::Host => {
                Doors { direct: Some(([127, 0, 0, 1], port).into()), published: None }
            }
            NetworkMode::Bridge => {
                let own = found.address().filter(|_| !rootless);
                Doors { direct: own.map(|ip| (ip, port).into()), published: found.published(port) }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.direct.is_none() && self.published.is_none()
    }

    /// Waits until the program listens. Takes the direct address where the device can reach it.
    pub(super) async fn listening(self) -> SocketAddr {
        let mut pause = FIRST_PAUSE;
        loop {
            let mut direct_is_usable = false;
            if let Some(direct) = self.direct {
                match timeout(CONNECT, TcpStream::connect(direct)).await {
                    Ok(Ok(_)) => return direct,
                    Ok(Err(error)) => {
                        direct_is_usable = error.kind() == ErrorKind::ConnectionRefused
                    }
                    Err(_) => {}
                }
            }
            if let Some(published) = self.published.filter(|_| !direct_is_usable)
                && stays_open(published).await
            {
                return published;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }
}

/// Whether a connection is taken and not closed at once.
async fn stays_open(address: SocketAddr) -> bool {
    let Ok(Ok(mut stream)) = timeout(CONNECT, TcpStream::connect(address)).await else {
        return false;
    };
    match timeout(CLOSE, stream.read(&mut [0; 1])).await {
        Ok(Ok(read)) => read > 0, // a program that speaks first
        Ok(Err(_)) => false,
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A proxy that closes its first connections, as the engine's does before the program listens.
    #[tokio::test]
    async fn connection_that_is_closed_at_once_does_not_count() {
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = proxy.local_addr().unwrap();
        let behind = async {
            drop(proxy.accept().await.unwrap());
            drop(proxy.accept().await.unwrap());
            proxy.accept().await.unwrap()
        };
        let doors = Doors { direct: None, published: Some(address) };
        let (_third, found) = tokio::join!(behind, doors.listening());
        assert_eq!(found, address);
    }

    /// The container's own address refuses until its program listens: the proxy is not asked.
    #[tokio::test]
    async fn own_address_is_taken_while_the_device_reaches_it() {
        let program = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let doors = Doors {
            direct: Some(program.local_addr().unwrap()),
            published: Some(proxy.local_addr().unwrap()),
        };
        assert_eq!(doors.listening().await, program.local_addr().unwrap());
    }
}
