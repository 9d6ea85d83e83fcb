//! `shoal logs`.

use std::collections::BTreeSet;

use clap::Args;
use shoal_protocol::model::view::WorkloadView;
use shoal_protocol::model::{Label, NamedReplica, Place, WorkloadName};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::client::{Client, path_of};
use super::context::Context;
use super::error::{CliError, Exit};
use super::target::Target;
use super::{out, render};
use crate::api::form::LogBody;
use crate::api::{ApiError, Since};

/// Lines of each replica, unless the user says otherwise.
const TAIL: usize = 100;
/// Lines that may wait to be printed: a slow terminal slows the readers down instead of filling
/// memory.
const WAITING: usize = 256;
/// Replicas followed at one time: each takes a connection, and people cannot read more side by
/// side.
const FOLLOWED: usize = 64;

/// Show what replicas wrote to their standard output and error
#[derive(Args)]
#[command(
    after_help = "Examples:\n  shoal logs hello          # all replicas\n  shoal logs hello/0 \
        -f     # one, and what it writes from now on\n  shoal logs hello --tail 20\n  \
        shoal logs hello --since 10m\n  shoal logs shop -c proxy  # one container of a group"
)]
pub struct Logs {
    /// NAME for all its replicas, or NAME/NUMBER for one
    #[arg(value_name = "NAME[/NUMBER]")]
    target: Target,
    /// Go on with what is written from now on
    #[arg(short, long)]
    follow: bool,
    /// The time of each line in UTC, before it
    #[arg(short, long)]
    timestamps: bool,
    /// How many of the last lines of each replica [default: 100, or all with --since]
    #[arg(short = 'n', long, value_name = "N")]
    tail: Option<usize>,
    /// Only what this container of a group wrote
    #[arg(short, long, value_name = "CONTAINER")]
    container: Option<Label>,
    /// No older lines: a duration, as in 10m or 1h30m, an instant in UTC, as in
    /// 2026-11-29T18:00:00Z, or seconds since 1970
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
}

impl Logs {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        tokio::select! {
            shown = self.show(context) => shown,
            () = out::reader_gone(), if self.follow => Ok(()),
        }
    }

    async fn show(&self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        let target = self.target.settled(&client).await?;
        if let Some(container) = &self.container {
            let view: WorkloadView = client.get(&path_of("workloads", target.workload())).await?;
            has_container(&view, container)?;
        }
        match &target {
            Target::One(replica) => {
                let (sender, receiver) = mpsc::channel(WAITING);
                let reading = read(client, replica.clone(), self.query(), sender);
                let printing = print(context, receiver, None, self.timestamps);
                let (read, printed) = tokio::join!(reading, printing);
                printed?;
                Ok(read?)
            }
            Target::All(name) => self.all(context, client, name).await,
        }
    }

    async fn all(
        &self,
        context: &Context,
        client: Client,
        name: &WorkloadName,
    ) -> Result<(), CliError> {
        let view: WorkloadView = client.get(&path_of("workloads", name)).await?;
        let all = replicas_of(&view, name);
        if all.is_empty() {
            context.note(&render::no_replicas(&view, render::now()));
        }
        let replicas = all.iter().take(FOLLOWED).cloned();
        let width = replicas.clone().map(|replica| replica.to_string().len()).max().unwrap_or(0);
        if all.len() > FOLLOWED {
            context.note(&format!("the first {FOLLOWED} of {} replicas are shown", all.len()));
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        let mut readers = JoinSet::new();
        for replica in replicas {
            let reading = read(client.clone(), replica.clone(), self.query(), sender.clone());
            readers.spawn(async move { (replica, reading.await) });
        }
        drop(sender);
        print(context, receiver, Some(width), self.timestamps).await?;
        // A replica whose logs cannot be read gets a note; the command fails only if that is so for
        // all of them.
        let (mut shown, mut last) = (false, None);
        while let Some(ended) = readers.join_next().await {
            match ended {
                Ok((_, Ok(()))) => shown = true,
                Ok((replica, Err(error))) => {
                    context.note(&format!("{replica}: {error}"));
                    last = Some(error);
                }
                Err(error) => return Err(CliError::failed(format!("a reader failed: {error}"))),
            }
        }
        match last {
            Some(error) if !shown => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn query(&self) -> String {
        let all = if self.since.is_some() { usize::MAX } else { TAIL };
        let since = self.since.as_ref().map(|since| format!("&since={since}")).unwrap_or_default();
        let container = self.container.as_ref();
        let container = container.map(|name| format!("&container={name}")).unwrap_or_default();
        let lines = self.tail.unwrap_or(all);
        format!("?lines={lines}&follow={}{since}{container}", self.follow)
    }
}

/// Refuses the name of a container that a workload does not have.
pub(super) fn has_container(view: &WorkloadView, container: &Label) -> Result<(), CliError> {
    let names: Vec<&str> = view.containers.iter().map(|it| it.name.as_str()).collect();
    if names.contains(&container.as_str()) {
        return Ok(());
    }
    let name = &view.name;
    Err(match names.is_empty() {
        true => CliError::usage(format!("`{name}` is no group of containers"))
            .hint("Leave --container away."),
        false => CliError::usage(format!("`{name}` has no container `{container}`"))
            .hint(format!("It has {}.", names.join(", "))),
    })
}

/// The replicas of a workload, those that came to their end among them.
pub(super) fn replicas_of(view: &WorkloadView, name: &WorkloadName) -> Vec<NamedReplica> {
    let there = view.replicas.iter().filter_map(|it| it.replica.parse::<NamedReplica>().ok());
    let ended = view.results.iter().map(|it| NamedReplica {
        workload: name.clone(),
        place: Place::Run { at: it.at, index: it.index }.to_string(),
    });
    there.chain(ended).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Reads a replica's lines until they end, or the receiver is gone.
async fn read(
    client: Client,
    replica: NamedReplica,
    query: String,
    to: mpsc::Sender<(String, LogBody)>,
) -> Result<(), ApiError> {
    let path = format!("{}/{}{query}", path_of("logs", &replica.workload), replica.place);
    let mut lines = client.lines(&path).await?;
    while let Some(line) = lines.next::<LogBody>().await? {
        if to.send((replica.to_string(), line)).await.is_err() {
            break;
        }
    }
    Ok(())
}

async fn print(
    context: &Context,
    mut from: mpsc::Receiver<(String, LogBody)>,
    prefixed: Option<usize>,
    timestamps: bool,
) -> Result<(), CliError> {
    while let Some((replica, line)) = from.recv().await {
        let at = if timestamps { format!("{} ", line.at) } else { String::new() };
        if context.json() {
            let mut value = serde_json::to_value(&line)
                .map_err(|error| CliError::new(Exit::Failed, error.to_string()))?;
            if let Some(object) = value.as_object_mut() {
                object.insert("replica".into(), replica.into());
            }
            out::say(&value.to_string())?;
        } else if let Some(width) = prefixed {
            let prefix = format!("{replica:<width$} |");
            out::say(&format!("{} {at}{}", out::coloured(&replica, &prefix), line.text))?;
        } else {
            out::say(&format!("{at}{}", line.text))?;
        }
    }
    Ok(())
}
