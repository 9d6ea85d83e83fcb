//! Counts what the ingress refused and cut off, and on whose account.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tracing::{debug, info};

use super::Ingress;
use super::idle_timeouts::{Party, Stalled};
use super::requests::TooMany;

#[derive(Debug, Default)]
pub(super) struct Counters {
    refused_full: AtomicU64,
    refused_share: AtomicU64,
    cut_client: AtomicU64,
    cut_node: AtomicU64,
    cut_replica: AtomicU64,
}

impl Counters {
    pub(super) fn refused(&self, why: TooMany) {
        let counter = match why {
            TooMany::All => &self.refused_full,
            TooMany::OfOne(_) => &self.refused_share,
        };
        counter.fetch_add(1, Relaxed);
    }
}

impl Ingress {
    /// Adds the ingress's counters to `all`.
    pub fn report(&self, all: &mut BTreeMap<String, u64>) {
        let lost = &self.clients.evictions;
        for (name, counter) in [
            ("http_requests_refused_full", &self.counters.refused_full),
            ("http_requests_refused_share", &self.counters.refused_share),
            ("http_cut_client", &self.counters.cut_client),
            ("http_cut_node", &self.counters.cut_node),
            ("http_cut_replica", &self.counters.cut_replica),
            ("http_clients_dropped_share", &lost.share),
            ("http_clients_dropped_slow", &lost.silent),
            ("http_clients_dropped_full", &lost.full),
            ("http_clients_refused_full", &lost.refused),
        ] {
            all.insert(name.to_owned(), counter.load(Relaxed));
        }
    }

    /// Counts and logs how a connection ended.
    pub(super) fn note(&self, with: impl Display, ended: hyper::Result<()>) {
        let Err(error) = ended else { return };
        match Stalled::find(&error) {
            Some(stalled) => {
                let counter = match stalled.party {
                    Party::Client => &self.counters.cut_client,
                    Party::Node(_) => &self.counters.cut_node,
                    Party::Replica => &self.counters.cut_replica,
                };
                counter.fetch_add(1, Relaxed);
                info!("the connection of {with} was cut: {stalled}");
            }
            // hyper's error says only that a body failed; its source says how.
            None => {
                let why = error.source().map(|source| format!(": {source}")).unwrap_or_default();
                debug!("the connection of {with} ended: {error}{why}");
            }
        }
    }
}
