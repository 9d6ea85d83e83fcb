//! `shoal scale`.

use clap::Args;
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::spec::InvalidSpec;
use shoal_protocol::model::view::WorkloadView;

use super::client::{Client, path_of};
use super::context::Context;
use super::error::{CliError, Exit};
use super::out;
use super::publish::{outcome_line, view};
use super::run;
use super::wait::{WaitArgs, healthy, running, stopped};
use crate::manifest::quantity;
use crate::publish as writing;

/// Change how many replicas a workload has
///
/// N is the number that it shall have, digits alone. `+1` and `-1` are refused, and nothing
/// changes: two operators who both add one at once, or a script that repeats a command whose answer
/// was lost, would not get what they meant. The refusal names the number to write.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal scale hello=3\n  shoal scale hello 3\n  shoal scale \
        shop/till=0   # stops it and keeps it")]
pub struct Scale {
    /// NAME=N, or NAME
    #[arg(value_name = "NAME[=N]")]
    name: String,
    /// N, where it is not given with the name
    #[arg(value_name = "N", allow_negative_numbers = true)]
    replicas: Option<String>,
    /// Do it even if no known node can run it now
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

/// The number of replicas, as given.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Amount {
    To(u32),
    /// A relative number, with its text.
    By(i64, String),
}

impl Scale {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let (name, number) = parse(&self.name, self.replicas.as_deref())?;
        let client = context.client();
        let replicas = match number {
            Amount::To(replicas) => replicas,
            Amount::By(more, written) => return Err(relative(&client, &name, more, &written).await),
        };
        client.get_bytes("/v1/status").await?;
        let operator = context.operator()?;
        let deadline = self.wait.deadline();
        let before = match deadline {
            Some(_) => client.get::<WorkloadView>(&path_of("workloads", &name)).await.ok(),
            None => None,
        };
        let ending = before.map(|view| running(&view, |place| place >= replicas));
        let scaled = writing::scale(&client, &operator, &name, replicas, self.force).await;
        let published = scaled.map_err(not_scaled)?;
        context.note(&outcome_line(&published));
        if let (Some(deadline), Some(spec)) = (deadline, &published.spec) {
            healthy(context, &client, spec, false, deadline).await?;
            let ending = ending.unwrap_or_default();
            stopped(&client, ending, deadline, self.wait.timeout()).await?;
        }
        if context.json() {
            return out::say_json(&view(&client, &published).await?);
        }
        Ok(())
    }
}

/// The error of a change that was not made, with the way to another number of a kind without one.
fn not_scaled(error: writing::PublishError) -> CliError {
    let why = match &error {
        writing::PublishError::Spec(InvalidSpec::Kind { field: "replicas", why }) => why.clone(),
        _ => return error.into(),
    };
    let error = CliError::from(error);
    match why.contains("scaled by load") {
        true => error.hint(
            "Nothing was changed. `shoal autoscale NAME --off` keeps as many as it has now; \
             `--min` and `--max` change the bounds.",
        ),
        false => error.hint(
            "Nothing was changed. A daemon has one on each node that its `require` and `tolerate` \
             let in; a job and a cron workload have `completions` and `parallel`.",
        ),
    }
}

/// The refusal of a relative number, with the absolute one that the user most likely means.
async fn relative(client: &Client, name: &WorkloadName, more: i64, written: &str) -> CliError {
    let has =
        match client.get::<WorkloadView>(&path_of("workloads", name)).await.map_err(CliError::from)
        {
            Ok(view) => Some(view.desired),
            // A wrong name is the more important error.
            Err(error) if error.exit == Exit::NoSuchThing => return error,
            Err(_) => None,
        };
    refusal(name, more, written, has)
}

fn refusal(name: &WorkloadName, more: i64, written: &str, has: Option<u32>) -> CliError {
    let error = CliError::usage(format!(
        "`{written}` is a change, and scale takes the number that `{name}` shall have; nothing \
            was changed"
    ));
    let Some(has) = has else {
        return error.hint(format!("Write the number itself: shoal scale {name}=N"));
    };
    let then = i64::from(has).saturating_add(more);
    match u32::try_from(then).ok().and_then(|then| run::replicas(&then.to_string()).ok()) {
        Some(then) => error.hint(format!("Write {name}={then} (it has {has} now).")),
        None => error.hint(format!("It has {has} now: {then} is no number of replicas.")),
    }
}

fn parse(name: &str, replicas: Option<&str>) -> Result<(WorkloadName, Amount), CliError> {
    let (name, number) = match (name.split_once('='), replicas) {
        (Some((name, number)), None) => (name, number),
        (None, Some(number)) => (name, number),
        (Some(_), Some(_)) => {
            return Err(CliError::usage("the number of replicas is given twice")
                .hint("shoal scale hello=3"));
        }
        (None, None) => {
            return Err(CliError::usage("how many replicas?").hint(format!("shoal scale {name}=3")));
        }
    };
    let parsed = name.parse().map_err(|error| CliError::usage(format!("{error}")))?;
    if number.is_empty() {
        let hint = format!("Is a variable empty? As in: shoal scale {name}=3");
        return Err(CliError::usage(format!(
            "there is no number behind `{name}=`; nothing was changed"
        ))
        .hint(hint));
    }
    Ok((parsed, amount(number)?))
}

fn amount(text: &str) -> Result<Amount, CliError> {
    let signed = text
        .strip_prefix('+')
        .map(|rest| (1, rest))
        .or(text.strip_prefix('-').map(|rest| (-1, rest)));
    if let Some((sign, rest)) = signed
        && let Ok(number) = quantity::count(rest)
    {
        return Ok(Amount::By(sign * i64::from(number), text.to_owned()));
    }
    run::replicas(text).map(Amount::To).map_err(CliError::usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `NAME=N` and `NAME N` mean the same; any other form, and numbers that are not plain digits,
    /// are usage errors.
    #[test]
    fn both_argument_forms_parse_alike() {
        let good = ("shop/web".parse().unwrap(), Amount::To(3));
        assert_eq!(parse("shop/web=3", None), Ok(good.clone()));
        assert_eq!(parse("shop/web", Some("3")), Ok(good));
        for (name, replicas) in [
            ("web", None),
            ("web=3", Some("3")),
            ("web=x", None),
            ("web=", None),
            ("web", Some("")),
            ("web= 3", None),
            ("web=03", None),
            ("web=3MiB", None),
            ("web=+", None),
            ("web=++1", None),
            ("Web=1", None),
            ("web=10001", None),
        ] {
            assert_eq!(parse(name, replicas).unwrap_err().exit, Exit::Usage, "{name} {replicas:?}");
        }
    }

    /// `scale web=+1` on three replicas set one: two were stopped, and the answer was a success.
    #[test]
    fn relative_number_is_refused_with_the_absolute_one() {
        let by = |text: &str| match parse("web", Some(text)).unwrap() {
            (name, Amount::By(more, written)) => refusal(&name, more, &written, Some(3)),
            other => panic!("{text} was taken as {other:?}"),
        };
        for (text, hint) in [
            ("+1", "Write web=4 (it has 3 now)."),
            ("-1", "Write web=2 (it has 3 now)."),
            ("-3", "Write web=0 (it has 3 now)."),
            ("-4", "It has 3 now: -1 is no number of replicas."),
            ("+9998", "It has 3 now: 10001 is no number of replicas."),
        ] {
            let error = by(text);
            assert_eq!((error.exit, error.hint.as_deref()), (Exit::Usage, Some(hint)), "{text}");
            assert!(error.message.contains("nothing was changed"), "{}", error.message);
        }
        assert_eq!(parse("web=+1", None), parse("web", Some("+1")));
        let unknown = refusal(&"web".parse().unwrap(), 1, "+1", None);
        assert_eq!(unknown.hint.as_deref(), Some("Write the number itself: shoal scale web=N"));
    }
}
