//! How a workload is updated, as people give it to `shoal run`; and what a policy for updates means
//! for a workload.

use std::time::Duration;

use clap::Args;
use shoal_protocol::model::Spec;
use shoal_protocol::model::spec::{Kind, NetworkMode, OnFailure, Order, Rollout, VolumeSource};

use super::probe;
use crate::manifest::quantity;

/// The steps of an update, by the names that docker has for them. A manifest has more, as `update`.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
#[command(next_help_heading = "Updates")]
pub struct UpdateOptions {
    /// Replicas that are replaced at one time. With any of these options replicas get a new version
    /// step by step, otherwise all at once [default: 1]
    #[arg(long, value_name = "N", value_parser = quantity::count)]
    pub update_parallelism: Option<u32>,
    /// start-first: the old replica serves until the new one is ready; or stop-first [default:
    /// start-first; stop-first for a stateful workload]
    #[arg(long, value_name = "ORDER", value_parser = order)]
    pub update_order: Option<Order>,
    /// The time that new replicas must stay ready before the next ones are replaced [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = probe::duration)]
    pub update_monitor: Option<Duration>,
    /// When the update fails: pause, and the others keep the old version; or rollback, and all get
    /// it again [default: pause]
    #[arg(long, value_name = "ACTION", value_parser = on_failure)]
    pub update_failure_action: Option<OnFailure>,
}

impl UpdateOptions {
    /// The policy that the options describe for a workload of this kind; none without any.
    pub fn rollout(&self, kind: &Kind) -> Option<Rollout> {
        if *self == UpdateOptions::default() {
            return None;
        }
        let default = kind.rollout();
        Some(Rollout {
            parallel: self.update_parallelism.unwrap_or(default.parallel),
            order: self.update_order.unwrap_or(default.order),
            min_ready: self.update_monitor.unwrap_or(default.min_ready),
            on_failure: self.update_failure_action.unwrap_or(default.on_failure),
            ..default
        })
    }
}

/// Reads an order of starts and stops.
pub(crate) fn order(text: &str) -> Result<Order, String> {
    match text {
        "start-first" => Ok(Order::StartFirst),
        "stop-first" => Ok(Order::StopFirst),
        _ => Err(format!("`{text}` is neither start-first nor stop-first")),
    }
}

/// Reads what follows when an update fails: our word for it, or docker's.
pub(crate) fn on_failure(text: &str) -> Result<OnFailure, String> {
    match text {
        "pause" => Ok(OnFailure::Pause),
        "roll-back" | "rollback" => Ok(OnFailure::RollBack),
        _ => Err(format!("`{text}` is neither pause nor roll-back")),
    }
}

/// The warning that a workload's replicas stop before the new ones start, although its update says
/// otherwise.
pub(super) fn forced_stop_first(spec: &Spec) -> Option<String> {
    let rollout = spec.later.rollout.as_ref().filter(|it| it.order == Order::StartFirst)?;
    let device = spec.later.uses.devices().next().map(|(name, _)| format!("`{name}`"));
    let needs = device.or_else(|| needs_alone(spec).map(str::to_owned))?;

    let gap = if rollout.parallel == 1 { "one replica" } else { "some replicas" };
    Some(format!(
        "each replica needs {needs}, which two cannot have at once: the old one stops before the \
         new one starts (stop-first), and {gap} at a time is away for as long"
    ))
}

/// The thing of a replica that two cannot have at once.
fn needs_alone(spec: &Spec) -> Option<&'static str> {
    let containers = spec.program.containers();
    Some(match containers.first() {
        _ if spec.storage.iter().any(|it| it.source == VolumeSource::Kept) => "a volume",
        _ if !spec.exposure.ports.is_empty() => "a port of the device",
        Some(_) if containers.iter().any(|it| !it.privileges.devices.is_empty()) => "a device",
        Some(it) if it.network == NetworkMode::Host => "the network of the device",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use shoal_protocol::model::SpecForm;

    use super::*;
    use crate::publish::Workload;

    #[test]
    fn words_of_docker_are_taken() {
        assert_eq!(on_failure("rollback"), Ok(OnFailure::RollBack));
        assert_eq!(on_failure("roll-back"), Ok(OnFailure::RollBack));
        assert!(on_failure("continue").unwrap_err().contains("neither pause nor roll-back"));
        let service = Kind::Service { replicas: 1 };
        assert_eq!(UpdateOptions::default().rollout(&service), None, "all at once");
        let one = UpdateOptions { update_parallelism: Some(3), ..UpdateOptions::default() };
        assert_eq!(one.rollout(&service), Some(Rollout { parallel: 3, ..Rollout::default() }));
    }

    /// People learn of the gap before it is there, and are not told of it where they asked for it.
    #[test]
    fn forced_stop_first_is_told() {
        let of = |order: Option<Order>, network: NetworkMode| {
            let workload = Workload::image("web", "nginx:1.27").unwrap();
            let spec = workload.with_container(|it| it.network = network).spec(None).unwrap();
            let mut form = SpecForm::from(spec);
            form.later.rollout = order.map(|order| Rollout { order, ..Rollout::default() });
            forced_stop_first(&form.try_into().unwrap())
        };
        let told = of(Some(Order::StartFirst), NetworkMode::Host).unwrap();
        assert!(told.starts_with("each replica needs the network of the device"), "{told}");
        assert_eq!(of(Some(Order::StopFirst), NetworkMode::Host), None);
        assert_eq!(of(None, NetworkMode::Host), None);
        assert_eq!(of(Some(Order::StartFirst), NetworkMode::Bridge), None);
    }
}
