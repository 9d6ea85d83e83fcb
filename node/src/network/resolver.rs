//! Looks up the names of seeds, each time a seed is dialled.
//!
//! The system's resolver blocks, for half a minute where no server answers. So each look-up has a
//! thread of its own that nothing else waits for, and few live at once.

use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::node::Input;
use tokio::sync::{Semaphore, mpsc, oneshot};

use super::names;

/// Look-ups at once, including those that were given up. A node has a few seeds, mostly given by
/// address.
const MAX_LOOKUPS: usize = 4;
/// Time limit of a look-up.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of stack of the thread that calls the system's resolver.
const STACK: usize = 256 * 1024;

#[derive(Clone)]
pub(super) struct Resolver {
    permits: Arc<Semaphore>,
    /// The system's resolver, which tests replace.
    system: fn(&str) -> Result<Vec<String>, String>,
}

impl Default for Resolver {
    fn default() -> Self {
        Resolver { permits: Arc::new(Semaphore::new(MAX_LOOKUPS)), system: resolve_by_system }
    }
}

impl Resolver {
    /// Looks up the name in a seed, `HOST:PORT`, and sends the addresses or the error as an input.
    pub(super) fn look_up(&self, seed: String, inputs: mpsc::Sender<Input>) {
        let resolver = self.clone();
        tokio::spawn(async move {
            let found = resolver.resolve(&seed).await;
            // An error means that the driver has stopped.
            let _ = inputs.send(Input::Resolved { seed, found }).await;
        });
    }

    async fn resolve(&self, seed: &str) -> Result<Vec<String>, String> {
        let Ok(permit) = self.permits.clone().try_acquire_owned() else {
            return Err("too many names are being looked up, and no name server answers".into());
        };
        let (system, name) = (self.system, seed.to_owned());
        let (answer, answered) = oneshot::channel();
        let thread = std::thread::Builder::new().name("shoal-names".into()).stack_size(STACK);
        let started = thread.spawn(move || {
            // The caller may have given up.
            let _ = answer.send(system(&name));
            drop(permit);
        });
        if let Err(error) = started {
            return Err(format!(
                "its name cannot be looked up: the system gives no thread: {error}"
            ));
        }
        match tokio::time::timeout(LOOKUP_TIMEOUT, answered).await {
            Ok(Ok(found)) => found,
            Ok(Err(_)) => Err("its name cannot be looked up: the resolver failed".into()),
            Err(_) => Err("its name cannot be looked up: no name server answers".into()),
        }
    }
}

fn resolve_by_system(seed: &str) -> Result<Vec<String>, String> {
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

    /// Each look-up is answered by an input, with addresses or with a reason.
    #[tokio::test]
    async fn existing_name_resolves_and_missing_name_is_an_error() {
        let resolver = Resolver::default();
        let (inputs, mut input) = mpsc::channel(1);
        resolver.look_up("localhost:7700".into(), inputs);
        let Some(Input::Resolved { seed, found }) = input.recv().await else {
            panic!("no answer came")
        };
        assert_eq!(seed, "localhost:7700");
        assert!(found.unwrap().contains(&"/ip4/127.0.0.1/tcp/7700".to_owned()));
        let why = resolver.resolve("no.such.host.invalid:1").await.unwrap_err();
        assert!(why.starts_with("its name cannot be looked up"), "{why}");
        assert!(resolver.resolve("no port").await.is_err());
    }

    /// The system's resolver hangs where no name server answers. Nothing else may wait for it, and
    /// only a few threads may hang.
    #[tokio::test(start_paused = true)]
    async fn hanging_look_ups_time_out_and_are_bounded() {
        let resolver = Resolver {
            system: |_| loop {
                std::thread::park()
            },
            ..Resolver::default()
        };
        let whys = futures::future::join_all(
            (0..MAX_LOOKUPS + 1).map(|_| resolver.resolve("slow.example:1")),
        )
        .await;
        let timed_out =
            whys.iter().filter(|why| why.as_ref().unwrap_err().contains("no name server answers"));
        assert_eq!(timed_out.count(), MAX_LOOKUPS + 1);
        assert_eq!(resolver.permits.available_permits(), 0, "their threads still hang");
    }
}
