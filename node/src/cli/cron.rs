//! `shoal cron`.

use std::time::SystemTime;

use clap::{Args, Subcommand};
use shoal_protocol::model::spec::{Cron as CronSpec, InvalidSpec, Kind};
use shoal_protocol::model::{Place, Spec, SpecForm, WorkloadName};

use super::context::Context;
use super::error::CliError;
use super::job::to_the_end;
use super::out;
use super::publish::{outcome_line, view};
use super::wait::{WaitArgs, healthy};
use crate::publish as writing;

/// Run a cron workload now, or suspend its schedule
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal cron run report\n  shoal cron run report --wait   # \
    follows it to its end\n  shoal cron suspend report\n  shoal cron resume report")]
pub struct Cron {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run it once, now, as a job of its own: NAME-YYYYMMDDTHHMMSS in UTC
    Run(Run),
    /// Start no ticks for now; runs that go on are left alone
    Suspend(Named),
    /// Start ticks again
    Resume(Named),
}

#[derive(Args)]
struct Run {
    /// The cron workload, NAME or NAMESPACE/NAME
    name: WorkloadName,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Args)]
struct Named {
    /// The cron workload, NAME or NAMESPACE/NAME
    name: WorkloadName,
}

impl Cron {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        match self.verb {
            Verb::Run(run) => run.run(context).await,
            Verb::Suspend(named) => suspend(context, &named.name, true).await,
            Verb::Resume(named) => suspend(context, &named.name, false).await,
        }
    }
}

impl Run {
    async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        client.get_bytes("/v1/status").await?;
        let operator = context.operator()?;
        let current = writing::current_spec(&client, &self.name).await?;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let spec = job_of(&current, since.as_secs())?;
        let deadline = self.wait.deadline();
        let ready = writing::Ready { spec: spec.clone(), parts: Vec::new() };
        let published = writing::publish(&client, &operator, &ready, false).await?;
        context.note(&outcome_line(&published));
        if self.wait.is_asked() {
            return to_the_end(context, &spec.name).await;
        }
        if let Some(deadline) = deadline {
            healthy(context, &client, &spec, false, deadline).await?;
        }
        if context.json() {
            return out::say_json(&view(&client, &published).await?);
        }
        Ok(())
    }
}

async fn suspend(context: &Context, name: &WorkloadName, suspended: bool) -> Result<(), CliError> {
    let client = context.client();
    client.get_bytes("/v1/status").await?;
    let operator = context.operator()?;
    let change = |spec: &Spec| {
        let cron = CronSpec { suspended, ..cron_of(spec)? };
        SpecForm { kind: Kind::Cron(cron), ..SpecForm::from(spec.clone()) }.try_into()
    };
    let published = writing::alter(&client, &operator, name, false, change).await?;
    context.note(&outcome_line(&published));
    if context.json() {
        return out::say_json(&view(&client, &published).await?);
    }
    Ok(())
}

fn cron_of(spec: &Spec) -> Result<CronSpec, InvalidSpec> {
    match &spec.kind {
        Kind::Cron(cron) => Ok(cron.clone()),
        kind => Err(InvalidSpec::Kind {
            field: "kind",
            why: format!("`{}` is a {}, and has no schedule", spec.name, kind.as_str()),
        }),
    }
}

/// The job that a cron workload runs, as a workload of its own. `now` in seconds since 1970.
fn job_of(spec: &Spec, now: u64) -> Result<Spec, CliError> {
    let invalid = |error: InvalidSpec| CliError::usage(error.to_string());
    let cron = cron_of(spec).map_err(invalid)?;
    let minute = Place::Run { at: now / 60 * 60_000, index: 0 }.to_string();
    let minute = minute.split('-').next().unwrap_or_default().to_lowercase();
    let name = format!("{}-{minute}{:02}", spec.name.name, now % 60);
    let name = name.parse().map_err(|error| {
        CliError::usage(format!("the job would be `{name}`: {error}"))
            .hint("A shorter name of the cron workload leaves room for the time.")
    })?;
    let name = WorkloadName { name, ..spec.name.clone() };
    let mut form = SpecForm { name, kind: Kind::Job(cron.job), ..SpecForm::from(spec.clone()) };
    // No file has it: a publish of the set with `--prune` would remove it.
    form.later.set = None;
    form.try_into().map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::Workload;
    use crate::publish::kind::KindOptions;

    fn spec(name: &str, schedule: Option<&str>) -> Spec {
        let options = KindOptions {
            schedule: schedule.map(str::to_owned),
            retries: schedule.map(|_| 2),
            ..KindOptions::default()
        };
        let workload = Workload::image(name, "report:1").unwrap();
        workload.kind(options.kind(None).unwrap()).spec(None).unwrap()
    }

    /// As `kubectl create job --from`: the same program, once, under the time's name.
    #[test]
    fn run_of_a_cron_workload_is_a_job_of_its_own() {
        let mut cron = SpecForm::from(spec("shop/report", Some("@daily")));
        cron.later.set = "shop".parse().ok();
        let cron = Spec::try_from(cron).unwrap();
        let job = job_of(&cron, 1_796_033_107).unwrap();
        assert_eq!(job.name.to_string(), "shop/report-20261130t100507");
        assert_eq!((job.program.clone(), job.kind.as_str()), (cron.program.clone(), "job"));
        assert_eq!(job.kind.job(), cron.kind.job());
        assert_eq!(job.later.set, None, "it is in no file of the set");
        let error = job_of(&spec("web", None), 0).unwrap_err();
        assert!(error.message.contains("`web` is a service, and has no schedule"), "{error:?}");
        let long = spec(&"a".repeat(60), Some("@daily"));
        assert!(job_of(&long, 0).unwrap_err().hint.unwrap().contains("shorter name"));
    }
}
