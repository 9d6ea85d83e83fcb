//! Scheduled events.

use std::collections::BTreeMap;
use std::sync::Arc;

use shoal_protocol::model::{Digest, ReplicaId};
use shoal_protocol::node::{DialTarget, Message};

use super::engine::Id;
use super::rumour::Rumour;

/// A scheduled event. `boot` is the start of the daemon that it belongs to.
pub enum Event {
    /// A timer of the daemon is due.
    Timer { device: usize, boot: u32 },
    /// The device can handle waiting events again.
    Wake { device: usize, boot: u32 },
    /// A message arrives over a link.
    Message { from: usize, to: usize, link: u64, message: Message },
    /// A message arrives that this version cannot decode.
    OtherVersion { from: usize, to: usize, link: u64 },
    /// Bytes arrive that are no message of any version.
    Garbage { from: usize, to: usize, link: u64 },
    /// A gossip message arrives.
    Gossip { from: usize, to: usize, hops: u32, rumour: Arc<Rumour> },
    /// A dial has ended. `moves` are the move counts of both ends when it began.
    Dialled { device: usize, boot: u32, target: DialTarget, peer: Option<usize>, moves: [u32; 2] },
    /// A daemon learns that its device has another address.
    Moved { device: usize, boot: u32 },
    /// A device learns that a link is closed.
    Closed { device: usize, peer: usize, link: u64 },
    /// A write to disk has ended, or could not be done.
    Synced { device: usize, boot: u32 },
    /// A daemon probes a failed disk; `looks` earlier probes have failed.
    Probe { device: usize, boot: u32, looks: u32 },
    /// The start of a replica has ended.
    Started { device: usize, boot: u32, replica: ReplicaId, start: u64 },
    /// A running replica ends.
    Died { device: usize, boot: u32, replica: ReplicaId, start: u64 },
    /// The program of a replica of a job comes to its end.
    Ended { device: usize, boot: u32, replica: ReplicaId, start: u64 },
    /// A replica that was told to stop is gone.
    Stopped { device: usize, boot: u32, replica: ReplicaId, generation: Digest },
    /// The old instance of a replica is gone, as its update has it: the new one starts.
    Cleared { device: usize, boot: u32, replica: ReplicaId, generation: Digest },
    /// A replica that was not ready is ready.
    Ready { device: usize, boot: u32, replica: ReplicaId },
    /// The old version of a replica was started again.
    Again { device: usize, boot: u32, replica: ReplicaId, generation: Digest },
    /// The next step of an instance in a container is due.
    Life { device: usize, boot: u32, id: Id, number: u64 },
    /// An image takes long to come.
    Pulls { device: usize, boot: u32, id: Id, number: u64 },
    /// A daemon looks at its engine's list.
    Look { device: usize, boot: u32 },
    /// A daemon looks for containers that nobody ordered.
    Strays { device: usize, boot: u32, is_first: bool },
    /// A daemon looks whether its engine is there.
    Facts { device: usize, boot: u32 },
    /// An engine has started a container.
    Starts { device: usize, container: u64 },
    /// An engine carries out an order that it took while it hung.
    CarriesOut { device: usize },
    /// A container ends by itself.
    Exits { device: usize, container: u64 },
    /// An engine is up after its device got power, if it has not changed since.
    EngineUp { device: usize, turns: u32 },
    /// A fetch of an artifact has ended, from the device that gave it.
    Fetched { device: usize, boot: u32, digest: Digest, from: Option<usize> },
    /// A daemon notices that its clock was set.
    ClockSet { device: usize, boot: u32 },
    /// A flapping way opens or closes, and does so again after `every`, microseconds.
    Flap { one: usize, other: usize, every: u64 },
    /// A lying device forges its next statements.
    Lies { device: usize },
    /// A suspended device is back; the listed ways are healed.
    Back { device: usize, cut: Vec<(usize, usize)> },
}

impl Event {
    /// The device that handles this event; none for events of the network.
    pub fn device(&self) -> Option<usize> {
        match self {
            Event::Timer { device, .. }
            | Event::Wake { device, .. }
            | Event::Dialled { device, .. }
            | Event::Moved { device, .. }
            | Event::Closed { device, .. }
            | Event::Synced { device, .. }
            | Event::Probe { device, .. }
            | Event::Started { device, .. }
            | Event::Died { device, .. }
            | Event::Ended { device, .. }
            | Event::Stopped { device, .. }
            | Event::Cleared { device, .. }
            | Event::Life { device, .. }
            | Event::Pulls { device, .. }
            | Event::Ready { device, .. }
            | Event::Again { device, .. }
            | Event::Look { device, .. }
            | Event::Strays { device, .. }
            | Event::Facts { device, .. }
            | Event::Fetched { device, .. }
            | Event::ClockSet { device, .. } => Some(*device),
            Event::Message { to, .. }
            | Event::OtherVersion { to, .. }
            | Event::Garbage { to, .. }
            | Event::Gossip { to, .. } => Some(*to),
            Event::Starts { .. }
            | Event::CarriesOut { .. }
            | Event::Exits { .. }
            | Event::EngineUp { .. }
            | Event::Flap { .. }
            | Event::Lies { .. }
            | Event::Back { .. } => None,
        }
    }

    /// Whether the event waits in the kernel's buffers while the device is busy.
    pub fn is_from_outside(&self) -> bool {
        matches!(
            self,
            Event::Message { .. }
                | Event::OtherVersion { .. }
                | Event::Garbage { .. }
                | Event::Gossip { .. }
        )
    }
}

/// Scheduled events by world time. Events of the same time come in the order of scheduling.
#[derive(Default)]
pub struct Queue {
    events: BTreeMap<(u64, u64), Event>,
    scheduled: u64,
}

impl Queue {
    pub fn push(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), event);
    }

    /// The time of the next event.
    pub fn next_at(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    pub fn pop(&mut self) -> Option<Event> {
        self.events.pop_first().map(|(_, event)| event)
    }
}
