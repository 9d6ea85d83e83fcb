//! Links are made and removed at both devices.

use shoal_protocol::node::{DialFailure, DialTarget, Input};

use super::event::Event;
use super::world::{CLOSE, World};

impl World {
    pub(super) fn dialled(&mut self, device: usize, target: DialTarget, peer: Option<usize>) {
        let how = match peer {
            None => DialFailure::TimedOut,
            Some(peer) if !self.network.open(device, peer) || !self.devices[peer].is_on => {
                DialFailure::TimedOut
            }
            Some(peer) if self.devices[peer].node.is_none() => DialFailure::Refused,
            // The kernel accepts the connection, but the stopped daemon never answers.
            Some(peer) if self.devices[peer].inbox.busy_until > self.now + 2_000_000 => {
                DialFailure::TimedOut
            }
            Some(peer) if self.devices[peer].id == self.devices[device].id => {
                DialFailure::Stranger("that is this node itself".into())
            }
            Some(peer) => {
                let link = self.devices[device].links.get(&peer);
                // Both ends dialled at once, and the other dial has made the link. This connection
                // is closed without a report.
                if link.is_some() && link == self.devices[peer].links.get(&device) {
                    return;
                }
                self.link(device, peer);
                return;
            }
        };
        self.input(device, Input::DialFailed { target, how });
    }

    /// Makes a link. It replaces a link that only one side still has, or one to the other device of
    /// a cloned key.
    fn link(&mut self, one: usize, other: usize) {
        self.links += 1;
        let link = self.links;
        for (device, peer) in [(one, other), (other, one)] {
            let twins = self.ids.get(&self.devices[peer].id).cloned().unwrap_or_default();
            for old in twins {
                if let Some(&link) = self.devices[device].links.get(&old) {
                    self.schedule(
                        self.now + CLOSE,
                        Event::Closed { device: old, peer: device, link },
                    );
                    self.unlinked(device, old);
                }
            }
        }
        self.network.begin(one, other);
        self.devices[one].links.insert(other, link);
        self.devices[other].links.insert(one, link);
        self.hash_event(one, "link up");
        self.log(one, format!("link to n{other} is up"));
        let (one_id, other_id) = (self.devices[one].id, self.devices[other].id);
        self.input(one, Input::LinkUp { peer: other_id, dialled: true });
        self.input(other, Input::LinkUp { peer: one_id, dialled: false });
    }

    /// Removes a link at one device, and informs its daemon.
    pub(super) fn unlinked(&mut self, device: usize, peer: usize) {
        if self.devices[device].links.remove(&peer).is_some() {
            self.hash_event(device, "link down");
            self.log(device, format!("link to n{peer} is gone"));
            let peer = self.devices[peer].id;
            self.input(device, Input::LinkDown { peer });
        }
    }
}
