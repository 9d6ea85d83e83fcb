//! Carries out the effects of a daemon: the simulator's driver. One match, without a wildcard.

use std::sync::Arc;

use shoal_protocol::model::spec::Order as UpdateOrder;
use shoal_protocol::model::{Digest, Lane, NodeId, ProgramKind};
use shoal_protocol::node::{
    Action, Command, DialTarget, Effect, Input, Node, Order, PersistId, Record, RequestId, Verdict,
};
use shoal_protocol::wire;

use super::device::Running;
use super::event::Event;
use super::meter::Notification;
use super::network::{Gossip, below};
use super::rumour::{Relay, Rumour};
use super::world::{Answered, CLOSE, World, index_of};

/// How long a dial waits for an answer, microseconds.
const DIAL_TIMEOUT: u64 = 2_000_000;
/// Mesh degree of gossipsub.
const DEGREE: usize = 6;
/// Of a thousand messages of a newer version, this many have a form that the others cannot decode.
const NEWER: u64 = 50;

impl World {
    /// Gives a daemon an input and carries out its effects.
    pub fn input(&mut self, device: usize, input: Input) {
        let now = self.local_time(device);
        self.watch_input(device, &input);
        if let Some(node) = &mut self.devices[device].node {
            node.handle(now, input);
            self.drain(device);
        }
    }

    /// Sends a command to a device's daemon; none if none runs.
    pub fn command(&mut self, device: usize, command: Command) -> Option<RequestId> {
        self.node(device)?;
        self.requests += 1;
        let request = RequestId(self.requests);
        self.input(device, Input::Command { request, command });
        Some(request)
    }

    /// Carries out all effects of a daemon, then schedules its timer.
    pub(super) fn drain(&mut self, device: usize) {
        while let Some(Effect { after, action }) =
            self.devices[device].node.as_mut().and_then(Node::poll_effect)
        {
            if self.dies_now(device) {
                return;
            }
            self.hash_effect(device, &action);
            self.watch_ask(device, &action);
            match after {
                Some(batch) => self.devices[device].held.entry(batch).or_default().push(action),
                None => self.act(device, action),
            }
        }
        self.set_timer(device);
    }

    /// Counts an effect against `dies_after`. Returns whether the daemon dies instead of it.
    fn dies_now(&mut self, device: usize) -> bool {
        let Some(left) = &mut self.devices[device].dies_after else { return false };
        let is_over = *left == 0;
        *left = left.saturating_sub(1);
        if is_over {
            self.kill(device);
        }
        is_over
    }

    pub(super) fn set_timer(&mut self, device: usize) {
        let it = &mut self.devices[device];
        let Some((due, _)) = it.node.as_ref().and_then(Node::poll_timeout) else { return };
        let due = it.clock.moment_of(due).max(self.now);
        if it.timer.is_none_or(|set| due < set || set < self.now) {
            it.timer = Some(due);
            let boot = it.boot;
            self.schedule(due, Event::Timer { device, boot });
        }
    }

    fn act(&mut self, device: usize, action: Action) {
        let Some(action) = self.lets_out(device, action) else { return };
        self.watch_act(device, &action);
        match action {
            Action::Send { to, lane, message } => {
                let Some(to) = self.linked(device, to) else { return };
                let link = self.devices[device].links[&to];
                self.meter.sends(device, &message);
                if self.devices[device].is_newer && below(&mut self.rng, 1000) < NEWER {
                    self.stream(device, to, lane, Event::OtherVersion { from: device, to, link });
                }
                self.stream(device, to, lane, Event::Message { from: device, to, link, message });
            }
            Action::Broadcast(message) => {
                let rumour = Rumour::new(self.now, message);
                self.devices[device].seen.insert(rumour.id);
                self.relay(device, device, 1, &rumour);
            }
            Action::Dial { target, addresses } => self.dial(device, target, &addresses),
            // No simulated seed is a domain name.
            Action::Resolve { .. } => {}
            Action::Disconnect(peer) => {
                if let Some(peer) = self.linked(device, peer) {
                    self.close(device, peer);
                }
            }
            Action::Persist { id, records } => self.persist(device, id, records),
            Action::Order(order) => self.order(device, order),
            Action::Fetch { artifact, pieces: _, runtime: _, candidates } => {
                self.fetch(device, artifact.digest, &candidates);
            }
            Action::Reply { request, reply } => self.answers.push_back(Answered { request, reply }),
            Action::Verdict { ticket, verdict } => {
                let Relay { at, from, hops, rumour } =
                    self.relays.remove(&ticket.0).expect("one verdict a ticket");
                assert_eq!(at, device, "a verdict by another node");
                match verdict {
                    Verdict::Accept => self.relay(device, from, hops + 1, &rumour),
                    Verdict::Ignore | Verdict::Reject => {}
                }
            }
            Action::Notify(event) => {
                if self.meter.is_on {
                    let (kind, subject, node) =
                        (event.kind.clone(), event.subject.clone(), event.node.clone());
                    self.meter.notifications.push(Notification {
                        at: self.now,
                        device,
                        kind,
                        subject,
                        node,
                    });
                }
                let it = &mut self.devices[device];
                it.is_member |=
                    event.kind == "node-admitted" && event.node == Some(it.name.clone());
                it.was_ready |= event.kind == "ready";
                self.count_event(device, &event);
                let subject =
                    event.subject.map(|subject| format!("{subject}: ")).unwrap_or_default();
                let about = event.node.map(|node| format!(" ({node})")).unwrap_or_default();
                self.log(device, format!("{}{about} {subject}{}", event.kind, event.message));
            }
        }
    }

    /// The device with id `to` that `device` is linked to; clones share an id.
    fn linked(&self, device: usize, to: NodeId) -> Option<usize> {
        let links = &self.devices[device].links;
        self.ids.get(&to)?.iter().copied().find(|to| links.contains_key(to))
    }

    pub(super) fn stream(&mut self, from: usize, to: usize, lane: Lane, packet: Event) {
        if self.network.leads(from, to) {
            if let Some(at) = self.network.stream(self.now, from, to, lane, &mut self.rng) {
                self.schedule(at, packet);
            }
        } else {
            self.network.stall(from, to, packet);
        }
    }

    pub(super) fn relay(&mut self, device: usize, origin: usize, hops: u32, rumour: &Arc<Rumour>) {
        for to in self.gossip_peers(device, origin) {
            self.meter.relays(device, rumour);
            let late = match self.network.gossip {
                Gossip::Fair => 0,
                Gossip::Late(by) => by,
                Gossip::Lost => continue,
            };
            let twice = self.network.is_doubled(device, to, &mut self.rng);
            for _ in 0..=usize::from(twice) {
                if let Some(at) = self.network.packet(self.now, device, to, &mut self.rng) {
                    self.schedule(
                        at + late,
                        Event::Gossip { from: device, to, hops, rumour: Arc::clone(rumour) },
                    );
                }
            }
        }
    }

    /// The peers to which gossip is relayed: with a mesh those of the mesh, else some drawn at
    /// random, so that much gossip is lost.
    fn gossip_peers(&mut self, device: usize, origin: usize) -> Vec<usize> {
        let links = &self.devices[device].links;
        let leads = |link: &u64| !self.is_dead_link(*link);
        let alive = links.iter().filter(|(peer, link)| **peer != origin && leads(link));
        let mut peers: Vec<usize> = alive.map(|(peer, _)| *peer).collect();
        if self.network.is_meshed {
            peers.retain(|peer| {
                self.is_grafted(device, links[peer]) || self.is_grafted(*peer, links[peer])
            });
            return peers;
        }
        while peers.len() > DEGREE {
            let index = below(&mut self.rng, peers.len() as u64) as usize;
            peers.swap_remove(index);
        }
        peers
    }

    /// Whether a device has taken one of its links into its mesh. Each device takes as many as
    /// gossipsub does, and keeps them.
    fn is_grafted(&self, device: usize, link: u64) -> bool {
        let lot = |link: u64| link.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.devices[device].links.values().filter(|other| lot(**other) < lot(link)).count()
            < DEGREE
    }

    pub(super) fn dial(&mut self, device: usize, target: DialTarget, addresses: &[String]) {
        let boot = self.devices[device].boot;
        // A dial to an address that the device has left gets no answer.
        let is_there = |(peer, moves): &(usize, u32)| {
            self.devices.get(*peer).is_some_and(|it| it.moves == *moves)
        };
        let peer = addresses
            .iter()
            .filter_map(|address| index_of(address))
            .find(is_there)
            .map(|(peer, _)| peer);
        let peer =
            peer.filter(|peer| self.network.open(device, *peer) && self.devices[*peer].is_on);
        let after = match peer {
            // A handshake takes some four round trips; a refusal arrives after one.
            Some(peer) if self.node(peer).is_some() => {
                8 * self.network.min_delay(device, peer) + 500
            }
            Some(peer) => 2 * self.network.min_delay(device, peer) + 300,
            None => DIAL_TIMEOUT,
        };
        let moves = [device, peer.unwrap_or(device)].map(|it| self.devices[it].moves);
        self.schedule(self.now + after, Event::Dialled { device, boot, target, peer, moves });
    }

    fn persist(&mut self, device: usize, id: PersistId, records: Vec<Record>) {
        let boot = self.devices[device].boot;
        self.devices[device].disk.pending.push_back((id, records));
        let after = self.fsync / 2 + below(&mut self.rng, self.fsync.max(1));
        self.schedule(self.now + after, Event::Synced { device, boot });
    }

    pub(super) fn synced(&mut self, device: usize) {
        let (now, boot) = (self.now, self.devices[device].boot);
        let disk = &mut self.devices[device].disk;
        if disk.pending.is_empty() {
            return;
        }
        if disk.stalled_until > now {
            let until = disk.stalled_until;
            return self.schedule(until, Event::Synced { device, boot });
        }
        if disk.full {
            disk.pending.clear();
            disk.failed = true;
            // Effects that waited for the batch must not happen: the batch is not on disk.
            self.devices[device].held.clear();
            self.probe_later(device, 0);
            let why = "no space left on device".into();
            return self.input(device, Input::StoreFailed { why });
        }
        self.watch_commit(device);
        let Some(upto) = self.devices[device].disk.commit() else { return };
        // The effects that waited come first, then the core learns that the batch is durable. The
        // daemon may die at any of them.
        while let Some(batch) =
            self.devices[device].held.first_entry().filter(|batch| *batch.key() <= upto)
        {
            for action in batch.remove() {
                if self.dies_now(device) {
                    return;
                }
                self.act(device, action);
            }
        }
        self.input(device, Input::Stored { upto });
    }

    /// Schedules the next probe of a failed disk, with the growing delay of the real daemon.
    fn probe_later(&mut self, device: usize, looks: u32) {
        let (boot, after) =
            (self.devices[device].boot, (1_000_000 << looks.min(5)).min(30_000_000));
        self.schedule(self.now + after, Event::Probe { device, boot, looks });
    }

    pub(super) fn probe(&mut self, device: usize, looks: u32) {
        let now = self.now;
        let disk = &mut self.devices[device].disk;
        if disk.full || disk.stalled_until > now {
            return self.probe_later(device, looks + 1);
        }
        if std::mem::take(&mut disk.failed) {
            self.log(device, "its disk takes writes again");
            self.input(device, Input::StoreRecovered);
        }
    }

    fn order(&mut self, device: usize, order: Order) {
        let boot = self.devices[device].boot;
        match order {
            Order::Run { replica, name: _, generation, spec } => {
                assert!(
                    spec.program
                        .artifacts()
                        .all(|it| self.devices[device].artifacts.contains(&it.digest)),
                    "an order for bytes that are not here"
                );
                if spec.program.kind() == ProgramKind::Container {
                    return self.run_container(device, (replica, generation), &spec);
                }
                let runs = self.devices[device].runtime.replicas.get(&replica);
                if let Some(it) = runs.filter(|it| it.healthy && it.generation == generation) {
                    // A repeated order changes nothing; the runtime reports the state once more.
                    let start = it.start;
                    return self.schedule(
                        self.now + 1_000,
                        Event::Started { device, boot, replica, start },
                    );
                }
                let serves = runs.and_then(|it| it.healthy.then_some(it.generation).or(it.old));
                self.starts += 1;
                let start = self.starts;
                let healthy = serves == Some(generation);
                let old = serves.filter(|_| !healthy);
                let stops_first =
                    spec.rollout().is_some_and(|it| it.order == UpdateOrder::StopFirst);
                let (old, cleared) = if stops_first { (None, old) } else { (old, None) };
                let unready = runs.and_then(|it| it.unready);
                let (again, image) = (None, None);
                let running = Running { generation, healthy, old, unready, again, start, image };
                self.devices[device].runtime.replicas.insert(replica, running);
                self.supersede(device, &replica);
                if let Some(generation) = cleared {
                    let cleared = Event::Cleared { device, boot, replica, generation };
                    self.schedule(self.now + 500, cleared);
                }
                let after = 1_000 + below(&mut self.rng, 30_000);
                self.schedule(self.now + after, Event::Started { device, boot, replica, start });
            }
            Order::Again { replica, generation } => self.run_again(device, replica, generation),
            Order::Stop { replica } => {
                let was = self.devices[device].runtime.replicas.remove(&replica);
                if self.stop_containers(device, &replica) {
                    return;
                }
                self.devices[device].runtime.ending.insert(replica);
                let generation = was.map_or(Digest([0; 32]), |it| it.generation);
                let after = 1_000 + below(&mut self.rng, 5_000);
                let stopped = Event::Stopped { device, boot, replica, generation };
                self.schedule(self.now + after, stopped);
            }
        }
    }

    /// Closes a link. The peer learns of it if the way to it is open.
    pub(super) fn close(&mut self, device: usize, peer: usize) {
        let Some(link) = self.devices[device].links.get(&peer).copied() else { return };
        self.schedule(self.now, Event::Closed { device, peer, link });
        if self.network.leads(device, peer) && !self.is_dead_link(link) {
            self.schedule(self.now + CLOSE, Event::Closed { device: peer, peer: device, link });
        }
    }

    /// Adds an effect to the history's hash; messages count with their encoded bytes.
    fn hash_effect(&mut self, device: usize, action: &Action) {
        if !self.is_hashed {
            return;
        }
        let bytes = match action {
            Action::Send { message, .. } | Action::Broadcast(message) => wire::encode(message),
            Action::Dial { .. }
            | Action::Resolve { .. }
            | Action::Disconnect(_)
            | Action::Persist { .. }
            | Action::Order(_)
            | Action::Fetch { .. }
            | Action::Reply { .. }
            | Action::Verdict { .. }
            | Action::Notify(_) => format!("{action:?}").into_bytes(),
        };
        let at = [self.now.to_be_bytes(), (device as u64).to_be_bytes()].concat();
        self.history = Digest::of_parts(&[self.history.as_bytes(), &at, &bytes]);
    }
}
