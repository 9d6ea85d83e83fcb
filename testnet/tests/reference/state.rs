//! The reference: what an observer of all requests and faults would know. No clocks, no siblings,
//! no ring, no auctions.
//!
//! **The later of two writes wins**, wherever they were made, because clocks are right here. So the
//! writes of each name form a sequence. The values that a device may show are found from its end:
//! writes that the device may have received are possible, and the first one that it has received
//! for certain ends the search.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::step::{LONG, Request, Step, Twist, Workload};

/// An answer to a user's request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Answer {
    Accepted,
    NoSuchWorkload,
    Unplaceable,
    ReadOnly,
    NotJoined,
    Stale,
    Invalid,
    Busy,
    Full,
    /// No answer arrived.
    Nothing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    Runs,
    Paused,
    Stopped,
    /// Lost with its disk for good.
    Gone,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disk {
    Works,
    /// Full; the daemon notices when a write fails.
    Full,
    /// Full, and the daemon has noticed.
    ReadOnly,
}

#[derive(Clone)]
pub struct Device {
    pub life: Life,
    pub disk: Disk,
    /// Whether it is admitted for certain.
    pub is_member: bool,
    /// Whether it is on the far side of the cut, if there is one.
    pub is_far: bool,
}

/// How certain it is that a device has a write.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Knowledge {
    Possible,
    /// On its disk.
    Certain,
}

#[derive(Clone)]
pub struct Write {
    pub name: &'static str,
    /// The possible values; several if a scale depends on what the node had. None is a removal.
    pub values: BTreeSet<Option<Workload>>,
    pub via: usize,
    /// Devices that may have the write.
    pub known: BTreeMap<usize, Knowledge>,
}

/// The result of a write, as its author knows it.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    Accepted(Option<Workload>),
    Refused,
    /// The write may have been taken or not.
    Unknown,
}

#[derive(Clone)]
pub struct State {
    pub seed: u64,
    pub devices: Vec<Device>,
    pub is_cut: bool,
    pub is_gossip_lost: bool,
    pub writes: Vec<Write>,
    /// Allowed answers to the last request.
    pub allowed_answers: BTreeSet<Answer>,
    /// Whether the workload of the last request existed, if that is certain: a change keeps its
    /// uid, a new one gets another.
    pub was_there: Option<bool>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} devices, world {}", self.devices.len(), self.seed)
    }
}

impl State {
    pub fn new(seed: u64, size: usize) -> State {
        let device = Device { life: Life::Runs, disk: Disk::Works, is_member: true, is_far: false };
        let devices = vec![device; size];
        let (writes, allowed_answers) = (Vec::new(), BTreeSet::new());
        State {
            seed,
            devices,
            is_cut: false,
            is_gossip_lost: false,
            writes,
            allowed_answers,
            was_there: None,
        }
    }

    /// The values of a name that a device may show.
    pub fn possible_at(&self, device: usize, name: &str) -> BTreeSet<Option<Workload>> {
        self.possible(name, |write| write.known.get(&device).copied())
    }

    /// The values of a name that all remaining devices may show in the end.
    pub fn possible_at_last(&self, name: &str) -> BTreeSet<Option<Workload>> {
        let is_left = |device: &usize| self.devices[*device].life != Life::Gone;
        self.possible(name, |write| {
            write.known.iter().filter(|(device, _)| is_left(device)).map(|(_, knows)| *knows).max()
        })
    }

    fn possible(
        &self,
        name: &str,
        known: impl Fn(&Write) -> Option<Knowledge>,
    ) -> BTreeSet<Option<Workload>> {
        let mut possible = BTreeSet::new();
        for write in self.writes.iter().rev().filter(|write| write.name == name) {
            let Some(knows) = known(write) else { continue };
            possible.extend(&write.values);
            if knows == Knowledge::Certain {
                return possible;
            }
        }
        possible.insert(None);
        possible
    }

    /// This state, made more precise by the results of the writes.
    pub fn with_outcomes(&self, outcomes: &[Outcome]) -> State {
        let mut state = self.clone();
        for (write, outcome) in state.writes.iter_mut().zip(outcomes) {
            match outcome {
                Outcome::Accepted(workload) => {
                    write.values = [*workload].into();
                    if self.devices[write.via].life != Life::Gone {
                        write.known.insert(write.via, Knowledge::Certain);
                    }
                }
                Outcome::Refused => write.known.clear(),
                Outcome::Unknown => {}
            }
        }
        state
    }

    /// Whether no fault is active.
    pub fn is_calm(&self) -> bool {
        let is_well = |it: &Device| {
            it.life == Life::Gone || it.life == Life::Runs && it.disk == Disk::Works && it.is_member
        };
        !self.is_cut && self.devices.iter().all(is_well)
    }

    pub fn running(&self) -> impl Iterator<Item = usize> {
        (0..self.devices.len()).filter(|device| self.devices[*device].life == Life::Runs)
    }

    /// Applies a step.
    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Ask { name, request, via, twist } => self.ask(name, *request, *via, *twist),
            Step::Kill(device) | Step::Unplug(device) | Step::Leave(device, _) => {
                self.stop(*device)
            }
            Step::Start(device) | Step::Resume(device) => self.devices[*device].life = Life::Runs,
            Step::Pause(device) => self.devices[*device].life = Life::Paused,
            Step::Cut(devices) => {
                self.is_cut = true;
                devices.iter().for_each(|device| self.devices[*device].is_far = true);
            }
            Step::Mend => {
                self.is_cut = false;
                self.devices.iter_mut().for_each(|it| it.is_far = false);
            }
            Step::Fill(device) => self.devices[*device].disk = Disk::Full,
            Step::Free(device) => {
                self.devices[*device].disk = Disk::Works;
                self.devices[*device].life = Life::Runs;
            }
            Step::Lose(device) => {
                self.devices[*device].life = Life::Gone;
                let is_far = self.devices[*device].is_far;
                self.devices.push(Device {
                    life: Life::Runs,
                    disk: Disk::Works,
                    is_member: false,
                    is_far,
                });
            }
            Step::Join => {
                self.devices.push(Device {
                    life: Life::Runs,
                    disk: Disk::Works,
                    is_member: false,
                    is_far: false,
                });
            }
            Step::Gossip { is_lost } => self.is_gossip_lost = *is_lost,
            Step::Stall(..) => {}
            Step::Wait(seconds) if *seconds >= LONG => self.spread_certain(),
            Step::Wait(_) => {}
        }
        self.spread_possible();
    }

    fn stop(&mut self, device: usize) {
        self.devices[device].life = Life::Stopped;
    }

    fn ask(&mut self, name: &'static str, request: Request, via: usize, twist: Twist) {
        let before = self.possible_at(via, name);
        let is_there = before.iter().any(Option::is_some);
        self.was_there = (is_there != before.contains(&None)).then_some(is_there);
        let mut may = BTreeSet::new();
        // The values that could be written.
        let mut values: BTreeSet<Option<Workload>> = match request {
            Request::Publish { workload, .. } => [Some(workload)].into(),
            Request::Scale { replicas } => before
                .iter()
                .flatten()
                .map(|workload| Some(Workload { replicas, ..*workload }))
                .collect(),
            Request::Remove => {
                if is_there {
                    [None].into()
                } else {
                    BTreeSet::new()
                }
            }
        };
        if !matches!(request, Request::Publish { .. }) && before.contains(&None) {
            may.insert(Answer::NoSuchWorkload);
        }
        let is_forced = matches!(request, Request::Publish { force: true, .. });
        let fits = |values: &Option<Workload>| {
            is_forced || values.is_none_or(|workload| !workload.is_huge || workload.replicas == 0)
        };
        if !values.iter().all(fits) {
            may.insert(Answer::Unplaceable);
            values.retain(fits);
        }
        if !values.is_empty() {
            may.insert(if twist == Twist::Forged { Answer::Invalid } else { Answer::Accepted });
        }
        let it = &mut self.devices[via];
        if !it.is_member {
            may.insert(Answer::NotJoined);
        }
        match it.disk {
            Disk::Works => {}
            Disk::Full => {
                // A request refused before any write does not show the daemon that the disk is
                // full.
                if may.remove(&Answer::Accepted) {
                    may.insert(Answer::Nothing);
                    if may.len() == 1 {
                        it.disk = Disk::ReadOnly;
                    }
                }
                may.insert(Answer::ReadOnly);
            }
            Disk::ReadOnly => {
                may = [Answer::ReadOnly].into();
                values.clear();
            }
        }
        if matches!(twist, Twist::Dies(_)) {
            may.insert(Answer::Nothing);
        }
        if twist != Twist::Forged && !values.is_empty() {
            let knows = if may == [Answer::Accepted].into() {
                Knowledge::Certain
            } else {
                Knowledge::Possible
            };
            self.writes.push(Write { name, values, via, known: [(via, knows)].into() });
        }
        self.allowed_answers = may;
        if matches!(twist, Twist::Dies(_)) {
            self.spread_possible();
            self.stop(via);
        }
    }

    /// Every write may reach at once all devices on the same side; paused ones handle it later.
    fn spread_possible(&mut self) {
        for is_far in [false, true] {
            let group = self.group(is_far, |it| matches!(it.life, Life::Runs | Life::Paused));
            for write in &mut self.writes {
                if group.iter().any(|device| write.known.contains_key(device)) {
                    for device in &group {
                        write.known.entry(*device).or_insert(Knowledge::Possible);
                    }
                }
            }
        }
    }

    /// After a long wait every write that one device has for certain is on all connected devices
    /// that run. A joining device is admitted for certain if it could reach all others, because
    /// some of them are its seeds.
    fn spread_certain(&mut self) {
        let all_run = self.devices.iter().all(|it| matches!(it.life, Life::Runs | Life::Gone));
        if all_run && !self.is_cut {
            self.devices.iter_mut().for_each(|it| it.is_member |= it.disk == Disk::Works);
        }
        for is_far in [false, true] {
            let group = self.group(is_far, |it| it.life == Life::Runs && it.is_member);
            for write in &mut self.writes {
                if group.iter().any(|device| write.known.get(device) == Some(&Knowledge::Certain)) {
                    for device in
                        group.iter().filter(|device| self.devices[**device].disk == Disk::Works)
                    {
                        write.known.insert(*device, Knowledge::Certain);
                    }
                }
            }
        }
    }

    fn group(&self, is_far: bool, of: impl Fn(&Device) -> bool) -> Vec<usize> {
        let devices = self.devices.iter().enumerate();
        devices.filter(|(_, it)| it.is_far == is_far && of(it)).map(|(device, _)| device).collect()
    }
}
