//! `shoal scale`.

use clap::Args;
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::spec::MAX_REPLICAS;

use super::context::Context;
use super::error::CliError;
use super::out;
use super::publish::{told, view};
use super::wait::{WaitArgs, healthy};
use crate::publish as writing;

/// Change how many replicas a workload has
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal scale hello=3\n  shoal scale hello 3\n  shoal scale shop/till=0   # stops it and keeps it"
)]
pub struct Scale {
    /// NAME=N, or NAME
    #[arg(value_name = "NAME[=N]")]
    name: String,
    /// N, where it is not given with the name
    #[arg(value_name = "N")]
    replicas: Option<String>,
    /// Do it even if no known node can run it now
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Scale {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let (name, replicas) = wish(&self.name, self.replicas.as_deref())?;
        let client = context.client();
        client.get_bytes("/v1/status").await?;
        let operator = context.operator()?;
        let deadline = self.wait.deadline();
        let published = writing::scale(&client, &operator, &name, replicas, self.force).await?;
        context.note(&told(&published));
        if let (Some(deadline), Some(spec)) = (deadline, &published.spec) {
            healthy(context, &client, spec, false, deadline).await?;
        }
        if context.json() {
            return out::say_json(&view(&client, &published).await?);
        }
        Ok(())
    }
}

fn wish(name: &str, replicas: Option<&str>) -> Result<(WorkloadName, u32), CliError> {
    let (name, number) = match (name.split_once('='), replicas) {
        (Some((name, number)), None) => (name, number),
        (None, Some(number)) => (name, number),
        (Some(_), Some(_)) => {
            return Err(CliError::usage("the number of replicas is given twice").hint("shoal scale hello=3"));
        }
        (None, None) => return Err(CliError::usage("how many replicas?").hint(format!("shoal scale {name}=3"))),
    };
    let wrong = || CliError::usage(format!("`{number}` is not a number of replicas: 0 to {MAX_REPLICAS} are expected"));
    let replicas = number.parse().ok().filter(|replicas| *replicas <= MAX_REPLICAS).ok_or_else(wrong)?;
    Ok((name.parse().map_err(|error| CliError::usage(format!("{error}")))?, replicas))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let good = ("shop/web".parse().unwrap(), 3);
        assert_eq!(wish("shop/web=3", None), Ok(good.clone()));
        assert_eq!(wish("shop/web", Some("3")), Ok(good));
        for (name, replicas) in [
            ("web", None),
            ("web=3", Some("3")),
            ("web=x", None),
            ("web", Some("-1")),
            ("Web=1", None),
            ("web=10001", None),
        ] {
            assert_eq!(wish(name, replicas).unwrap_err().exit, crate::cli::Exit::Usage, "{name} {replicas:?}");
        }
    }
}
