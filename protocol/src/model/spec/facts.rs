//! The facts of a node, and whether it can run a spec by them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::claim::short_reason;
use super::super::record::SealingKey;
use super::super::resources::{Amounts, Need, Resources};
use super::super::volume::{KeptVolume, MAX_VOLUMES};
use super::{Allowed, HostPort, Image, Program, ProgramKind, Rule, Spec, counted};

/// The static facts of a node, by which it is asked to bid or not.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Facts {
    /// CPU architecture as Rust names it, `x86_64` or `aarch64`.
    pub arch: String,
    /// The kinds of programs that it can run.
    pub runtimes: BTreeSet<ProgramKind>,
    /// Labels its owner gave it.
    pub labels: BTreeMap<String, String>,
    /// The memory and CPU that it offers to workloads in all.
    pub capacity: Resources,
    /// The rights that it allows containers beyond those of an ordinary one. In a record they stand
    /// behind all that older programs read: see [`NodeRecord`](crate::model::NodeRecord).
    #[serde(skip)]
    pub allowed: Allowed,
    /// The volumes that it keeps, at most [`MAX_VOLUMES`]. In a record as `allowed`.
    #[serde(skip)]
    pub volumes: Vec<KeptVolume>,
    /// The key to which secrets are sealed for it; none for a node whose program knows no secrets.
    /// In a record as `allowed`.
    #[serde(skip)]
    pub sealing: Option<SealingKey>,
    /// Ports of the device that workloads ask for and other programs have. Known to the node alone:
    /// no record has them.
    #[serde(skip)]
    pub busy_ports: BTreeSet<HostPort>,
    /// Facts that it publishes by name, besides those above, at most
    /// [`MAX_PUBLISHED`](super::MAX_PUBLISHED). In a record as `allowed`.
    #[serde(skip)]
    pub published: BTreeMap<String, String>,
    /// Bytes that it measures by name, as `disk.free`. As `busy_ports`.
    #[serde(skip)]
    pub measured: BTreeMap<String, u64>,
    /// Offers beside memory and CPU: devices by name, and disk. In a record as `allowed`.
    #[serde(skip)]
    pub offers: Amounts,
}

/// Why a node cannot run a spec, by static facts alone.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize, thiserror::Error,
)]
#[allow(missing_docs)]
pub enum Unfit {
    #[error("no {0} runtime")]
    Runtime(ProgramKind),
    #[error("{name} = {value}")]
    Label { name: String, value: String },
    #[error("{} MiB of memory required, more than the node has", .0 / (1024 * 1024))]
    Memory(u64),
    #[error("{0} thousandths of a core required, more than the node has")]
    Cpu(u32),
    #[error("its image is not for {0}")]
    Platform(String),
    #[error("does not allow {0}")]
    NotAllowed(String),
    #[error("its volume `{volume}` is on {node}")]
    Volume { volume: String, node: String },
    #[error("keeps {0} volumes already, and takes no more")]
    Volumes(u32),
    #[error("takes no further work: an operator cordoned or drained it")]
    Cordoned,
    #[error("has the taint {0}, which is not tolerated")]
    Taint(String),
    #[error("{0}")]
    Rule(Rule),
    #[error("near {0}, which has no replica there")]
    Near(String),
    #[error("apart from {0}, which has a replica there")]
    Apart(String),
    #[error("{name}: {}", short_of(.name, *.needed, *.offered))]
    Counted { name: String, needed: u64, offered: u64 },
}

fn short_of(name: &str, needed: u64, offered: u64) -> String {
    let needed = counted(name, needed);
    match offered {
        0 => format!("{needed} needed, and the node offers none"),
        _ => format!("{needed} needed, and the node offers {}", counted(name, offered)),
    }
}

impl Facts {
    /// The first requirement of `spec` that these facts fail.
    pub fn fits(&self, spec: &Spec) -> Result<(), Unfit> {
        let kind = spec.program.kind();
        if !self.runtimes.contains(&kind) {
            return Err(Unfit::Runtime(kind));
        }
        if let Program::Containers(containers) = &spec.program {
            let runs_here = |image: &Image| {
                image.parts_on(&self.arch).is_some() || image.comes_from_engine_on(&self.arch)
            };
            if !containers.iter().all(|container| runs_here(&container.image)) {
                return Err(Unfit::Platform(self.arch.clone()));
            }
            let refused = containers.iter().find_map(|container| {
                self.allowed.refusal(container, spec.device_paths(container))
            });
            if let Some(what) = refused {
                return Err(Unfit::NotAllowed(short_reason(what)));
            }
        }
        let is_known = || self.volumes.iter().any(|volume| volume.workload == spec.name);
        let kept = spec.kept().count();
        if kept > 0 && self.volumes.len() + kept > MAX_VOLUMES && !is_known() {
            return Err(Unfit::Volumes(u32::try_from(self.volumes.len()).unwrap_or(u32::MAX)));
        }
        self.fits_rules(spec)?;
        let size = spec.need().size;
        if size.memory > self.capacity.memory {
            return Err(Unfit::Memory(size.memory));
        }
        if size.cpu > self.capacity.cpu {
            return Err(Unfit::Cpu(size.cpu));
        }
        match self.offer().lacks(&spec.later.uses) {
            Some((name, needed)) => {
                let offered = self.offers.of(name);
                Err(Unfit::Counted { name: name.to_owned(), needed, offered })
            }
            None => Ok(()),
        }
    }

    /// All that it offers to workloads.
    pub fn offer(&self) -> Need {
        Need { size: self.capacity, counted: self.offers.clone() }
    }

    /// The bytes that are free on its disk now, if it measures them and they are fewer than
    /// `needed`.
    pub fn disk_short_of(&self, needed: u64) -> Option<u64> {
        self.measured.get("disk.free").copied().filter(|free| *free < needed)
    }
}
