//! `shoal wait`, and how a job is followed to its end.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};
use shoal_protocol::model::view::{ResultView, WorkloadView};
use shoal_protocol::model::{Place, WorkloadName};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::client::{Client, path_of};
use super::context::Context;
use super::error::{CliError, Exit};
use super::out;
use crate::api::ApiError;
use crate::api::form::LogBody;
use crate::manifest::quantity;

/// Lines that wait to be printed.
const WAITING: usize = 256;
/// Time for the last lines of a job that is over.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(5);
/// Pause before the lines of a replica are asked for again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Wait until a job is done, or a workload healthy
///
/// Exits with 0 when it is so, with 1 when a job came to the other end, and with 5 when the time is
/// over.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal wait backup\n  shoal wait backup --for failed \
    --timeout 10m\n  shoal wait web --for healthy")]
pub struct Wait {
    /// The workload, NAME or NAMESPACE/NAME
    name: WorkloadName,
    /// The state to wait for [default: done for a job, healthy for others]
    #[arg(long = "for", value_enum, value_name = "STATE")]
    condition: Option<State>,
    /// How long to wait
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = quantity::duration)]
    timeout: Duration,
}

/// The state that is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum State {
    /// All indices of a job succeeded
    #[value(alias = "complete")]
    Done,
    /// A job failed
    Failed,
    /// All replicas are healthy
    #[value(alias = "ready")]
    Healthy,
}

impl Wait {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let client = context.client();
        let deadline = Instant::now() + self.timeout;
        let path = format!("{}?watch=true", path_of("workloads", &self.name));
        let mut lines = client.lines(&path).await?;
        loop {
            let Ok(next) = timeout_at(deadline, lines.next::<WorkloadView>()).await else {
                let why = format!("`{}` is not so far after {:?}", self.name, self.timeout);
                return Err(CliError::new(Exit::Unhealthy, why)
                    .hint("`shoal describe` tells how it is; a longer --timeout waits longer."));
            };
            let Some(view) = next? else {
                let why = format!("`{}` was removed meanwhile", self.name);
                return Err(CliError::new(Exit::NoSuchThing, why));
            };
            if reached(self.condition, &view)? {
                return if context.json() { out::say_json(&view) } else { Ok(()) };
            }
        }
    }
}

/// Whether a workload is as it is waited for. An error: it can no longer be.
fn reached(state: Option<State>, view: &WorkloadView) -> Result<bool, CliError> {
    let is_job = view.job.is_some();
    let state = state.unwrap_or(if is_job { State::Done } else { State::Healthy });
    match (state, view.job.as_deref()) {
        (State::Healthy, _) => Ok(view.healthy >= view.desired && !is_over(view)),
        (State::Done | State::Failed, None) => {
            let why = format!(
                "`{}` is a {} workload, and only a job comes to its end",
                name(view),
                view.kind
            );
            let error = CliError::usage(why);
            Err(match view.kind.as_str() {
                "cron" => {
                    error.hint("Its runs are in `shoal describe`; `shoal cron run` makes a job.")
                }
                _ => error,
            })
        }
        (State::Done, Some("done")) | (State::Failed, Some("failed")) => Ok(true),
        (State::Done, Some("failed")) => Err(CliError { exit: Exit::Failed, ..failure(view) }),
        (State::Failed, Some("done")) => {
            Err(CliError::new(Exit::Failed, format!("`{}` is done, and did not fail", name(view))))
        }
        (State::Done | State::Failed, Some(_)) => Ok(false),
    }
}

fn name(view: &WorkloadView) -> String {
    crate::api::short_name(view)
}

fn is_over(view: &WorkloadView) -> bool {
    matches!(view.job.as_deref(), Some("done" | "failed"))
}

/// The error of a job that failed, with the exit code of its program.
pub(super) fn failure(view: &WorkloadView) -> CliError {
    let name = name(view);
    let Some(failed) = view.results.iter().find(|it| it.outcome != "done") else {
        return CliError::failed(format!("`{name}` failed"));
    };
    let code = failed.exit_code.and_then(|code| u8::try_from(code).ok()).filter(|it| *it != 0);
    let exit = code.map_or(Exit::Failed, Exit::Program);
    let mut message = format!("`{name}` failed: {}", ending(failed));
    for line in &failed.lines {
        message.push_str(&format!("\n  {line}"));
    }
    CliError::new(exit, message).hint(format!("`shoal describe {name}` shows all results."))
}

/// How an index ended, in words.
pub(super) fn ending(result: &ResultView) -> String {
    let place = Place::Run { at: result.at, index: result.index };
    let how = match (result.outcome.as_str(), result.exit_code) {
        ("deadline", _) => "was not done within its deadline".to_owned(),
        ("replaced", _) => "was stopped for a later run".to_owned(),
        (_, Some(code)) => format!("exited with code {code} on {}", result.node),
        (outcome, None) => format!("{outcome} on {}", result.node),
    };
    format!("{place} {how}")
}

/// A line of a replica.
struct Line {
    replica: String,
    text: String,
}

/// Prints what a job writes until it is over. Its failure has the exit code of its program.
pub(super) async fn to_the_end(context: &Context, name: &WorkloadName) -> Result<(), CliError> {
    let client = context.client();
    let mut views = client.lines(&format!("{}?watch=true", path_of("workloads", name))).await?;
    let (sender, mut receiver) = mpsc::channel::<Line>(WAITING);
    let mut readers = Readers {
        client: client.clone(),
        name: name.clone(),
        sender,
        all: JoinSet::new(),
        places: BTreeMap::new(),
    };
    let view = loop {
        tokio::select! {
            biased;
            Some(line) = receiver.recv() => print(&line, false)?,
            view = views.next::<WorkloadView>() => {
                let view = view?.ok_or_else(|| {
                    let why = format!("`{name}` was removed meanwhile");
                    CliError::new(Exit::Unhealthy, why)
                })?;
                let over = is_over(&view);
                readers.follow(&view, over);
                if over {
                    break view;
                }
            }
        }
    };
    // The rest is on its way: the program has written all of it.
    let several = view.results.len() > 1;
    let deadline = Instant::now() + LAST_LINES_WITHIN;
    let Readers { sender, mut all, .. } = readers;
    drop(sender);
    while let Ok(Some(line)) = timeout_at(deadline, receiver.recv()).await {
        print(&line, several)?;
    }
    all.abort_all();
    if context.json() {
        out::say_json(&view)?;
    }
    match view.job.as_deref() {
        Some("done") => {
            context.note(&format!("✓ {name} is done"));
            Ok(())
        }
        _ => Err(failure(&view)),
    }
}

fn print(line: &Line, several: bool) -> Result<(), CliError> {
    match several {
        true => out::say(&format!("{} | {}", line.replica, line.text)),
        false => out::say(&line.text),
    }
}

/// A reader for each replica of a job.
struct Readers {
    client: Client,
    name: WorkloadName,
    sender: mpsc::Sender<Line>,
    all: JoinSet<()>,
    /// Whether the reader of a place knows that it came to its end.
    places: BTreeMap<String, tokio::sync::watch::Sender<bool>>,
}

impl Readers {
    fn follow(&mut self, view: &WorkloadView, over: bool) {
        let there = view.replicas.iter().filter(|it| it.node.is_some());
        let there = there.filter_map(|it| it.replica.rsplit_once('/').map(|(_, it)| it.to_owned()));
        let ended: Vec<String> = view
            .results
            .iter()
            .map(|it| Place::Run { at: it.at, index: it.index }.to_string())
            .collect();
        let all: Vec<String> = there.chain(ended.iter().cloned()).collect();
        for place in all {
            let is_ended = over || ended.contains(&place);
            if let Some(known) = self.places.get(&place) {
                known.send_if_modified(|it| std::mem::replace(it, is_ended) != is_ended);
                continue;
            }
            let (ended, over) = tokio::sync::watch::channel(is_ended);
            self.places.insert(place.clone(), ended);
            let path = format!("{}/{place}", path_of("logs", &self.name));
            let replica = format!("{}/{place}", self.name);
            self.all.spawn(read(self.client.clone(), path, replica, self.sender.clone(), over));
        }
    }
}

/// Reads the lines of a replica over all its tries, each line once.
async fn read(
    client: Client,
    path: String,
    replica: String,
    to: mpsc::Sender<Line>,
    mut over: tokio::sync::watch::Receiver<bool>,
) {
    // Lines that were passed on already: those before this instant, and so many of it.
    let mut seen = (String::new(), 0_usize);
    loop {
        let is_over = *over.borrow_and_update();
        let query = format!("{path}?lines={}&follow={}", usize::MAX, !is_over);
        // A node that cannot be asked now may be later; a job that is over is asked once more.
        let _: Result<(), ApiError> = async {
            let mut lines = client.lines(&query).await?;
            let mut of_instant = 0;
            while let Some(line) = lines.next::<LogBody>().await? {
                if line.at == seen.0 {
                    of_instant += 1;
                }
                let is_new = line.at > seen.0 || (line.at == seen.0 && of_instant > seen.1);
                if !is_new {
                    continue;
                }
                if line.at == seen.0 {
                    seen.1 = of_instant;
                } else {
                    (seen, of_instant) = ((line.at.clone(), 1), 1);
                }
                // The runtime's own lines are about it, and none of its output.
                if line.stream != "system"
                    && to.send(Line { replica: replica.clone(), text: line.text }).await.is_err()
                {
                    return Ok(());
                }
            }
            Ok(())
        }
        .await;
        if is_over {
            return;
        }
        tokio::select! {
            changed = over.changed() => if changed.is_err() && !*over.borrow() { return },
            () = tokio::time::sleep(AGAIN_AFTER) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::workload_view;

    fn job(state: &str, codes: &[i32]) -> WorkloadView {
        let results = codes.iter().enumerate().map(|(index, code)| ResultView {
            at: 0,
            index: u32::try_from(index).unwrap(),
            outcome: if *code == 0 { "done" } else { "failed" }.into(),
            exit_code: Some(*code),
            ended: 7,
            node: "n1".into(),
            lines: vec!["the end".into()],
        });
        let view = workload_view("backup", Vec::new());
        let (results, job) = (results.collect(), Some(state.to_owned()));
        WorkloadView { kind: "job".into(), job, results, ..view }
    }

    #[test]
    fn wait_ends_when_a_job_comes_to_the_other_end() {
        let (done, failed) = (job("done", &[0]), job("failed", &[0, 3]));
        let running = job("running", &[]);
        assert_eq!(reached(None, &done), Ok(true));
        assert_eq!(reached(None, &running), Ok(false));
        let error = reached(None, &failed).unwrap_err();
        assert_eq!(error.exit, Exit::Failed);
        let text = "`backup` failed: 1 exited with code 3 on n1\n  the end";
        assert_eq!(error.message, text);
        assert_eq!(reached(Some(State::Failed), &failed), Ok(true));
        assert_eq!(reached(Some(State::Failed), &done).unwrap_err().exit, Exit::Failed);
        let service = workload_view("web", Vec::new());
        assert_eq!(reached(None, &service), Ok(true));
        assert_eq!(reached(Some(State::Done), &service).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn followed_job_has_the_exit_code_of_its_program() {
        assert_eq!(failure(&job("failed", &[0, 3])).exit, Exit::Program(3));
        assert_eq!(failure(&job("failed", &[])).exit, Exit::Failed);
    }
}
