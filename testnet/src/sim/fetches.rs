//! Daemons fetch artifacts from one another.

use shoal_protocol::model::{Digest, NodeId};
use shoal_protocol::node::{FetchOutcome, Input};

use super::event::Event;
use super::network::below;
use super::world::World;

impl World {
    /// Looks for a device that gives an artifact: the device itself, or a candidate that it
    /// reaches. The fetch ends in a moment.
    pub(super) fn fetch(&mut self, device: usize, digest: Digest, candidates: &[NodeId]) {
        let holds = |index: &usize| self.devices[*index].artifacts.contains(&digest);
        let (from, after) = if holds(&device) {
            (Some(device), 1_000)
        } else {
            let mut asked = candidates.iter().filter_map(|id| self.ids.get(id)).flatten().copied();
            let from = asked.find(|index| holds(index) && self.gives(*index, device));
            (from, 10_000 + below(&mut self.rng, 50_000))
        };
        let boot = self.devices[device].boot;
        self.schedule(self.now + after, Event::Fetched { device, boot, digest, from });
    }

    /// Ends a fetch. A giver that was revoked or stopped meanwhile has not given the last piece.
    pub(super) fn fetched(&mut self, device: usize, digest: Digest, from: Option<usize>) {
        let outcome = match from {
            Some(from) if from == device || self.serves(from, device) => {
                self.devices[device].artifacts.insert(digest);
                FetchOutcome::Ready
            }
            _ => FetchOutcome::Failed("no candidate has it".into()),
        };
        self.input(device, Input::Fetched { digest, outcome });
    }

    /// Whether a device reaches another one to fetch from it: directly, or relayed by one that
    /// reaches both.
    fn gives(&self, from: usize, device: usize) -> bool {
        let over = |hop: usize| {
            self.serves(hop, device)
                && self.network.open(device, hop)
                && self.network.open(hop, from)
        };
        self.serves(from, device)
            && (self.network.open(device, from) || (0..self.devices.len()).any(over))
    }

    /// Whether a device runs, and another one has not heard that it was revoked.
    fn serves(&self, from: usize, device: usize) -> bool {
        let key = self.devices[from].id.into();
        self.node(from).is_some() && self.node(device).is_some_and(|node| !node.is_revoked(&key))
    }
}
