//! Counts how often a healthy node is taken for dead, and how many replicas that moves. These are
//! counted, not forbidden. `docs/simulator.md` defines the counts.

use shoal_protocol::model::view::EventView;
use shoal_protocol::model::{Phase, ReplicaId, ReplicaName};

use super::world::World;

/// How often the health of the devices is sampled, microseconds.
const SAMPLE_EVERY: u64 = 100_000;
/// How long a past fault still explains a fall, microseconds: an observer's longest timeout is
/// three seconds, and a lost link is dialled again within ten.
const AFTERMATH: u64 = 10_000_000;

impl World {
    /// Samples the health of all devices before time advances to `until`.
    pub(super) fn sample_health(&mut self, until: u64) {
        let passed = until - self.failovers.sampled_at;
        if passed < SAMPLE_EVERY || self.watch.is_off {
            return;
        }
        self.failovers.sampled_at = until;
        let running = self.running();
        for (one, other) in self.network.cuts() {
            self.failovers.cut_at.insert((one.min(other), one.max(other)), until);
        }
        for device in 0..self.devices.len() {
            let heard = running
                .iter()
                .filter(|other| **other == device || self.network.open(device, **other))
                .count();
            let boot = self.devices[device].boot;
            let has_started = self.failovers.boots.insert(device, boot) != Some(boot);
            if has_started || 2 * heard <= running.len() || self.is_in_trouble(device) {
                self.failovers.troubled_at.insert(device, until);
            }
        }
        let well = running.iter().filter(|device| self.was_well(**device)).count() as u64;
        self.failovers.tally.ran += passed * running.len() as u64;
        self.failovers.tally.well += passed * well;
    }

    fn is_in_trouble(&self, device: usize) -> bool {
        let it = &self.devices[device];
        let is_busy =
            it.inbox.busy_until > self.now || it.inbox.slowness > 0 || !it.inbox.is_empty();
        let is_disk_ill = it.disk.is_ill() || it.disk.stalled_until > self.now;
        it.node.is_none()
            || is_busy
            || is_disk_ill
            || !it.clock.is_honest()
            || self.is_cloned(device)
            || it.liar.is_some()
            || it.is_revoked
    }

    /// Whether a device runs, and has had no trouble for [`AFTERMATH`].
    fn was_well(&self, device: usize) -> bool {
        let last = self.failovers.troubled_at.get(&device).copied().unwrap_or(0);
        let is_same = self.failovers.boots.get(&device) == Some(&self.devices[device].boot);
        is_same && !self.is_in_trouble(device) && self.now >= last + AFTERMATH
    }

    fn were_well_together(&self, one: usize, other: usize) -> bool {
        let last =
            self.failovers.cut_at.get(&(one.min(other), one.max(other))).copied().unwrap_or(0);
        self.was_well(one)
            && self.was_well(other)
            && self.network.open(one, other)
            && self.now >= last + AFTERMATH
    }

    /// Counts an event that a node reports, if it is a fall or an award.
    pub(super) fn count_event(&mut self, device: usize, event: &EventView) {
        if self.watch.is_off {
            return;
        }
        let Some(about) = event.node.as_ref().and_then(|name| self.device_named(name)) else {
            return;
        };
        match event.kind.as_str() {
            "node-up" => {
                self.failovers.called_down.remove(&(device, about));
            }
            "node-down" => {
                let is_well = self.were_well_together(device, about);
                let is_false = is_well
                    && self.witnesses(event).all(|witness| self.were_well_together(witness, about));
                self.failovers.called_down.insert((device, about), is_false);
                if is_false {
                    self.failovers.tally.falls += 1;
                    self.log(device, format!("n{about} is well: a false fall"));
                } else if is_well {
                    self.failovers.tally.misled += 1;
                }
            }
            "awarded" => {
                self.count_award(device, about, event.subject.as_deref().unwrap_or_default())
            }
            _ => {}
        }
    }

    /// The devices whose votes declared a node down.
    fn witnesses(&self, event: &EventView) -> impl Iterator<Item = usize> {
        let (_, names) = event.message.rsplit_once("(seen by ").unwrap_or_default();
        names.trim_end_matches(')').split(", ").filter_map(|name| self.device_named(name))
    }

    pub(super) fn device_named(&self, name: &str) -> Option<usize> {
        let device = name.strip_prefix('n')?.parse().ok()?;
        (device < self.devices.len()).then_some(device)
    }

    fn count_award(&mut self, owner: usize, winner: usize, name: &str) {
        let called_down = self.failovers.called_down.range((owner, 0)..=(owner, usize::MAX));
        let held: Vec<usize> = called_down
            .filter(|(_, is_false)| **is_false)
            .map(|((_, holder), _)| *holder)
            .collect();
        for holder in held {
            let runs = holder != winner && self.was_well(holder) && self.runs_well(holder, name);
            if runs {
                self.failovers.tally.failovers += 1;
                self.log(owner, format!("{name} runs well at n{holder}: a false failover"));
            }
        }
    }

    fn runs_well(&self, device: usize, name: &str) -> bool {
        let it = &self.devices[device];
        let runs = |replica: &ReplicaId| {
            it.runtime.replicas.get(replica).is_some_and(|running| running.healthy)
        };
        it.node.as_ref().is_some_and(|node| {
            let mut claims = node
                .own_claims()
                .filter(|claim| claim.phase == Phase::Healthy && runs(&claim.replica));
            claims.any(|claim| {
                let of = ReplicaName { workload: claim.name.clone(), place: claim.replica.place };
                of.to_string() == name
                    && node.generation(&claim.replica.uid) == Some(claim.generation)
            })
        })
    }
}
