//! Daemons end, by a kill or by a power cut. Only the latter ends containers, too.

use shoal_protocol::model::Lane;

use super::engine::EngineState;
use super::event::Event;
use super::network::below;
use super::world::{CLOSE, World};

impl World {
    /// kill -9: peers see their links close.
    pub fn kill(&mut self, device: usize) {
        self.stop(device, true);
    }

    /// A power cut: peers get no sign of it.
    pub fn unplug(&mut self, device: usize) {
        self.stop(device, false);
        let it = &mut self.devices[device];
        it.is_on = false;
        it.engine.end_all();
        it.engine.turn(EngineState::Gone);
    }

    /// Ends the daemon. Only after a kill the kernel closes the links.
    pub(super) fn stop(&mut self, device: usize, is_kill: bool) {
        if self.node(device).is_none() {
            return;
        }
        self.log(device, if is_kill { "is killed" } else { "is unplugged" });
        self.hash_event(device, if is_kill { "kill" } else { "unplug" });
        // Pending writes may have reached the disk.
        let pending = self.devices[device].disk.pending.len() as u64;
        let (kept, full) = (below(&mut self.rng, pending + 1), self.devices[device].disk.is_ill());
        for _ in 0..if full { 0 } else { kept } {
            self.watch_commit(device);
            self.devices[device].disk.commit();
        }
        let it = &mut self.devices[device];
        it.disk.pending.clear();
        it.forget_process();
        let links = std::mem::take(&mut it.links);
        for (peer, link) in links {
            if is_kill && self.network.leads(device, peer) && !self.is_dead_link(link) {
                // The kernel sends its buffers and closes in order, or resets the link if received
                // data is unread.
                let in_order = below(&mut self.rng, 2) == 0;
                let at = self.network.stream(self.now, device, peer, Lane::Urgent, &mut self.rng);
                let at = at.filter(|_| in_order).unwrap_or(self.now + CLOSE);
                self.schedule(at, Event::Closed { device: peer, peer: device, link });
            }
        }
        self.watch_disk(device);
    }
}
