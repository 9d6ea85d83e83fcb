//! Names of seeds, looked up anew each time they are dialled.
//!
//! The system's resolver blocks, for half a minute where no server answers. So each look-up has a
//! thread of its own that nothing else waits for, and few of them live at once.

use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::node::Input;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::names;

/// Look-ups at once, those included that nobody waits for any more. A node has a few seeds, mostly
/// given by address.
const MOST: usize = 4;
/// How long a look-up is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of the thread that calls the system's resolver.
const STACK: usize = 256 * 1024;

/// Looks names up.
#[derive(Clone)]
pub(super) struct Resolver {
    room: Arc<Semaphore>,
    /// What asks the system; tests put another in its place.
    ask: fn(&str) -> Result<Vec<String>, String>,
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver { room: Arc::new(Semaphore::new(MOST)), ask: ask_system }
    }
}

impl Resolver {
    /// Looks up the name in a seed, `HOST:PORT`, and tells what was found, or why nothing was.
    pub(super) fn look_up(&self, seed: String, told: mpsc::Sender<Input>) {
        let resolver = self.clone();
        tokio::spawn(async move {
            let found = resolver.found(&seed).await;
            // An error means that the driver is gone, and with it whoever could want to know.
            let _ = told.send(Input::Resolved { seed, found }).await;
        });
    }

    async fn found(&self, seed: &str) -> Result<Vec<String>, String> {
        let Ok(permit) = self.room.clone().try_acquire_owned() else {
            return Err("too many names are being looked up, and no name server answers".into());
        };
        let (ask, asked) = (self.ask, seed.to_owned());
        let (answer, answered) = oneshot::channel();
        let thread = std::thread::Builder::new().name("shoal-names".into()).stack_size(STACK);
        let started = thread.spawn(move || {
            // The asker may have given up.
            let _ = answer.send(ask(&asked));
            drop(permit);
        });
        if let Err(error) = started {
            return Err(format!(
                "its name cannot be looked up: the system gives no thread: {error}"
            ));
        }
        match tokio::time::timeout(PATIENCE, answered).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => Err("its name cannot be looked up: the resolver failed".into()),
            Err(_) => Err("its name cannot be looked up: no name server answers".into()),
        }
    }
}

fn ask_system(seed: &str) -> Result<Vec<String>, String> {
    let found =
        seed.to_socket_addrs().map_err(|error| format!("its name cannot be looked up: {error}"))?;
    let mut addresses: Vec<String> = Vec::new();
    for address in found {
        let address = names::multiaddr(&address).to_string();
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_looked_up_and_a_missing_one_told() {
        let resolver = Resolver::default();
        let (told, mut input) = mpsc::channel(1);
        resolver.look_up("localhost:7700".into(), told);
        let Some(Input::Resolved { seed, found }) = input.recv().await else {
            panic!("no answer came")
        };
        assert_eq!(seed, "localhost:7700");
        assert!(found.unwrap().contains(&"/ip4/127.0.0.1/tcp/7700".to_owned()));
        let why = resolver.found("no.such.host.invalid:1").await.unwrap_err();
        assert!(why.starts_with("its name cannot be looked up"), "{why}");
        assert!(resolver.found("no port").await.is_err());
    }

    /// The system's resolver hangs where no name server answers. Nothing else may wait for it, and
    /// no more threads than a few.
    #[tokio::test(start_paused = true)]
    async fn look_ups_that_hang_are_given_up_and_bounded() {
        let resolver = Resolver {
            ask: |_| loop {
                std::thread::park()
            },
            ..Resolver::default()
        };
        let whys =
            futures::future::join_all((0..MOST + 1).map(|_| resolver.found("slow.example:1")))
                .await;
        let given_up =
            whys.iter().filter(|why| why.as_ref().unwrap_err().contains("no name server answers"));
        assert_eq!(given_up.count(), MOST + 1);
        assert_eq!(resolver.room.available_permits(), 0, "their threads still hang");
    }
}
