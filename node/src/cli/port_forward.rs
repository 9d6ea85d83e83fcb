//! `shoal port-forward`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use shoal_protocol::model::NamedReplica;
use shoal_protocol::model::access::Action;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::client::Client;
use super::context::Context;
use super::error::{CliError, Exit};
use super::target::Target;
use super::{out, session};
use crate::publish::Operator;
use crate::session::{Frame, Frames};

/// Bytes that are read from a client at a time.
const READ: usize = 32 * 1024;
/// Time that a connection waits for a replica: what a failover takes, and a container's start.
const READY_WITHIN: Duration = Duration::from_secs(10);
/// The pause between two tries.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Make a port of a replica a port of this machine
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal port-forward db/0 5432          # 127.0.0.1:5432 leads to it\
        \n  shoal port-forward web 8081:80        # 127.0.0.1:8081 to port 80 of a replica that \
        runs\n  shoal port-forward web :80            # a free port\n\n\
        With NAME alone each connection goes to a replica that runs at that moment, and \
        waits up\nto ten seconds for one. A component \
        has no\nports: any number leads to its HTTP handler. It takes the operator's key."
)]
pub struct PortForward {
    /// NAME for a replica that runs, or NAME/NUMBER for that one
    #[arg(value_name = "NAME[/NUMBER]")]
    target: Target,
    /// The port here and the port of the replica; one number for both
    #[arg(required = true, value_name = "[LOCAL:]PORT")]
    ports: Vec<Ports>,
    /// The address of this machine that takes connections
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "IP")]
    address: IpAddr,
}

/// A port here and one of a replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ports {
    local: u16,
    remote: u16,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let port = |digits: &str| {
            let port = digits.parse::<u16>().ok().filter(|port| *port != 0);
            port.ok_or_else(|| format!("`{digits}` is not a port: 1 to 65535 is expected"))
        };
        match text.split_once(':') {
            None => port(text).map(|port| Ports { local: port, remote: port }),
            Some(("", remote)) => Ok(Ports { local: 0, remote: port(remote)? }),
            Some((local, remote)) => Ok(Ports { local: port(local)?, remote: port(remote)? }),
        }
    }
}

/// The connections' way to a port of a replica.
struct Forward {
    client: Client,
    operator: Operator,
    target: Target,
    port: u16,
}

impl PortForward {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let (client, operator) = (context.client(), context.operator()?);
        // A name that is wrong is told at once, not at the first connection.
        let replica = self.target.replica(&client).await?;
        let mut listening = JoinSet::new();
        for Ports { local, remote } in self.ports {
            // Port and replica are tried before anybody is told that they work.
            let action = Action::Connect { port: remote };
            drop(session::open(&client, &operator, &replica, action).await?);
            let address = SocketAddr::new(self.address, local);
            let listener = TcpListener::bind(address).await.map_err(|error| {
                CliError::failed(format!("{address} cannot be listened on: {error}"))
                    .hint("Name another port here: LOCAL:PORT, or :PORT for a free one.")
            })?;
            let bound = listener.local_addr().unwrap_or(address);
            out::say(&format!("{bound} -> {replica} port {remote}"))?;
            let forward = Forward {
                client: client.clone(),
                operator: operator.clone(),
                target: self.target.clone(),
                port: remote,
            };
            listening.spawn(serve(listener, Arc::new(forward)));
        }
        match listening.join_next().await {
            Some(Ok(error)) => Err(error),
            Some(Err(error)) => Err(CliError::failed(format!("a listener failed: {error}"))),
            None => Ok(()),
        }
    }
}

async fn serve(listener: TcpListener, forward: Arc<Forward>) -> CliError {
    loop {
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => return CliError::failed(format!("no connection can be taken: {error}")),
        };
        let forward = forward.clone();
        tokio::spawn(async move {
            if let Err(error) = forward.carry(stream).await {
                out::complain(&format!("{from}: {}", error.message));
            }
        });
    }
}

impl Forward {
    /// A session with a replica that is ready now, or soon: a client that connects during a
    /// failover is not refused.
    async fn ready(&self) -> Result<(NamedReplica, Frames), CliError> {
        let until = Instant::now() + READY_WITHIN;
        loop {
            match self.open().await {
                Ok(opened) => return Ok(opened),
                // Nothing that time changes.
                Err(error) if matches!(error.exit, Exit::Usage | Exit::NoDaemon) => {
                    return Err(error);
                }
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => sleep(AGAIN_AFTER).await,
            }
        }
    }

    async fn open(&self) -> Result<(NamedReplica, Frames), CliError> {
        let replica = self.target.replica(&self.client).await?;
        let action = Action::Connect { port: self.port };
        let frames = session::open(&self.client, &self.operator, &replica, action).await?;
        Ok((replica, frames))
    }

    async fn carry(&self, stream: TcpStream) -> Result<(), CliError> {
        // Small pieces of a conversation are not held back.
        let _ = stream.set_nodelay(true);
        let (replica, frames) = self.ready().await?;
        let Frames { mut receiver, mut sender } = frames;
        let (mut read, mut write) = stream.into_split();
        let inward = async {
            let mut buffer = vec![0; READ];
            loop {
                match read.read(&mut buffer).await {
                    Ok(0) | Err(_) => return sender.send([Frame::End]).await,
                    Ok(length) => sender.send(Frame::data(&buffer[..length])).await?,
                }
            }
        };
        let outward = async {
            loop {
                let frame = receiver.next_of_node().await;
                match frame.map_err(|error| session::lost(&replica, &error))? {
                    // A client that reads no more ends the connection with its own half.
                    Frame::Data(bytes) => drop(write.write_all(&bytes.0).await),
                    Frame::End => drop(write.shutdown().await),
                    Frame::Failed(failed) => return Err(session::failed(&replica, failed)),
                    Frame::Exit(_) => return Ok(()),
                    _ => {}
                }
            }
        };
        let (_, ended) = tokio::join!(inward, outward);
        ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_for_kubectl() {
        let of = |text: &str| text.parse::<Ports>().map(|ports| (ports.local, ports.remote));
        assert_eq!(of("80"), Ok((80, 80)));
        assert_eq!(of("8080:80"), Ok((8080, 80)));
        assert_eq!(of(":80"), Ok((0, 80)));
        for bad in ["", "0", "x", "80:", "65536", "8080:80:80"] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
