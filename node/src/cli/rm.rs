//! `shoal rm`.

use std::collections::BTreeSet;

use clap::Args;
use shoal_protocol::model::name::DEFAULT_NAMESPACE;
use shoal_protocol::model::view::{ValueView, WorkloadView};
use shoal_protocol::model::{Label, WorkloadName};

use super::client::{Client, path_of};
use super::context::Context;
use super::error::{CliError, Exit};
use super::publish::outcome_line;
use super::wait::{WaitArgs, gone, running, stopped};
use crate::nearest::did_you_mean;
use crate::publish as writing;

/// Remove workloads: they stop everywhere, and stay removed
///
/// Returns when the nodes that ran them say that nothing of them runs any more.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal rm hello\n  shoal rm hello shop/till --no-wait\n  shoal rm \
        hello --force   # also while the node that knows it is away\n  shoal rm --all -n shop   # \
        all workloads of a namespace, such as a Compose project"
)]
pub struct Rm {
    /// The workloads, NAME or NAMESPACE/NAME
    #[arg(required_unless_present = "all")]
    names: Vec<WorkloadName>,
    /// Remove all workloads of a namespace
    #[arg(long)]
    all: bool,
    /// The namespace of --all, and of names that have none
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<Label>,
    /// Do it even if this node does not know them, while others that may cannot be asked
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

/// The distinct names: a name given twice would fail after its first removal, before the names
/// behind it.
fn distinct(names: &[WorkloadName]) -> Vec<WorkloadName> {
    names.iter().cloned().collect::<BTreeSet<_>>().into_iter().collect()
}

/// The names, of which those without a namespace are in this one.
fn within(names: &[WorkloadName], namespace: Option<&Label>) -> Vec<WorkloadName> {
    let placed = |name: &WorkloadName| match namespace {
        Some(namespace) if name.namespace.as_str() == DEFAULT_NAMESPACE => {
            WorkloadName { namespace: namespace.clone(), name: name.name.clone() }
        }
        _ => name.clone(),
    };
    names.iter().map(placed).collect()
}

/// All workloads of a namespace.
async fn of_namespace(client: &Client, namespace: &Label) -> Result<Vec<WorkloadName>, CliError> {
    let views: Vec<WorkloadView> = client.get("/v1/workloads").await?;
    let known: BTreeSet<&str> = views.iter().map(|view| view.namespace.as_str()).collect();
    if !known.contains(namespace.as_str()) {
        return Err(unknown(namespace, &known));
    }
    let here = views.iter().filter(|view| view.namespace == namespace.as_str());
    let names = here.filter_map(|view| format!("{}/{}", view.namespace, view.name).parse().ok());
    Ok(names.collect())
}

/// A namespace without workloads is mostly a slip: whoever means none need not remove them.
fn unknown(namespace: &Label, known: &BTreeSet<&str>) -> CliError {
    let why = format!("there are no workloads in the namespace `{namespace}`; nothing was removed");
    let hint = did_you_mean(namespace.as_str(), known.iter().copied());
    let all =
        || format!("There are some in {}.", known.iter().copied().collect::<Vec<_>>().join(", "));
    let none = || "There are none in any other, either.".to_owned();
    let error = CliError::new(Exit::Refused, why);
    error.hint(hint.unwrap_or_else(|| if known.is_empty() { none() } else { all() }))
}

/// The commands that remove the values which stay in a namespace; none if there are none.
fn stays(namespace: &Label, values: &[ValueView]) -> Option<String> {
    let of = |kind: &str| {
        let here =
            values.iter().filter(|view| view.kind == kind && view.namespace == namespace.as_str());
        let names: Vec<String> = here.map(|view| format!("{namespace}/{}", view.name)).collect();
        (!names.is_empty()).then(|| format!("shoal {kind} rm {}", names.join(" ")))
    };
    let commands: Vec<String> = ["config", "secret"].into_iter().filter_map(of).collect();
    (!commands.is_empty())
        .then(|| format!("Its configs, secrets and volumes stay: {}", commands.join("; ")))
}

impl Rm {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        // Before the operator's key is read: a missing daemon is the more important error.
        client.get_bytes("/v1/status").await?;
        let names = match (self.all, &self.namespace) {
            (true, Some(namespace)) if self.names.is_empty() => {
                of_namespace(&client, namespace).await?
            }
            (true, _) => {
                let why = "--all removes all workloads of a namespace, which -n names; nothing was \
                           removed";
                return Err(CliError::usage(why)
                    .hint("shoal rm --all -n NAMESPACE; or shoal rm NAMESPACE/NAME"));
            }
            (false, namespace) => distinct(&within(&self.names, namespace.as_ref())),
        };
        let operator = context.operator()?;
        let deadline = self.wait.deadline();
        let mut ending = Vec::new();
        if deadline.is_some() {
            for name in &names {
                // A workload that this node does not know, and that is removed by force: no holder
                // is known that could be asked.
                if let Ok(view) = client.get::<WorkloadView>(&path_of("workloads", name)).await {
                    ending.extend(running(&view, |_| true));
                }
            }
        }
        // A wrong name removes nothing.
        for removed in writing::remove_all(&client, &operator, &names, self.force).await? {
            context.note(&outcome_line(&removed));
        }
        if let Some(deadline) = deadline {
            for name in &names {
                gone(&client, name, deadline).await?;
            }
            stopped(&client, ending, deadline, self.wait.timeout()).await?;
        }
        if let (true, Some(namespace)) = (self.all, &self.namespace) {
            let values: Vec<ValueView> = client.get("/v1/values").await?;
            if let Some(note) = stays(namespace, &values) {
                context.note(&note);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who removes all of a project learns what is left of it.
    #[test]
    fn values_that_stay_are_told_with_their_commands() {
        let value = |kind: &str, namespace: &str, name: &str| ValueView {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
            size: 1,
            version: String::new(),
            written: String::new(),
            by: "root".into(),
            readers: Vec::new(),
            holders_only: false,
            users: Vec::new(),
        };
        let shop: Label = "shop".parse().unwrap();
        let values = [
            value("config", "shop", "a"),
            value("secret", "shop", "key"),
            value("config", "shop", "b"),
            value("secret", "other", "key"),
        ];
        let note = stays(&shop, &values).unwrap();
        assert!(
            note.ends_with(": shoal config rm shop/a shop/b; shoal secret rm shop/key"),
            "{note}"
        );
        assert_eq!(stays(&shop, &values[3..]), None);
    }

    /// A slip must not look like a success: what was meant goes on.
    #[test]
    fn namespace_without_workloads_is_refused_with_the_nearest() {
        let label = |text: &str| text.parse::<Label>().unwrap();
        let known = ["shop", "tools"].into();
        let CliError { message, hint, .. } = unknown(&label("shpo"), &known);
        assert!(message.starts_with("there are no workloads in the namespace `shpo`"), "{message}");
        assert!(hint.unwrap().contains("shop"));
        let other = unknown(&label("zzzzzzzz"), &known).hint.unwrap();
        assert_eq!(other, "There are some in shop, tools.");
    }

    /// `-n shop web` means one workload, as with kubectl.
    #[test]
    fn namespace_goes_with_names_that_have_none() {
        let names = ["web", "other/db"].map(|name| name.parse().unwrap());
        let shown = |namespace: Option<&str>| {
            let namespace = namespace.map(|it| it.parse().unwrap());
            let all = within(&names, namespace.as_ref());
            all.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(shown(Some("shop")), ["shop/web", "other/db"]);
        assert_eq!(shown(None), ["web", "other/db"]);
    }
}
