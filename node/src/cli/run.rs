//! `shoal run`.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::Read;
use std::path::Path;

use clap::Args;
use shoal_protocol::model::WorkloadName;
use shoal_protocol::model::spec::{
    Affinity, MAX_REPLICAS, NotARule, Preference, Rule, Toleration, ValueUse,
};

use super::context::Context;
use super::error::CliError;
use super::files::{Content, Placed};
use super::from_docker;
use super::job::to_the_end;
use super::publish::{How, publish};
use super::wait::WaitArgs;
use crate::manifest::quantity;
use crate::publish::container::{ContainerOptions, is_file, pair};
use crate::publish::kind::KindOptions;
use crate::publish::probe::HealthOptions;
use crate::publish::rollout::UpdateOptions;
use crate::publish::{Source, Workload, given, reserved_below, uses, volume};

/// Run a WebAssembly component or a container, on as many nodes as wished
///
/// A workload of that name that is there already is replaced; what changes is shown. The change is
/// signed with the operator's key.
#[derive(Args)]
#[command(after_help = "Examples:\n  \
    shoal run hello.wasm --name hello\n  \
    shoal run hello.wasm --name hello --replicas 2 --env GREETING=hi --memory 32MiB\n  \
    shoal run till.wasm --name till --namespace shop --require zone=front --no-wait\n  \
    shoal run --name seg --require 'arch in (arm64,x86_64)' --require '!gpu' seg.tar\n  \
    shoal run --name web --port 80 nginx:1.27\n  \
    shoal run --name web --port 80 web.tar            # of `docker save`: no registry is needed\n  \
    shoal run --name db --volume data:/var/lib/postgresql/data postgres:17\n  \
    shoal run --name db --secret db:env=POSTGRES_PASSWORD postgres:17
  \
    shoal run --name meter --device /dev/ttyUSB0 meter.tar   # on a node that allows it\n  \
    shoal run --name web --port 80 --ready-http /health nginx:1.27
  \
    shoal run --name web --replicas 3 --update-failure-action rollback web.wasm
  \
    shoal run --name agent --kind daemon agent.tar   # on every node
  \
    shoal run --name db --kind stateful --replicas 3 --volume data:/data db.tar
  \
    shoal run --name backup --kind job --wait backup.wasm -- --full   # to its end
  \
    shoal run --name report --schedule '0 3 * * *' --timezone Europe/Berlin report.wasm
  \
    shoal run --name cache --memory 128MiB redis:7 redis-server --appendonly yes\n\n\
    A component is built with: cargo build --release --target wasm32-wasip2")]
pub struct Run {
    /// Taken as docker has it: a workload always runs in the background
    #[arg(short, long, hide = true)]
    detach: bool,
    /// A file of a component, the image of a container, or a file of it: an archive of `docker
    /// save`, or an OCI layout
    #[arg(value_name = "FILE|IMAGE")]
    program: String,
    /// Replaces the arguments of the container's image; the arguments of a component
    #[arg(value_name = "COMMAND", trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Its name, a DNS label: it is also its host name
    #[arg(long)]
    name: String,
    /// The namespace it is in
    #[arg(long, default_value = "default")]
    namespace: String,
    /// How many at once [default: 1]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = replicas)]
    replicas: Option<u32>,
    #[command(flatten)]
    kind: KindOptions,
    /// A variable in its environment; may be given several times
    #[arg(short, long = "env", value_name = "K=V", value_parser = pair)]
    env: Vec<(String, String)>,
    /// The memory that is reserved for a replica, and the most it may take [default: 64MiB]
    #[arg(long, value_name = "SIZE", value_parser = quantity::memory)]
    memory: Option<u64>,
    /// The CPU that is reserved for a replica, in cores; a component gets no more [default: 0.1]
    #[arg(long, value_name = "CORES", value_parser = quantity::cpu)]
    cpu: Option<u32>,
    /// Reserve nothing of --memory and --cpu, which are then the most it may take: it takes what
    /// others leave, and yields first
    #[arg(long)]
    best_effort: bool,
    /// From -1000 to 1000: where there is no room for all, a greater one goes first, and above 0 it
    /// takes the place of lower ones [default: 0]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = uses::priority)]
    priority: Option<i32>,
    /// The disk that is reserved for a replica [default: none]
    #[arg(long, value_name = "SIZE", value_parser = quantity::disk)]
    disk: Option<u64>,
    /// A resource that a replica has for itself while it runs, as its node offers it: camera, or
    /// gpu=2; may be given several times
    #[arg(
        long = "resource",
        visible_alias = "generic-resource",
        value_name = "NAME[=N]",
        value_parser = uses::amount
    )]
    resources: Vec<(String, u64)>,
    /// The most memory a container may take, if that is more than what is reserved
    #[arg(long, value_name = "SIZE", value_parser = quantity::memory)]
    memory_limit: Option<u64>,
    /// The most CPU a container may take, in cores [default: what is free]
    #[arg(long, visible_alias = "cpus", value_name = "CORES", value_parser = quantity::cpu)]
    cpu_limit: Option<u32>,
    /// A secret that it gets, as /run/secrets/NAME or where the options say; a component gets it as
    /// a variable only, NAME:env=VARIABLE; may be given several times
    #[arg(
        long = "secret",
        value_name = "NAME[:target=PATH|:env=VARIABLE]",
        value_parser = given::secret
    )]
    secrets: Vec<ValueUse>,
    /// A config that it gets, as the file /NAME or where the options say; repeatable
    #[arg(
        long = "config-file",
        value_name = "NAME[:PATH|:env=VARIABLE]",
        value_parser = given::config
    )]
    configs: Vec<ValueUse>,
    #[command(flatten)]
    health: HealthOptions,
    #[command(flatten)]
    update: UpdateOptions,
    /// A rule that its nodes must fulfil: about a label or fact, as in zone=front, 'zone!=back',
    /// 'arch in (arm64,x86_64)', gpu, '!gpu' or 'disk.free>2GiB'; may be given several times
    #[arg(long = "require", value_name = "RULE", value_parser = rule)]
    require: Vec<Rule>,
    /// A rule that makes a node better, as --require, with a weight from 1 to 100 behind a colon:
    /// disk=ssd:80 [default weight: 50]; repeatable
    #[arg(long = "prefer", value_name = "RULE[:WEIGHT]")]
    prefer: Vec<Preference>,
    /// A label over whose values its replicas are spread, as in zone; repeatable
    #[arg(long = "spread", value_name = "LABEL")]
    spread: Vec<String>,
    /// A workload on whose nodes it must be; with a weight it is preferred only; repeatable
    #[arg(long = "near", value_name = "WORKLOAD[:WEIGHT]")]
    near: Vec<String>,
    /// A workload on whose nodes it must not be, as --near; its own name keeps its replicas apart
    #[arg(long = "apart", value_name = "WORKLOAD[:WEIGHT]")]
    apart: Vec<String>,
    /// A taint that does not keep it away, as NAME or NAME=VALUE; `*` for all; repeatable
    #[arg(long = "tolerate", value_name = "TAINT")]
    tolerate: Vec<Toleration>,
    /// Publish it even if no known node can run it now
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    wait: WaitArgs,
    /// Which image of a file that has several
    #[arg(long, value_name = "NAME", help_heading = "Options of a container")]
    image_name: Option<String>,
    #[command(flatten)]
    container: ContainerOptions,
}

impl Run {
    /// The workload with its program: a component or a container.
    fn program(&self, name: WorkloadName) -> Result<Workload, CliError> {
        let what = What::of(&self.program);
        if what == What::Manifest {
            let file = &self.program;
            return Err(CliError::usage(format!(
                "{file} is a manifest, and describes what to run"
            ))
            .hint(format!("shoal publish {file}")));
        }
        if what != What::Component {
            let options = self.container.clone();
            let workload = match what {
                What::ImageFile => {
                    Workload::image_file(name, &self.program, self.image_name.clone())
                }
                What::Image | What::Component | What::Manifest => {
                    Workload::container(name, &self.program)
                }
            };
            let workload = options.apply(workload).map_err(CliError::usage)?;
            return Ok(match self.command.is_empty() {
                true => workload,
                false => workload.command(self.command.clone()),
            });
        }
        let mut options = self.container.clone();
        let (volumes, on_loss) = options.take_volumes();
        let only_container = options.first();
        let only_container = only_container.or(self.image_name.as_ref().map(|_| "--image-name"));
        if let Some(what) = only_container {
            let file = &self.program;
            let why = format!("{what}: only a container has it, and {file} is a component's file");
            return Err(CliError::usage(why));
        }
        let source = Source::File(self.program.clone().into());
        let workload = Workload::component(name, source).args(self.command.clone());
        volume::folders(workload, &volumes, on_loss).map_err(CliError::usage)
    }

    pub(super) async fn run(self, context: &Context) -> Result<(), CliError> {
        if let Some(option) = from_docker::own_option(&self.command) {
            context.note(&format!(
                "note: {option} is passed to the container, as it stands in its command; options \
                 of shoal stand before the command, `{}`",
                self.command[0]
            ));
        }
        let workload = self.workload()?;
        let (name, is_job) = (workload.name().clone(), workload.is_job());
        let placed = vec![Placed { workload, place: None }];
        let content = Content { placed, ..Content::default() };
        let how = How { force: self.force, ..How::default() };
        if !(is_job && self.wait.is_asked()) {
            return publish(context, content, &how, &self.wait).await;
        }
        publish(context, content, &how, &WaitArgs::none()).await?;
        to_the_end(context, &name).await
    }

    /// The workload that the options describe.
    fn workload(&self) -> Result<Workload, CliError> {
        let named = |what: &str, error: &dyn std::fmt::Display| {
            CliError::usage(format!("--{what}: {error}"))
        };
        let name = WorkloadName {
            namespace: self.namespace.parse().map_err(|error| named("namespace", &error))?,
            name: self.name.parse().map_err(|error| named("name", &error))?,
        };
        let relation = |what: &'static str, texts: &[String], apart: bool| {
            let one = |text: &String| Affinity::parse(text, apart, &name);
            let all: Result<Vec<Affinity>, String> = texts.iter().map(one).collect();
            all.map_err(|error| CliError::usage(format!("--{what}: {error}")))
        };
        let mut affinity = relation("near", &self.near, false)?;
        affinity.extend(relation("apart", &self.apart, true)?);
        let kind = self.kind.kind(self.replicas);
        let kind = kind.map_err(|why| CliError::usage(format!("--{why}")))?;
        let rollout = self.update.rollout(&kind);
        let mut workload = self
            .program(name)?
            .kind(kind)
            .envs(unique("env", self.env.clone())?)
            .given(self.secrets.iter().cloned().chain(self.configs.iter().cloned()))
            .health(self.health.health().map_err(CliError::usage)?)
            .no_healthcheck(self.health.no_healthcheck)
            .rules(self.require.clone())
            .prefers(self.prefer.clone())
            .spread(self.spread.clone())
            .affinity(affinity)
            .tolerates(self.tolerate.clone())
            .resources(unique("resource", self.resources.clone())?)
            .disk(self.disk.unwrap_or_default())
            .best_effort(self.best_effort)
            .priority(self.priority.unwrap_or_default());
        if let Some(rollout) = rollout {
            workload = workload.update(rollout);
        }
        if let Some(memory) = self.memory {
            workload = workload.memory(memory);
        }
        if let Some(cpu) = self.cpu.or_else(|| reserved_below(self.cpu_limit)) {
            workload = workload.cpu(cpu);
        }
        Ok(workload.limit(self.memory_limit, self.cpu_limit))
    }

    /// Whether the options make a spec, for tests of them. No file is read.
    pub(super) fn makes_spec(&self) -> bool {
        self.workload().is_ok_and(|workload| workload.spec(None).is_ok())
    }
}

/// The program of `shoal run`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum What {
    /// The file of a component: it ends in `.wasm`, or begins as components do.
    Component,
    /// Another file, or a folder: an image.
    ImageFile,
    /// The reference of an image.
    Image,
    /// The file of a manifest.
    Manifest,
}

impl What {
    fn of(program: &str) -> What {
        let path = Path::new(program);
        let begins_as_component = || {
            let mut head = [0; 4];
            let file = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut head));
            file.is_ok() && head == *b"\0asm"
        };
        let is_manifest = || [".yaml", ".yml"].iter().any(|end| program.ends_with(end));
        match path.exists() {
            _ if is_manifest() => What::Manifest,
            _ if program.ends_with(".wasm") => What::Component,
            true if path.is_file() && begins_as_component() => What::Component,
            true => What::ImageFile,
            false if is_file(program) => What::ImageFile,
            false => What::Image,
        }
    }
}

/// Parses a rule about nodes.
fn rule(text: &str) -> Result<Rule, NotARule> {
    text.parse()
}

/// Parses a number of replicas.
pub(super) fn replicas(text: &str) -> Result<u32, String> {
    let number = quantity::count(text).map_err(|error| error.to_string())?;
    if number > MAX_REPLICAS {
        Err(format!("{number} replicas are more than {MAX_REPLICAS}"))
    } else {
        Ok(number)
    }
}

fn unique<T: Display>(
    what: &str,
    pairs: Vec<(String, T)>,
) -> Result<BTreeMap<String, T>, CliError> {
    let mut map = BTreeMap::new();
    for (name, value) in pairs {
        if let Some(earlier) = map.insert(name.clone(), value) {
            return Err(CliError::usage(format!(
                "--{what}: `{name}` is given twice, once as `{earlier}`"
            )));
        }
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use shoal_protocol::model::Spec;

    use super::super::{Cli, Verb};

    fn run(options: &[&str]) -> Result<Spec, String> {
        let words = ["shoal", "run", "--name", "web"];
        let words = words.iter().chain(options).chain(&["nginx:1.27"]);
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        let Verb::Run(run) = cli.verb else { unreachable!() };
        let workload = run.workload().map_err(|error| error.message)?;
        workload.spec(None).map_err(|error| error.to_string())
    }

    #[test]
    fn steps_of_updates_have_the_names_of_docker() {
        let words = ["--update-parallelism", "2", "--update-order", "stop-first"];
        let more = ["--update-monitor", "10s", "--update-failure-action", "rollback"];
        let spec = run(&[words, more].concat()).unwrap();
        let shown = "2 at a time, stop-first, ready for 10s, deadline 600s, rolled back when it \
             fails";
        assert_eq!(spec.later.options(), [("update", shown.to_owned())]);
        assert_eq!(run(&[]).unwrap().later.rollout, None);
        let error = run(&["--update-failure-action", "continue"]).unwrap_err();
        assert!(error.contains("neither pause nor roll-back"), "{error}");
    }

    #[test]
    fn rules_are_read_from_options() {
        let spec = run(&["--require", "zone=front", "--require", "!gpu", "--tolerate", "edge"]);
        let spec = spec.unwrap();
        assert_eq!(spec.placement.require["zone"], "front");
        assert_eq!(spec.later.options(), [("require", "!gpu".to_owned())]);
        assert_eq!(spec.placement.options(), [("tolerate", "edge".to_owned())]);
        let spec = run(&["--prefer", "disk=ssd:80", "--prefer", "!gpu", "--spread", "zone"]);
        assert_eq!(
            spec.unwrap().placement.options(),
            [("prefer", "disk = ssd:80, !gpu:50".to_owned()), ("spread", "zone".to_owned())]
        );
        let spec = run(&["--near", "db", "--apart", "web", "--apart", "shop/batch:30"]).unwrap();
        let all = "near default/db, apart default/web, apart shop/batch:30";
        let shown = spec.placement.affinity.iter().map(|it| match it.workload.to_string() {
            name if name.contains('/') => it.to_string(),
            name => it.to_string().replace(&name, &format!("default/{name}")),
        });
        assert_eq!(shown.collect::<Vec<_>>().join(", "), all);
        for (options, part) in [
            (["--prefer", "disk=ssd:0"], "weight 0 is outside 1 to 100"),
            (["--prefer", "disk=ssd:101"], "weight 101 is outside 1 to 100"),
            (["--prefer", "disk=ssd:-3"], "weight -3 is outside 1 to 100"),
            (["--prefer", "disk=ssd:much"], "`much` is no weight"),
            (["--near", "web"], "cannot be near itself"),
            (["--near", "We b"], "not a DNS label"),
            (["--spread", "a b"], "`a b` is not a label"),
        ] {
            let error = run(&options).unwrap_err();
            assert!(error.contains(part), "{options:?}: {error}");
        }
        let error = run(&["--require", "zone=~front"]).unwrap_err();
        assert!(error.contains("`=~` is no operator"), "{error}");
        let error = run(&["--require", "zone=a", "--require", "zone=b"]).unwrap_err();
        assert!(error.contains("`zone = a` and `zone = b` contradict"), "{error}");
    }
}
