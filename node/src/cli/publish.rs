//! `shoal publish`, and the code that `run` shares.

use std::collections::BTreeSet;

use clap::Args;
use shoal_protocol::model::spec::{Allowed, Kind, Port, Program, ValueKind};
use shoal_protocol::model::view::WorkloadView;
use shoal_protocol::model::{Label, Spec, WorkloadName};

use super::client::{Client, path_of};
use super::context::Context;
use super::error::CliError;
use super::files::{Content, Files, Placed};
use super::given::{self, ValueStep};
use super::progress::Progress;
use super::wait::{WaitArgs, gone, healthy, running, stopped};
use super::{out, render, terminal};
use crate::api::StatusBody;
use crate::api::images::form::ImageProgress;
use crate::manifest::bundle::Given;
use crate::publish::bases::Bases;
use crate::publish::plan::{self, Plan, Step};
use crate::publish::waits::waits;
use crate::publish::{self as writing, Operator, Outcome, Published, Ready, ready};

/// Publish what files describe
///
/// First it prints what would change: per workload `create`, `change` with each field and what it
/// means for the replicas, `unchanged` or `remove`. On a terminal it asks before it replaces or
/// stops something that runs; without a terminal it goes on, unless it would remove something.
/// Nothing is published unless all of the files is sound and would be taken. Publishing the same
/// again changes nothing.
#[derive(Args)]
#[command(after_help = "Examples:\n  shoal publish shop.yaml\n  shoal publish shop/ --dry-run\n  \
        generate | shoal publish - --no-wait\n  \
        shoal publish shop/ --set shop --prune --yes   # and remove what left the files\n\n\
    The form; `shoal schema` prints all of it for an editor:\n\n    \
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
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    consent: Consent,
}

/// The questions that a command may leave out, and whether it waits.
#[derive(Args)]
pub(super) struct Consent {
    /// Print what would change, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask, whatever is replaced or removed
    #[arg(short, long)]
    pub yes: bool,
    /// Publish it even if no known node can run it now, and over a change of another operator that
    /// came since you published it last
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub wait: WaitArgs,
}

/// How a publish is done.
#[derive(Default)]
pub(super) struct How {
    /// Print the plan alone.
    pub dry_run: bool,
    /// Whether a person is asked, if there is one.
    pub asks: bool,
    /// Whether a removal needs no answer.
    pub yes: bool,
    /// Whatever no node can run, and over changes of others.
    pub force: bool,
    /// Remove what left the set.
    pub prune: bool,
}

impl From<&Consent> for How {
    fn from(consent: &Consent) -> How {
        let Consent { dry_run, yes, force, .. } = *consent;
        How { dry_run, asks: !yes, yes, force, prune: false }
    }
}

impl Publish {
    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        let content = self.files.read()?;
        let how = How { prune: self.files.prune, ..How::from(&self.consent) };
        publish(context, content, &how, &self.consent.wait).await
    }
}

/// Shows what would change, publishes all workloads, waits for them, and prints their URLs.
pub(super) async fn publish(
    context: &Context,
    content: Content,
    how: &How,
    wait: &WaitArgs,
) -> Result<(), CliError> {
    let Content { placed, values, warnings, notes, .. } = content;
    let workloads = placed.as_slice();
    notes.iter().for_each(|note| context.note(note));
    warnings.iter().for_each(|warning| context.note(&format!("warning: {warning}")));
    let made = Making::prepare(context, workloads).await?;
    let values = made.values(values).await?;
    let removed = if how.prune { made.left_over(workloads).await? } else { Vec::new() };
    let plan = made.plan(context, &removed, how.force).await;
    let plan = plan.map_err(|error| with_rights(error, &made.all))?;
    let (client, folder, sets) = (&made.client, made.bases.folder(), made.sets());
    let left = match how.prune {
        true => given::left_over(client, folder, &sets, &values).await?,
        false => Vec::new(),
    };
    for (kind, name) in &left {
        context.note(&format!("{} {name}: remove", kind.word()));
    }
    if how.dry_run {
        return show(context, &plan.steps, &values);
    }
    agree(context, &plan, &values, how)?;
    if !left.is_empty() && !how.yes && plan.steps.iter().all(|it| it.wanted.is_some()) {
        consent_to(&left)?;
    }
    given::note_sets(folder, &sets, &values);
    given::carry_out(context, client, &made.operator, values).await?;
    carry_out(context, &made, plan, &removed, wait).await?;
    given::remove(context, client, &made.operator, &left).await
}

/// Asks whether values are to be removed, where no workload is.
fn consent_to(left: &[(ValueKind, WorkloadName)]) -> Result<(), CliError> {
    let names: Vec<String> =
        left.iter().map(|(kind, name)| format!("{} {name}", kind.word())).collect();
    let names = names.join(", ");
    if terminal::is_asked() {
        return match terminal::confirm(&format!("{names} would be removed.")).unwrap_or(false) {
            true => Ok(()),
            false => Err(CliError::failed("nothing was changed")),
        };
    }
    let why = format!("{names} would be removed; nothing was changed");
    Err(CliError::usage(why).hint("Without a terminal to ask at, --yes removes."))
}

/// The refusal with all rights that the workloads ask of a node, where it is about one of them:
/// else people would ask for them one after the other.
fn with_rights(error: CliError, all: &[Ready]) -> CliError {
    if !error.message.contains("does not allow") {
        return error;
    }
    let mut asked = BTreeSet::new();
    for spec in all.iter().map(|ready| &ready.spec) {
        for container in spec.program.containers() {
            asked.extend(Allowed::asked(container, spec.device_paths(container)));
        }
    }
    if asked.is_empty() {
        return error;
    }
    let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
    let hint = format!(
        "On a node that shall run all of it: `shoal up --allow '{}'`, with what it allows already, \
         which `shoal nodes -o wide` lists. Or publish it all the same with --force.",
        asked.join(",")
    );
    CliError { hint: Some(hint), ..error }
}

/// Makes the changes of a plan, waits for them, and prints the URLs.
pub(super) async fn carry_out(
    context: &Context,
    made: &Making,
    plan: Plan<'_>,
    removed: &[WorkloadName],
    wait: &WaitArgs,
) -> Result<(), CliError> {
    let deadline = wait.deadline();
    let Making { client, operator, bases, status, .. } = made;
    let mut ending = Vec::new();
    if deadline.is_some() {
        for name in removed {
            if let Ok(view) = client.get::<WorkloadView>(&path_of("workloads", name)).await {
                ending.extend(running(&view, |_| true));
            }
        }
    }
    let done = plan.carry_out(client, operator, bases).await?;
    for published in &done {
        done_line(published).iter().for_each(|line| context.note(line));
        for warning in &published.warnings {
            context.note(&format!("warning: {}: {warning}", published.name));
        }
    }
    let specs = || done.iter().filter_map(|it| it.spec.as_ref());
    for spec in specs() {
        let hints = [hint(spec), own_servers(spec), readable_secrets(spec)];
        hints.iter().flatten().for_each(|hint| context.note(hint));
    }
    let mut views: Vec<WorkloadView> = Vec::new();
    for spec in specs() {
        views.push(match deadline {
            Some(deadline) => healthy(context, client, spec, true, deadline).await?,
            None => client.get(&path_of("workloads", &spec.name)).await?,
        });
    }
    if let Some(deadline) = deadline {
        for name in removed {
            gone(client, name, deadline).await?;
        }
        stopped(client, ending, deadline, wait.timeout()).await?;
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
    for (spec, view) in specs().zip(&views) {
        for line in reached(spec, view).into_iter().chain(goes_on(spec, view)) {
            context.note(&line);
        }
    }
    Ok(())
}

/// The ports of devices that lead to a workload, with the nodes that have them.
fn reached(spec: &Spec, view: &WorkloadView) -> Vec<String> {
    let mut nodes: Vec<&str> = view
        .replicas
        .iter()
        .filter(|it| it.phase == "healthy")
        .filter_map(|it| it.node_name.as_deref())
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    if nodes.is_empty() {
        return Vec::new();
    }
    let of = if nodes.len() == 1 { "node" } else { "nodes" };
    let port = |it: &Port| {
        let kind = if it.udp { "/udp" } else { "" };
        let only = it.address.map(|ip| format!(", at {ip} alone")).unwrap_or_default();
        let (name, nodes) = (&spec.name, nodes.join(", "));
        format!("{name}: port {}{kind} of {of} {nodes}{only}", it.device)
    };
    spec.exposure.ports.iter().map(port).collect()
}

/// Whether a job is done, or has only begun.
fn goes_on(spec: &Spec, view: &WorkloadView) -> Option<String> {
    let name = &spec.name;
    match (&spec.kind, view.job.as_deref()) {
        (Kind::Job(_), Some("done")) => Some(format!("{name}: the job is done")),
        (Kind::Job(_), Some("failed")) => Some(format!("{name}: the job has failed")),
        (Kind::Job(_), _) => {
            Some(format!("{name}: the job has begun; `shoal wait {name}` waits until it is done"))
        }
        _ => None,
    }
}

/// Prints a plan as the command's answer.
pub(super) fn show(
    context: &Context,
    steps: &[Step],
    values: &[ValueStep],
) -> Result<(), CliError> {
    if context.json() {
        return out::say_json(&render::plan_body(steps));
    }
    for step in steps {
        for warning in &step.warnings {
            context.note(&format!("warning: {}: {warning}", step.name));
        }
    }
    out::say_raw(&(given::shown(values) + &render::plan(steps)))
}

/// Prints a plan, and asks a person where something that runs is replaced or stops.
pub(super) fn agree(
    context: &Context,
    plan: &Plan<'_>,
    values: &[ValueStep],
    how: &How,
) -> Result<(), CliError> {
    let steps = &plan.steps;
    let replaced = steps.iter().filter(|it| it.disturbs()).map(|it| it.name.to_string());
    let users = values.iter().flat_map(|value| value.replaces().iter().cloned());
    let disturbed: BTreeSet<String> = replaced.chain(users).collect();
    let disturbed: Vec<String> = disturbed.into_iter().collect();
    let removed: Vec<String> = steps
        .iter()
        .filter(|it| it.current.is_some() && it.wanted.is_none())
        .map(|it| it.name.to_string())
        .collect();
    let is_overtaken = steps.iter().any(|step| step.overtaken.is_some()) && !how.force;
    let asks = how.asks && !is_overtaken && !disturbed.is_empty() && terminal::is_asked();
    let text = given::shown(values) + &render::plan(steps);
    // Whoever is asked must see what about, whatever was said about notes.
    match asks {
        true => out::complain(text.trim_end()),
        false => context.note(text.trim_end()),
    }
    if asks {
        let question = format!("{} would be replaced or stopped.", disturbed.join(", "));
        return match terminal::confirm(&question).unwrap_or(false) {
            true => Ok(()),
            false => Err(CliError::failed("nothing was changed")),
        };
    }
    if !removed.is_empty() && !how.yes && !is_overtaken {
        let why = format!("{} would be removed; nothing was changed", removed.join(", "));
        return Err(CliError::usage(why).hint("Without a terminal to ask at, --yes removes."));
    }
    Ok(())
}

/// A publish that is being made: all but what changes something.
pub(super) struct Making {
    /// The daemon.
    pub client: Client,
    /// The key to sign with.
    pub operator: Operator,
    /// The versions that this installation published before.
    pub bases: Bases,
    /// The workloads, with their bytes read.
    pub all: Vec<Ready>,
    status: StatusBody,
}

impl Making {
    /// Reads and checks what the workloads run.
    pub async fn prepare(context: &Context, workloads: &[Placed]) -> Result<Making, CliError> {
        let mut all = Vec::with_capacity(workloads.len());
        for Placed { workload, place } in workloads {
            all.push(ready(workload).await.map_err(|error| {
                let error = CliError::from(error);
                match place {
                    Some(place) => {
                        CliError { message: format!("{place}: {}", error.message), ..error }
                    }
                    None => error,
                }
            })?);
        }
        let mut made = Making::of(context, all).await?;
        // Only now: a bad file, a missing daemon or key fails before anything is pulled.
        pin(context, &made.client, workloads, &mut made.all).await?;
        Ok(made)
    }

    /// The same for workloads whose bytes are known already.
    pub async fn of(context: &Context, all: Vec<Ready>) -> Result<Making, CliError> {
        let client = context.client().showing(context);
        // Before the operator's key is read: a missing daemon is the more important error.
        let status: StatusBody = client.get("/v1/status").await?;
        let operator = context.operator()?;
        let bases = Bases::of(&context.keys.config, operator.cluster());
        Ok(Making { client, operator, bases, all, status })
    }

    /// The sets of the workloads.
    pub fn sets(&self) -> BTreeSet<String> {
        self.all.iter().filter_map(|it| it.spec.later.set.as_ref()).map(Label::to_string).collect()
    }

    /// The fate of the secrets and configs that come with the workloads.
    pub async fn values(&self, all: Vec<Given>) -> Result<Vec<ValueStep>, CliError> {
        given::plan(&self.client, self.bases.folder(), all).await
    }

    /// The plan of publishing them and removing others.
    pub async fn plan<'a>(
        &'a self,
        context: &Context,
        removed: &'a [WorkloadName],
        force: bool,
    ) -> Result<Plan<'a>, CliError> {
        let specs: Vec<&Spec> = self.all.iter().map(|it| &it.spec).collect();
        let mut there = Vec::new();
        if specs.iter().any(|spec| !spec.later.after.is_empty()) {
            there = self.client.get("/v1/workloads").await?;
        }
        for (name, slip) in waits(&specs, &there)? {
            context.note(&format!("warning: {name}: {slip}"));
        }
        let changes = (self.all.as_slice(), removed);
        Ok(plan::plan(&self.client, &self.operator, changes, &self.bases, force).await?)
    }

    /// The workloads of the same sets that the files no longer describe, in their namespaces.
    pub async fn left_over(&self, all: &[Placed]) -> Result<Vec<WorkloadName>, CliError> {
        let sets: BTreeSet<&str> =
            all.iter().filter_map(|it| Some(it.workload.set_name()?.as_str())).collect();
        if sets.is_empty() {
            return Err(CliError::usage("--prune: which set is meant? Nothing was changed").hint(
                "Name it with --set NAME, each time: what was published with it before and is no \
                 longer in the files is removed.",
            ));
        }
        let names: BTreeSet<&WorkloadName> = all.iter().map(|it| it.workload.name()).collect();
        let namespaces: BTreeSet<&str> = names.iter().map(|it| it.namespace.as_str()).collect();
        let views: Vec<WorkloadView> = self.client.get("/v1/workloads").await?;
        let is_of_set = |view: &&WorkloadView| {
            namespaces.contains(view.namespace.as_str())
                && view.options.get("set").is_some_and(|set| sets.contains(set.as_str()))
        };
        let left = views.iter().filter(is_of_set);
        let left = left.filter_map(|it| format!("{}/{}", it.namespace, it.name).parse().ok());
        Ok(left.filter(|name| !names.contains(name)).collect())
    }
}

/// Settles the bytes of images that engines provide.
async fn pin(
    context: &Context,
    client: &Client,
    workloads: &[Placed],
    all: &mut [Ready],
) -> Result<(), CliError> {
    let mut progress = Progress::new(context);
    for (Placed { workload, .. }, ready) in workloads.iter().zip(all) {
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

/// How a container is reached that only exposes ports, or whose input waits for somebody.
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
        "{name}: it exposes {port} {all}: other workloads reach it as `{name}:{first}`. For \
         HTTP from outside name the port: `port: {first}` in a manifest, `--port {first}` of \
         `shoal run`, `ports` in a file of Compose, a Service of Kubernetes"
    ))
}

/// That name servers of its own know no other workload.
fn own_servers(spec: &Spec) -> Option<String> {
    let dns = &spec.program.containers().first()?.extra.dns;
    let (first, name) = (dns.first()?, &spec.name);
    Some(format!(
        "{name}: it asks {first} for names in place of its node, and does not find other \
         workloads by name (docs/containers.md)"
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

/// The outcome of a change whose plan was shown: not the fields once more.
fn done_line(published: &Published) -> Option<String> {
    match &published.outcome {
        Outcome::Unchanged => None,
        Outcome::Changed(_) => Some(format!("{}: changed", published.name)),
        _ => Some(outcome_line(published)),
    }
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
    use shoal_protocol::model::spec::{Container, Image, Job, NetworkMode};
    use shoal_protocol::model::{Resources, SpecForm};

    use super::*;
    use crate::fakes::{replica_view, spec, workload_view};

    /// A container that asks other name servers would else fail on `db` without a word.
    #[test]
    fn name_servers_that_know_no_workload_are_told() {
        let told = |dns: &[[u8; 4]]| {
            let mut container = Container::of("main", Image::named("web:1"));
            container.extra.dns = dns.iter().map(|ip| (*ip).into()).collect();
            let size = Resources { memory: 64 << 20, cpu: 100 };
            let form = SpecForm::container_service("web".parse().unwrap(), container, 1, size);
            own_servers(&form.try_into().unwrap())
        };
        assert_eq!(told(&[]), None);
        let one = told(&[[1, 1, 1, 1], [1, 0, 0, 1]]).unwrap();
        assert!(one.starts_with("web: it asks 1.1.1.1 for names in place of its node"), "{one}");
    }

    fn container(change: impl FnOnce(&mut SpecForm)) -> Spec {
        let container = Container::of("main", Image::named("web:1"));
        let size = Resources { memory: 64 << 20, cpu: 100 };
        let mut form = SpecForm::container_service("web".parse().unwrap(), container, 2, size);
        change(&mut form);
        form.try_into().unwrap()
    }

    /// A file of Compose with `ports` would end without a word about where it answers.
    #[test]
    fn ports_of_devices_are_told_with_their_nodes() {
        let spec = container(|form| {
            let port = |device, udp| Port { device, replica: 80, udp, address: None };
            form.exposure.ports = vec![port(8080, false), port(53, true)];
        });
        let replicas = ["n2", "n1", "n3"].map(|node| {
            let phase = if node == "n3" { "starting" } else { "healthy" };
            replica_view("default/web/0", phase, Some(node))
        });
        let told = reached(&spec, &workload_view("web", replicas.to_vec()));
        assert_eq!(told, ["web: port 8080 of nodes n1, n2", "web: port 53/udp of nodes n1, n2"]);
        assert_eq!(reached(&spec, &workload_view("web", Vec::new())), [""; 0]);
    }

    #[test]
    fn end_of_a_job_is_told_or_how_to_wait_for_it() {
        let job = container(|form| form.kind = Kind::Job(Job::default()));
        let of = |state: &str| {
            let view = workload_view("web", Vec::new());
            goes_on(&job, &WorkloadView { job: Some(state.into()), ..view }).unwrap()
        };
        assert_eq!(of("done"), "web: the job is done");
        assert!(of("running").ends_with("`shoal wait web` waits until it is done"));
        assert_eq!(goes_on(&container(|_| {}), &workload_view("web", Vec::new())), None);
    }

    /// One right at a time would be a publish for each.
    #[test]
    fn all_rights_are_asked_for_in_one_line() {
        let rights = |form: &mut SpecForm| {
            let Program::Containers(all) = &mut form.program else { panic!() };
            let container = &mut all[0];
            container.privileges.cap_add = vec!["NET_ADMIN".into()];
            container.network = NetworkMode::Host;
        };
        let all = [Ready { spec: container(rights), parts: Vec::new() }];
        let refused = CliError::failed("no node can run this: does not allow capability NET_ADMIN");
        let hint = with_rights(refused, &all).hint.unwrap();
        assert!(hint.contains("`shoal up --allow 'host-network,cap=NET_ADMIN'`"), "{hint}");
        assert_eq!(with_rights(CliError::failed("another"), &all).hint, None);
    }

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
