//! The handler of each event.

use shoal_protocol::model::{Digest, InstanceState, Place, ReplicaId};
use shoal_protocol::node::{Input, OwnAddresses, Report, Ticket};

use super::device::FailureMode;
use super::engine::EngineState;
use super::event::Event;
use super::network::below;
use super::rumour::Relay;
use super::world::{CLOSE, World};

impl World {
    /// Handles an event. Returns the device whose state may have changed.
    pub(super) fn handle(&mut self, event: Event) -> Option<usize> {
        match event {
            Event::Timer { device, boot } => {
                self.alive(device, boot)?;
                // An earlier timer was set meanwhile and has been handled.
                if self.devices[device].timer.is_none_or(|at| at > self.now) {
                    return None;
                }
                self.devices[device].timer = None;
                let now = self.local_time(device);
                self.devices[device].node.as_mut()?.handle_timeout(now);
                self.drain(device);
                Some(device)
            }
            Event::Wake { device, boot } => {
                self.alive(device, boot)?;
                self.wake(device)
            }
            Event::Message { from, to, link, message } => {
                self.over_link(from, to, link)?;
                self.hash_event(to, message.kind());
                self.watch_heard(to, from, link, &message);
                let message = self.overhears(to, from, message)?;
                let from = self.devices[from].id;
                self.input(to, Input::Message { from, message });
                Some(to)
            }
            Event::OtherVersion { from, to, link } => {
                self.over_link(from, to, link)?;
                let (from, why) = (
                    self.devices[from].id,
                    "a message of a kind that only newer versions know".to_owned(),
                );
                self.input(to, Input::OtherVersion { from, why });
                Some(to)
            }
            Event::Garbage { from, to, link } => {
                self.over_link(from, to, link)?;
                let (from, why) = (self.devices[from].id, "no message".to_owned());
                self.input(to, Input::Garbage { from, why });
                Some(to)
            }
            Event::Gossip { from, to, hops, rumour } => {
                if self.devices[to].node.is_none() || !self.devices[to].seen.insert(rumour.id) {
                    return None;
                }
                self.meter.reaches(self.now, &rumour, hops);
                self.hash_event(to, rumour.message.kind());
                let message = self.overhears(to, from, rumour.message.clone())?;
                self.tickets += 1;
                let ticket = Ticket(self.tickets);
                self.relays.insert(ticket.0, Relay { at: to, from, hops, rumour });
                let from = self.devices[from].id;
                self.input(to, Input::Gossip { ticket, from, message });
                Some(to)
            }
            Event::Dialled { device, boot, target, peer, moves } => {
                self.alive(device, boot)?;
                // If one end has moved since, the answer does not arrive.
                let has_moved =
                    moves != [device, peer.unwrap_or(device)].map(|it| self.devices[it].moves);
                let peer = peer.filter(|_| !has_moved);
                self.dialled(device, target, peer);
                Some(device)
            }
            Event::Moved { device, boot } => {
                self.alive(device, boot)?;
                let own = OwnAddresses {
                    addresses: vec![self.address_of(device)],
                    trouble: None,
                    moved: true,
                };
                self.input(device, Input::Addresses(own));
                let links: Vec<_> =
                    self.devices[device].links.iter().map(|(peer, link)| (*peer, *link)).collect();
                for (peer, _) in links
                    .into_iter()
                    .filter(|(_, link)| self.dead_links.contains(link))
                    .collect::<Vec<_>>()
                {
                    self.unlinked(device, peer);
                }
                Some(device)
            }
            Event::Closed { device, peer, link } => {
                if self.devices[device].node.is_none()
                    || self.devices[device].links.get(&peer) != Some(&link)
                {
                    return None;
                }
                self.unlinked(device, peer);
                Some(device)
            }
            Event::Synced { device, boot } => {
                self.alive(device, boot)?;
                self.synced(device);
                Some(device)
            }
            Event::Probe { device, boot, looks } => {
                self.alive(device, boot)?;
                self.probe(device, looks);
                Some(device)
            }
            Event::Started { device, boot, replica, start } => {
                self.alive(device, boot)?;
                self.started(device, replica, start)
            }
            Event::Stopped { device, boot, replica, generation } => {
                self.alive(device, boot)?;
                self.devices[device].runtime.ending.remove(&replica);
                if self.devices[device].runtime.replicas.contains_key(&replica) {
                    return None; // it was told to run again meanwhile
                }
                let state = InstanceState::Stopped;
                self.input(device, Input::Report(Report { replica, generation, state }));
                Some(device)
            }
            Event::Cleared { device, boot, replica, generation } => {
                self.alive(device, boot)?;
                let why = "stopped: its replacement starts when it is gone";
                let state = InstanceState::Failed { reason: why.into(), retryable: false };
                self.input(device, Input::Report(Report { replica, generation, state }));
                Some(device)
            }
            Event::Ready { device, boot, replica } => {
                self.alive(device, boot)?;
                self.turn_ready(device, replica);
                Some(device)
            }
            Event::Again { device, boot, replica, generation } => {
                self.alive(device, boot)?;
                self.started_again(device, replica, generation);
                Some(device)
            }
            Event::Died { device, boot, replica, start } => {
                self.alive(device, boot)?;
                let runtime = &mut self.devices[device].runtime;
                let running =
                    runtime.replicas.get_mut(&replica).filter(|running| running.start == start)?;
                if running.healthy && runtime.failure_mode != FailureMode::Dies {
                    return None; // whatever was to kill it is over
                }
                running.healthy = false;
                let generation = running.generation;
                self.failed(device, replica, generation, "it ended by itself");
                Some(device)
            }
            Event::Ended { device, boot, replica, start } => {
                self.alive(device, boot)?;
                self.ended(device, replica, start)
            }
            Event::Life { device, boot, id, number } => {
                self.alive(device, boot)?;
                self.live(device, id, number)
            }
            Event::Pulls { device, boot, id, number } => {
                self.alive(device, boot)?;
                self.tell_pull(device, id, number)
            }
            Event::Look { device, boot } => {
                self.alive(device, boot)?;
                self.look(device)
            }
            Event::Strays { device, boot, is_first } => {
                self.alive(device, boot)?;
                self.stop_strays(device, is_first)
            }
            Event::Facts { device, boot } => {
                self.alive(device, boot)?;
                self.tell_facts(device)
            }
            Event::Starts { device, container } => {
                self.starts(device, container);
                None
            }
            Event::CarriesOut { device } => {
                self.devices[device].engine.carry_out();
                None
            }
            Event::Exits { device, container } => {
                // Unless whatever was to end it is over.
                if self.devices[device].runtime.failure_mode == FailureMode::Dies {
                    self.exits(device, container);
                }
                None
            }
            Event::EngineUp { device, turns } => {
                if self.devices[device].engine.turns == turns {
                    self.turn_engine(device, EngineState::Works, true);
                }
                None
            }
            Event::Fetched { device, boot, digest, from } => {
                self.alive(device, boot)?;
                self.fetched(device, digest, from);
                Some(device)
            }
            Event::ClockSet { device, boot } => {
                self.alive(device, boot)?;
                let wall = self.devices[device].clock.wall(self.now);
                self.input(device, Input::WallClock(wall));
                Some(device)
            }
            Event::Flap { one, other, every } => {
                let until = *self.network.flaps.get(&(one, other))?;
                let is_cut = !self.network.open(one, other);
                for way in [(one, other), (other, one)] {
                    if is_cut { self.heal_way(way) } else { self.cut_way(way) }
                }
                if self.now < until || !is_cut {
                    self.schedule(self.now + every, Event::Flap { one, other, every });
                } else {
                    self.network.flaps.remove(&(one, other));
                }
                None
            }
            Event::Lies { device } => {
                self.lie(device);
                None
            }
            Event::Back { device, cut } => {
                cut.into_iter().for_each(|way| self.heal_way(way));
                self.log(device, "is back");
                None
            }
        }
    }

    /// Checks that the receiver knows the link. If it does not, its kernel closes the sender's end.
    fn over_link(&mut self, from: usize, to: usize, link: u64) -> Option<()> {
        if self.is_dead_link(link) {
            return None;
        }
        if self.devices[to].node.is_some() && self.devices[to].links.get(&from) == Some(&link) {
            return Some(());
        }
        if self.devices[to].is_on && self.network.leads(to, from) {
            self.schedule(self.now + CLOSE, Event::Closed { device: from, peer: to, link });
        }
        None
    }

    /// Handles the waiting events: all of them, or the first one on a slow device.
    fn wake(&mut self, device: usize) -> Option<usize> {
        if self.now < self.devices[device].inbox.busy_until {
            return None; // it was stopped once more
        }
        let now = self.local_time(device);
        if let Some(late) = self.devices[device].lateness(now).filter(|late| late.as_millis() > 50)
        {
            self.input(device, Input::Lag(late));
        }
        let boot = self.devices[device].boot;
        while let Some(next) = self.devices[device].inbox.pop() {
            self.handle(next);
            self.alive(device, boot)?;
            if self.stay_busy(device) {
                break;
            }
        }
        // The timer may have been due while the device was busy.
        if self.devices[device].inbox.is_empty() {
            self.set_timer(device);
        }
        Some(device)
    }

    /// Keeps a slow device busy after an event. Returns whether it is slow.
    pub(super) fn stay_busy(&mut self, device: usize) -> bool {
        let (now, boot) = (self.now, self.devices[device].boot);
        let inbox = &mut self.devices[device].inbox;
        if inbox.slowness == 0 {
            return false;
        }
        inbox.busy_until = inbox.busy_until.max(now + inbox.slowness);
        let at = inbox.busy_until;
        self.schedule(at, Event::Wake { device, boot });
        true
    }

    fn started(&mut self, device: usize, replica: ReplicaId, start: u64) -> Option<usize> {
        let (boot, failure_mode) =
            (self.devices[device].boot, self.devices[device].runtime.failure_mode);
        let running = self.devices[device]
            .runtime
            .replicas
            .get_mut(&replica)
            .filter(|it| it.start == start)?;
        let generation = running.generation;
        match failure_mode {
            // What serves already need not start.
            FailureMode::Fails if !running.healthy => {
                self.failed(device, replica, generation, "it does not start")
            }
            FailureMode::Hangs if !running.healthy => return None,
            FailureMode::Works | FailureMode::Dies | FailureMode::Fails | FailureMode::Hangs => {
                (running.healthy, running.old, running.unready) = (true, None, None);
                if failure_mode == FailureMode::Dies {
                    let after = 1 + below(&mut self.rng, 3_000_000);
                    self.schedule(self.now + after, Event::Died { device, boot, replica, start });
                }
                self.supersede(device, &replica);
                self.input(
                    device,
                    Input::Report(Report { replica, generation, state: InstanceState::Running }),
                );
                if matches!(replica.place, Place::Run { .. }) {
                    let after = 100_000 + below(&mut self.rng, 4_000_000);
                    self.schedule(self.now + after, Event::Ended { device, boot, replica, start });
                }
            }
        }
        Some(device)
    }

    /// The program of a replica of a job ends: well, unless this device lets programs die.
    fn ended(&mut self, device: usize, replica: ReplicaId, start: u64) -> Option<usize> {
        let runtime = &mut self.devices[device].runtime;
        let dies = runtime.failure_mode != FailureMode::Works;
        let running = runtime.replicas.get_mut(&replica);
        let running = running.filter(|it| it.start == start && it.healthy)?;
        running.healthy = false;
        let generation = running.generation;
        let state =
            InstanceState::Done { exit_code: if dies { 3 } else { 0 }, lines: vec!["end".into()] };
        self.ends.push((device, replica, generation));
        self.input(device, Input::Report(Report { replica, generation, state }));
        Some(device)
    }

    fn failed(&mut self, device: usize, replica: ReplicaId, generation: Digest, reason: &str) {
        let state = InstanceState::Failed { reason: reason.into(), retryable: true };
        self.input(device, Input::Report(Report { replica, generation, state }));
    }
}
