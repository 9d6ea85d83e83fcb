//! `shoal publish`, and the code that `run` shares.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use shoal_protocol::model::Spec;
use shoal_protocol::model::spec::Program;
use shoal_protocol::model::view::WorkloadView;

use super::client::{Client, path_of};
use super::context::Context;
use super::error::CliError;
use super::progress::Progress;
use super::wait::{WaitArgs, healthy};
use super::{out, render};
use crate::api::StatusBody;
use crate::api::images::form::ImageProgress;
use crate::manifest::{self, MAX_MANIFEST};
use crate::publish::{self as writing, Outcome, Published, Ready, Workload, ready};

/// Publish what a file describes
///
/// Nothing is published unless all of the file is sound and would be taken. Publishing the same
/// again changes nothing.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal publish shop.yaml\n  generate | shoal publish - \
        --no-wait\n\n\
    The form, with all there is:\n\n    \
    name: hello            # a DNS label\n    \
    namespace: default     # optional\n    \
    wasm: hello.wasm       # path relative to the file\n    \
    replicas: 2            # default 1\n    \
    memory: 64MiB          # default 64MiB\n    \
    cpu: 0.1               # cores, or 100m; default 0.1\n    \
    env: { GREETING: hi }\n    \
    require: { zone: shop }\n\n\
    Several documents may stand in one file, divided by `---`.")]
pub struct Publish {
    /// The file; `-` reads standard input
    #[arg(value_name = "FILE", required_unless_present = "named")]
    file: Option<PathBuf>,
    /// The same
    #[arg(short = 'f', long = "file", value_name = "FILE", conflicts_with = "file")]
    named: Option<PathBuf>,
    /// Publish it even if no known node can run it now
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

impl Publish {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let file = self.file.or(self.named).expect("clap asks for one of the two");
        let from_stdin = file == Path::new("-");
        let name =
            if from_stdin { "standard input".to_owned() } else { file.display().to_string() };
        let text = read(&file, from_stdin)
            .map_err(|error| CliError::usage(format!("{name} cannot be read: {error}")))?;
        let base =
            if from_stdin { Path::new(".") } else { file.parent().unwrap_or(Path::new(".")) };
        let workloads =
            manifest::parse(&text, base).map_err(|error| CliError::of_manifest(&name, error))?;
        publish(context, &workloads, Some(&name), self.force, &self.wait).await
    }
}

fn read(file: &Path, from_stdin: bool) -> std::io::Result<String> {
    let mut text = String::new();
    // Reads one byte above the bound, so that the manifest's own check reports it.
    let most = MAX_MANIFEST as u64 + 1;
    if from_stdin {
        std::io::stdin().lock().take(most).read_to_string(&mut text)?;
    } else {
        std::fs::File::open(file)?.take(most).read_to_string(&mut text)?;
    }
    Ok(text)
}

/// Publishes all workloads, waits for them, and prints their URLs. `file` is the manifest that they
/// stand in, for messages.
pub(super) async fn publish(
    context: &Context,
    workloads: &[Workload],
    file: Option<&str>,
    force: bool,
    wait: &WaitArgs,
) -> Result<(), CliError> {
    let mut all = Vec::with_capacity(workloads.len());
    for (at, workload) in workloads.iter().enumerate() {
        let place = file.map(|file| match workloads {
            [_] => file.to_owned(),
            _ => format!("{file}: document {}, `{}`", at + 1, workload.name()),
        });
        all.push(ready(workload).await.map_err(|error| {
            let error = CliError::from(error);
            match &place {
                Some(place) => CliError { message: format!("{place}: {}", error.message), ..error },
                None => error,
            }
        })?);
    }
    let client = context.client().showing(context);
    // Before the operator's key is read: a missing daemon is the more important error.
    let status: StatusBody = client.get("/v1/status").await?;
    let operator = context.operator()?;
    // Only now: a bad file, a missing daemon or key fails before anything is pulled.
    pin(context, &client, workloads, &mut all).await?;
    let deadline = wait.deadline();
    for published in writing::publish_all(&client, &operator, &all, force).await? {
        context.note(&outcome_line(&published));
        for warning in &published.warnings {
            context.note(&format!("warning: {}: {warning}", published.name));
        }
    }
    for ready in &all {
        let hints = [hint(&ready.spec), readable_secrets(&ready.spec)];
        hints.iter().flatten().for_each(|hint| context.note(hint));
    }
    let mut views: Vec<WorkloadView> = Vec::new();
    for ready in &all {
        views.push(match deadline {
            Some(deadline) => healthy(context, &client, &ready.spec, true, deadline).await?,
            None => client.get(&path_of("workloads", &ready.spec.name)).await?,
        });
    }
    if context.json() {
        return match views.as_slice() {
            [only] => out::say_json(only),
            several => out::say_json(&several),
        };
    }
    for view in views.iter().filter(|view| view.http) {
        out::say(&render::url(&view.namespace, &view.name, &status.http))?;
    }
    Ok(())
}

/// Settles the bytes of images that engines provide.
async fn pin(
    context: &Context,
    client: &Client,
    workloads: &[Workload],
    all: &mut [Ready],
) -> Result<(), CliError> {
    let mut progress = Progress::new(context);
    for (workload, ready) in workloads.iter().zip(all) {
        let mut told = |it: ImageProgress| progress.show(&it.what, it.bytes, it.total);
        let (pinned, notes) = writing::pinned(client, workload, &mut told).await?;
        progress.end();
        notes.iter().for_each(|note| context.note(&format!("{}: {note}", workload.name())));
        if pinned != *workload {
            *ready = writing::ready(&pinned).await?;
        }
    }
    Ok(())
}

/// How a container is reached whose ports its image alone names, or whose input waits for somebody.
fn hint(spec: &Spec) -> Option<String> {
    let name = &spec.name;
    let Program::Containers(containers) = &spec.program else { return None };
    if spec.later.stdin {
        return Some(format!("{name}: `shoal attach {name}` writes to its standard input"));
    }
    let first = spec.later.exposed.first()?;
    if containers.iter().any(|it| it.http.is_some()) || !spec.exposure.ports.is_empty() {
        return None;
    }
    let ports: Vec<String> = spec.later.exposed.iter().map(u16::to_string).collect();
    let (port, all) = (if ports.len() == 1 { "port" } else { "ports" }, ports.join(", "));
    Some(format!(
        "{name}: its image exposes {port} {all}: other workloads reach it as `{name}:{first}`. For \
         HTTP from outside name the port: --port {first}"
    ))
}

/// Parts of names of variables whose values are not meant for everybody.
const SECRET: [&str; 7] =
    ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "API_KEY", "PRIVATE_KEY", "CREDENTIAL"];

/// The variables that look like secrets. A path to a file with one, as in `X_PASSWORD_FILE`, is
/// none.
fn readable_secrets(spec: &Spec) -> Option<String> {
    let is_secret = |name: &&String| {
        let upper = name.to_ascii_uppercase();
        !upper.ends_with("_FILE") && SECRET.iter().any(|part| upper.contains(part))
    };
    let names: Vec<&str> = spec.env().keys().filter(is_secret).map(String::as_str).collect();
    if names.is_empty() {
        return None;
    }
    let (name, all) = (&spec.name, names.join(", "));
    let first = names[0];
    let verb = if names.len() == 1 { "looks like a secret" } else { "look like secrets" };
    Some(format!(
        "{name}: {all} {verb}: every node of the cluster can read the environment of workloads. \
         `shoal secret set NAME` keeps it from them, and --secret NAME:env={first} gives it"
    ))
}

/// The outcome of a change, as a line.
pub(super) fn outcome_line(published: &Published) -> String {
    let name = &published.name;
    match &published.outcome {
        Outcome::Created => format!("{name}: created"),
        Outcome::Unchanged => format!("{name} is up to date"),
        Outcome::Repeated(unheard) => {
            let (is, others) = (
                if published.spec.is_some() { "unchanged" } else { "was removed" },
                unheard.join(", "),
            );
            format!("{name}: {is}, and was written again, since not all nodes confirm it: {others}")
        }
        Outcome::Removed => format!("{name}: removed"),
        Outcome::Changed(differences) => {
            let differences: Vec<String> = differences.iter().map(ToString::to_string).collect();
            format!("{name}: changed: {}", differences.join(", "))
        }
    }
}

/// The view of a workload after its change.
pub(super) async fn view(client: &Client, published: &Published) -> Result<WorkloadView, CliError> {
    Ok(client.get(&path_of("workloads", &published.name)).await?)
}

#[cfg(test)]
mod tests {
    use shoal_protocol::model::SpecForm;

    use super::*;
    use crate::fakes::spec;

    #[test]
    fn variables_that_look_like_secrets_are_named() {
        let told = |names: &[&str]| {
            let env = names.iter().map(|name| ((*name).to_owned(), "x".to_owned())).collect();
            let form = SpecForm::from(spec("web", 1)).with_env(env);
            readable_secrets(&form.try_into().unwrap())
        };
        assert_eq!(told(&["PORT", "DB_PASSWORD_FILE", "TOKENIZER_PATH_FILE"]), None);
        let one = told(&["DB_PASSWORD", "PORT"]).unwrap();
        assert!(one.starts_with("web: DB_PASSWORD looks like a secret"), "{one}");
        assert!(one.contains("shoal secret set") && one.contains(":env=DB_PASSWORD"), "{one}");
        let two = told(&["apiToken", "AWS_SECRET_ACCESS_KEY"]).unwrap();
        assert!(two.contains("AWS_SECRET_ACCESS_KEY, apiToken look like"), "{two}");
    }
}
