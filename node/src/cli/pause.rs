//! `shoal pause` and `shoal resume`.

use clap::Args;
use shoal_protocol::model::spec::InvalidSpec;
use shoal_protocol::model::{Spec, SpecForm, WorkloadName};

use super::context::Context;
use super::error::CliError;
use super::out;
use super::publish::view;
use super::wait::{WaitArgs, healthy};
use crate::publish::{self as writing, Outcome};

/// Hold the update of a workload: no further replica is replaced
///
/// Running replicas go on. A workload that has no policy for updates gets one, with the defaults. A
/// file with `paused: false`, or without it, lets the update go on when it is published again.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal pause web\n  shoal pause shop/till; shoal publish \
        till.yaml --no-wait; shoal resume shop/till")]
pub struct Pause {
    /// The workload, NAME or NAMESPACE/NAME
    name: WorkloadName,
}

/// Let the update of a workload go on, also past its canary
///
/// It sets `paused: false` and `canary: 0` in what is published: the file says what it said.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal resume web\n  shoal resume web --no-wait")]
pub struct Resume {
    /// The workload, NAME or NAMESPACE/NAME
    name: WorkloadName,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Pause {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        client.get_bytes("/v1/status").await?;
        let (operator, name) = (context.operator()?, self.name);
        let published = writing::alter(&client, &operator, &name, true, paused).await?;
        context.note(&match published.outcome {
            Outcome::Unchanged => format!("{name}: its updates are paused already"),
            _ => format!(
                "{name}: its updates are paused; what runs goes on, and `shoal resume {name}` lets \
                 them go on"
            ),
        });
        if context.json() {
            return out::say_json(&view(&client, &published).await?);
        }
        Ok(())
    }
}

impl Resume {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        client.get_bytes("/v1/status").await?;
        let (operator, name) = (context.operator()?, self.name);
        let published = writing::alter(&client, &operator, &name, true, resumed).await?;
        context.note(&match &published.outcome {
            Outcome::Unchanged => format!("{name}: no update of it is held"),
            Outcome::Changed(all) if all.iter().any(|it| it.field == "update canary") => format!(
                "{name}: its update goes on past its canary: `canary` is 0 until the file is \
                 published again"
            ),
            _ => format!("{name}: its updates go on"),
        });
        if let (Some(deadline), Some(spec)) = (self.wait.deadline(), &published.spec) {
            healthy(context, &client, spec, false, deadline).await?;
        }
        if context.json() {
            return out::say_json(&view(&client, &published).await?);
        }
        Ok(())
    }
}

fn paused(spec: &Spec) -> Result<Spec, InvalidSpec> {
    let mut form = SpecForm::from(spec.clone());
    let kind = &form.kind;
    form.later.rollout.get_or_insert_with(|| kind.rollout()).paused = true;
    form.try_into()
}

fn resumed(spec: &Spec) -> Result<Spec, InvalidSpec> {
    let mut form = SpecForm::from(spec.clone());
    if let Some(rollout) = &mut form.later.rollout {
        (rollout.paused, rollout.canary) = (false, 0);
    }
    form.try_into()
}

#[cfg(test)]
mod tests {
    use shoal_protocol::model::spec::Rollout;

    use super::*;
    use crate::fakes::spec;

    #[test]
    fn updates_are_held_and_go_on() {
        let plain = spec("web", 3);
        assert_eq!(resumed(&plain), Ok(plain.clone()), "nothing is held");
        let held = paused(&plain).unwrap();
        assert_eq!(
            held.later.rollout,
            Some(Rollout { paused: true, ..Rollout::default() }),
            "it has a policy now"
        );
        assert_eq!(held.revision(), plain.revision(), "nothing is replaced");
        assert_eq!(paused(&held), Ok(held.clone()));
        let mut form = SpecForm::from(held);
        form.later.rollout.as_mut().unwrap().canary = 2;
        let gone_on = resumed(&form.try_into().unwrap()).unwrap();
        assert_eq!(gone_on.later.rollout, Some(Rollout::default()));
    }
}
