//! The number of replicas that follows from what they have to do.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{InvalidSpec, Kind, MAX_REPLICAS, Program, SpecForm, World};

/// The number of a service's replicas follows from their load. **It is a ruling of the owner**,
/// between `min` and `max`; the number in the spec is the first one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Autoscale {
    /// The fewest. 0: the last one stops when no request came for the time of `down`, and the next
    /// request starts one.
    pub min: u32,
    /// The most: from 1 and `min` on, up to [`MAX_REPLICAS`].
    pub max: u32,
    /// The wanted use of CPU, in percent of what is reserved for a replica: 1 to [`MAX_PERCENT`].
    pub cpu: Option<u32>,
    /// The wanted use of memory, in percent of what is reserved for a replica: 1 to
    /// [`MAX_PERCENT`].
    pub memory: Option<u32>,
    /// The wanted number of requests that a replica answers at one time: 1 to [`MAX_REQUESTS`].
    pub requests: Option<u32>,
    /// There are more replicas when that was so for this time; at most [`MAX_WINDOW`].
    pub up: Duration,
    /// There are fewer when that was so for this time: [`MIN_DOWN`] to [`MAX_WINDOW`].
    pub down: Duration,
}

/// The greatest wanted use, in percent of the reservation: containers may use more than that.
pub const MAX_PERCENT: u32 = 1_000;
/// The greatest wanted number of requests at one time.
pub const MAX_REQUESTS: u32 = 10_000;
/// The longest window.
pub const MAX_WINDOW: Duration = Duration::from_secs(3_600);
/// The shortest time before there are fewer: each change is written to the disk of every node.
pub const MIN_DOWN: Duration = Duration::from_secs(10);
/// The time before there are fewer where the user names none, as in Kubernetes.
const DEFAULT_DOWN: Duration = Duration::from_secs(300);

impl Default for Autoscale {
    fn default() -> Autoscale {
        let (up, down) = (Duration::ZERO, DEFAULT_DOWN);
        Autoscale { min: 1, max: 1, cpu: None, memory: None, requests: None, up, down }
    }
}

impl Autoscale {
    /// The number of replicas, by what the owner ruled or the spec names.
    pub fn bounded(&self, replicas: u32) -> u32 {
        replicas.clamp(self.min, self.max)
    }
}

impl fmt::Display for Autoscale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Autoscale { min, max, cpu, memory, requests, up, down } = self;
        write!(f, "{min} to {max}")?;
        let percent = [("CPU", cpu), ("memory", memory)];
        for (what, percent) in percent.iter().filter_map(|(what, it)| Some((what, (**it)?))) {
            write!(f, ", {percent}% of the reserved {what}")?;
        }
        if let Some(requests) = requests {
            write!(f, ", {requests} requests at a time each")?;
        }
        write!(f, ", up after {}s, down after {}s", up.as_secs_f64(), down.as_secs_f64())
    }
}

/// Checks how a workload is scaled.
pub(super) fn check(form: &SpecForm) -> Result<(), InvalidSpec> {
    let wrong = |field, why: String| Err(InvalidSpec::Kind { field, why });
    let Some(scale) = &form.later.autoscale else { return Ok(()) };
    let Autoscale { min, max, cpu, memory, requests, up, down } = scale;
    if !matches!(form.kind, Kind::Service { .. }) {
        let kind = form.kind.as_str();
        let why = format!("a workload of kind {kind} has none: only services are scaled by load");
        return wrong("autoscale", why);
    }
    if !(1..=MAX_REPLICAS).contains(max) {
        return wrong("autoscale: max", format!("{max} is outside 1 to {MAX_REPLICAS}"));
    }
    if min > max {
        return wrong("autoscale: min", format!("{min} is more than max, which is {max}"));
    }
    if form.replicas() > *max {
        let why = format!("{} is more than the {max} of `autoscale`", form.replicas());
        return wrong("replicas", why);
    }
    if cpu.is_none() && memory.is_none() && requests.is_none() {
        let why = "there is no target: `cpu`, `memory` or `requests`".to_owned();
        return wrong("autoscale", why);
    }
    let targets = [
        ("autoscale: cpu", cpu, MAX_PERCENT),
        ("autoscale: memory", memory, MAX_PERCENT),
        ("autoscale: requests", requests, MAX_REQUESTS),
    ];
    for (field, target, most) in targets {
        if let Some(target) = target.filter(|target| !(1..=most).contains(target)) {
            return wrong(field, format!("{target} is outside 1 to {most}"));
        }
    }
    if *up > MAX_WINDOW {
        return wrong("autoscale: up", format!("{}s is more than an hour", up.as_secs_f64()));
    }
    if !(MIN_DOWN..=MAX_WINDOW).contains(down) {
        let why = format!("{}s is outside 10 seconds to an hour", down.as_secs_f64());
        return wrong("autoscale: down", why);
    }
    let answers = match &form.program {
        Program::Wasm(component) => component.world == World::Http,
        Program::Containers(containers) => containers.iter().any(|it| it.http.is_some()),
    };
    if (*min == 0 || requests.is_some()) && !answers {
        let (field, what) = match *min {
            0 => (
                "autoscale: min",
                "0 needs a program that answers HTTP requests: nothing else \
                 would start it again",
            ),
            _ => ("autoscale: requests", "the program answers no HTTP requests"),
        };
        return wrong(field, what.into());
    }
    if *min == 0 && !form.exposure.ports.is_empty() {
        let why = "0 does not go with ports of the device: a connection to them starts no replica";
        return wrong("autoscale: min", why.into());
    }
    Ok(())
}
