//! `shoal autoscale`.

use std::time::Duration;

use clap::Args;
use shoal_protocol::model::spec::{Autoscale, InvalidSpec, Kind};
use shoal_protocol::model::view::WorkloadView;
use shoal_protocol::model::{Spec, SpecForm, WorkloadName};

use super::client::path_of;
use super::context::Context;
use super::error::CliError;
use super::out;
use super::publish::{outcome_line, view};
use crate::manifest::quantity;
use crate::publish::{self as writing, probe};

/// Let the number of a workload's replicas follow from their load
///
/// The number grows at once and shrinks after a while; `shoal events` says each time why. With
/// `--min 0` the last replica stops when no request comes, and the next request starts one. What is
/// not named stays as it was, but targets: naming one replaces all. A file that has no `autoscale`
/// ends it when it is published again.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal autoscale web --max 10 --cpu 70\n  shoal autoscale web \
        --min 0 --max 3 --requests 20 --down 10m\n  shoal autoscale web --off   # as many as now"
)]
pub struct AutoscaleVerb {
    /// The workload, NAME or NAMESPACE/NAME
    name: WorkloadName,
    #[command(flatten)]
    wanted: Wanted,
    /// No longer: it keeps as many replicas as it has now
    #[arg(long, conflicts_with_all = ["min", "max", "cpu", "memory", "requests", "up", "down"])]
    off: bool,
}

/// The options of how a workload is scaled: those that are named change.
#[derive(Args, Clone, Default, Debug)]
struct Wanted {
    /// The fewest replicas; 0 to start the first one when a request comes [default: 1]
    #[arg(long, value_name = "N", value_parser = quantity::count)]
    min: Option<u32>,
    /// The most replicas
    #[arg(long, value_name = "N", value_parser = quantity::count)]
    max: Option<u32>,
    /// The wanted use of CPU, in percent of what is reserved
    #[arg(long, value_name = "PERCENT", value_parser = quantity::count, alias = "cpu-percent")]
    cpu: Option<u32>,
    /// The wanted use of memory, in percent of what is reserved
    #[arg(long, value_name = "PERCENT", value_parser = quantity::count)]
    memory: Option<u32>,
    /// The wanted number of requests that a replica answers at one time
    #[arg(long, value_name = "N", value_parser = quantity::count)]
    requests: Option<u32>,
    /// There are more when that was so for this time [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = probe::duration)]
    up: Option<Duration>,
    /// There are fewer when that was so for this time [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = probe::duration)]
    down: Option<Duration>,
}

impl AutoscaleVerb {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        client.get_bytes("/v1/status").await?;
        let (operator, name) = (context.operator()?, self.name);
        let now = match self.off {
            false => None,
            true => {
                let now: WorkloadView = client.get(&path_of("workloads", &name)).await?;
                Some(now.desired)
            }
        };
        let wanted = self.wanted;
        let change = move |spec: &Spec| match now {
            Some(replicas) => fixed(spec, replicas),
            None => scaled(spec, &wanted),
        };
        let published = writing::alter(&client, &operator, &name, false, change).await?;
        context.note(&outcome_line(&published));
        if context.json() {
            return out::say_json(&view(&client, &published).await?);
        }
        Ok(())
    }
}

/// The spec with what is wanted; the rest as it was, or by default.
fn scaled(spec: &Spec, wanted: &Wanted) -> Result<Spec, InvalidSpec> {
    let mut form = SpecForm::from(spec.clone());
    let before = form.later.autoscale.clone();
    let Some(max) = wanted.max.or(before.as_ref().map(|it| it.max)) else {
        let why = "the most replicas are not named, as in --max 10".to_owned();
        return Err(InvalidSpec::Kind { field: "autoscale: max", why });
    };
    if let Kind::Service { replicas } = &mut form.kind {
        *replicas = (*replicas).min(max);
    }
    let before = before.unwrap_or_default();
    let names_target = wanted.cpu.is_some() || wanted.memory.is_some() || wanted.requests.is_some();
    // Other targets are other targets: those of before do not stay beside them.
    let target = |new: Option<u32>, old: Option<u32>| if names_target { new } else { old };
    form.later.autoscale = Some(Autoscale {
        min: wanted.min.unwrap_or(before.min),
        max,
        cpu: target(wanted.cpu, before.cpu),
        memory: target(wanted.memory, before.memory),
        requests: target(wanted.requests, before.requests),
        up: wanted.up.unwrap_or(before.up),
        down: wanted.down.unwrap_or(before.down),
    });
    form.try_into()
}

/// The spec with so many replicas, whatever they have to do.
fn fixed(spec: &Spec, replicas: u32) -> Result<Spec, InvalidSpec> {
    let mut form = SpecForm::from(spec.clone());
    if form.later.autoscale.take().is_some() {
        form.kind = Kind::Service { replicas };
    }
    form.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::spec;

    #[test]
    fn what_is_not_named_stays() {
        let plain = spec("web", 3);
        let no_max = scaled(&plain, &Wanted { cpu: Some(70), ..Wanted::default() });
        assert!(no_max.unwrap_err().to_string().contains("--max 10"));
        let wanted = Wanted { max: Some(5), cpu: Some(70), ..Wanted::default() };
        let one = scaled(&plain, &wanted).unwrap();
        let scale = Autoscale { max: 5, cpu: Some(70), ..Autoscale::default() };
        assert_eq!(one.later.autoscale, Some(scale.clone()));
        assert_eq!(one.revision(), plain.revision(), "nothing is replaced");
        let more = Wanted { max: Some(9), ..Wanted::default() };
        let two = scaled(&one, &more).unwrap();
        assert_eq!(two.later.autoscale, Some(Autoscale { max: 9, ..scale.clone() }));
        let requests = Wanted { requests: Some(20), ..Wanted::default() };
        let three = scaled(&two, &requests).unwrap();
        let by_requests = Autoscale { max: 9, cpu: None, requests: Some(20), ..scale };
        assert_eq!(three.later.autoscale, Some(by_requests), "another target");
    }

    #[test]
    fn without_it_the_replicas_of_now_stay() {
        let wanted = Wanted { max: Some(5), cpu: Some(70), ..Wanted::default() };
        let scaled = scaled(&spec("web", 3), &wanted).unwrap();
        assert_eq!(fixed(&scaled, 4), Ok(spec("web", 4)));
        assert_eq!(fixed(&spec("web", 2), 4), Ok(spec("web", 2)), "nothing to end");
    }
}
