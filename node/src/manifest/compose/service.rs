//! A service of the merged tree, as a workload.

use std::collections::{BTreeMap, BTreeSet};

use shoal_protocol::model::spec::{self, DockerCheck, Health, NetworkMode, PullPolicy};
use shoal_protocol::model::{Label, WorkloadName};
use shoal_runtimes::images::full_name;

use super::super::tree::{Entry, Position, Problem, Tree};
use super::super::verdict::{Judged, find};
use super::reading::Files;
use super::table::TABLE;
use super::{deploy, env_file, extra, hooks, ports, values, volumes};
use crate::publish::container::{self as options, ContainerOptions, Words};
use crate::publish::{Workload, volume};

/// The parts that services share.
pub(super) struct Shared<'a> {
    /// The whole tree.
    pub tree: &'a Tree,
    /// The namespace.
    pub namespace: Label,
    /// The services that are switched on, by their names in the file.
    pub names: BTreeMap<String, Label>,
    /// The services that are switched off.
    pub off: BTreeSet<String>,
    /// Services that another one awaits until they have ended.
    pub awaited: BTreeSet<String>,
    /// Relative paths are only read.
    pub is_read_only: bool,
    /// Services of each volume.
    pub volumes: BTreeMap<String, BTreeSet<String>>,
}

/// A service that is being read.
pub(super) struct Service<'a> {
    pub name: &'a str,
    pub at: Position,
    pub tree: &'a Tree,
    pub shared: &'a Shared<'a>,
    pub judged: &'a mut Judged,
    pub files: &'a mut Files,
}

impl<'a> Service<'a> {
    /// The path of a field, for people.
    pub fn path(&self, field: &str) -> String {
        match field {
            "" => format!("services.{}", self.name),
            field => format!("services.{}.{field}", self.name),
        }
    }

    pub fn refuse(&mut self, at: Position, field: &str, why: impl Into<String>) {
        let field = self.path(field);
        self.judged.refuse(Problem::new(at, why).field(field));
    }

    pub fn degrade(&mut self, at: Position, field: &str, why: impl Into<String>) {
        let field = self.path(field);
        // This word stands in place of the table's.
        let path = field.replace('[', ".").replace(']', "");
        let path: Vec<&str> = path.split('.').collect();
        if let Some(row) = find(TABLE, &path) {
            self.judged.notes.retain(|note| note.field != field || note.text != row.text);
        }
        self.judged.degrade(at, field, why);
    }

    /// A field below a path, unless there is nothing in it.
    pub fn find(&self, field: &str) -> Option<&'a Tree> {
        let path: Vec<&str> = field.split('.').collect();
        self.tree.at_path(&path).filter(|it| !it.is_null())
    }

    /// The same, read; a fault is noted.
    pub fn get<T>(&mut self, field: &str, read: impl Fn(&Tree) -> Result<T, String>) -> Option<T> {
        let tree = self.find(field)?;
        match read(tree) {
            Ok(value) => Some(value),
            Err(why) => {
                self.refuse(tree.at, field, why);
                None
            }
        }
    }

    /// A text; an empty one is none.
    pub fn text(&mut self, field: &str) -> Option<String> {
        self.get(field, values::text).filter(|text| !text.is_empty())
    }

    fn flag(&mut self, field: &str) -> bool {
        self.get(field, values::boolean).unwrap_or_default()
    }

    /// The items of a list, each read by a reader of options.
    pub fn list<T>(&mut self, field: &str, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let mut all = Vec::new();
        for (index, (at, text)) in
            self.get(field, values::texts).unwrap_or_default().into_iter().enumerate()
        {
            match read(&text) {
                Ok(item) => all.push(item),
                Err(why) => self.refuse(at, &format!("{field}[{index}]"), why),
            }
        }
        all
    }

    /// Names with their values; a name without one has an empty text.
    pub fn pairs(&mut self, field: &str) -> Vec<(String, String)> {
        let all = self.get(field, |tree| values::pairs(field, tree)).unwrap_or_default();
        for pair in &all {
            self.note_pair(field, pair);
        }
        all.into_iter().map(|it| (it.name, it.value.unwrap_or_default())).collect()
    }

    fn note_pair(&mut self, field: &str, pair: &values::Pair) {
        let field = format!("{field}.{}", pair.name);
        if pair.is_date {
            let value = pair.value.clone().unwrap_or_default();
            let why = format!("Compose makes `{value}` of a plain date; put it in quotes");
            self.degrade(pair.at, &field, why);
        }
        if pair.is_extension {
            let why = "it counts here; Compose takes `x-..` in a mapping for an extension";
            self.degrade(pair.at, &field, why);
        }
    }

    /// The workload. It is there, with what could be read, even if the service is refused.
    pub fn workload(mut self) -> Option<Workload> {
        let label = self.shared.names.get(self.name)?.clone();
        let name = WorkloadName { namespace: self.shared.namespace.clone(), name: label };
        // A fault of the image was told, and the other fields are judged beside it.
        let image = self.image().unwrap_or_else(|| extra::ANY_IMAGE.to_owned());
        let is_component = extra::is_component(self.find("x-shoal"));
        let mounts = volumes::read(&mut self);
        let ports = ports::read(&mut self);
        let given = ContainerOptions {
            port: None,
            entrypoint: self.get("entrypoint", values::words).map(Words),
            user: self.text("user"),
            workdir: self.text("working_dir"),
            hostname: self.text("hostname"),
            labels: self.labels(),
            network: self.network(),
            tmpfs: mounts.tmpfs,
            interactive: self.flag("stdin_open"),
            tty: self.flag("tty"),
            read_only: self.flag("read_only"),
            init: self.flag("init"),
            publish: ports.published,
            volumes: mounts.volumes,
            mounts: Vec::new(),
            volume_on_loss: None,
            devices: self.devices(),
            cap_add: self.list("cap_add", |it| Ok(it.to_owned())),
            security_opt: self.list("security_opt", security),
            privileged: self.flag("privileged"),
            cap_drop: self.list("cap_drop", |it| Ok(it.to_owned())),
            stop_signal: self.text("stop_signal"),
            stop_grace: self.get("stop_grace_period", values::duration),
            shm_size: self.get("shm_size", values::size).filter(|size| *size > 0),
            ulimits: self.ulimits(),
            sysctls: self.pairs("sysctls"),
            extra_hosts: self.extra_hosts(),
            dns: self.dns(),
            dns_search: self.list("dns_search", |it| Ok(it.to_owned())),
            dns_opt: self.list("dns_opt", |it| Ok(it.to_owned())),
            group_add: self.list("group_add", |it| Ok(it.to_owned())),
            env_from: Vec::new(),
            network_alias: self.aliases(is_component),
            post_start: hooks::read(&mut self, "post_start"),
            pre_stop: hooks::read(&mut self, "pre_stop"),
            pull: self.pull(),
        };
        let container = Workload::container(name, image);
        let mut workload = given.apply(container.clone()).unwrap_or_else(|why| {
            self.refuse(self.at, "volumes", why);
            container
        });
        workload = workload.exposes(ports.exposed);
        if let Some(words) = self.get("command", values::words) {
            workload = workload.command(words);
        }
        workload = workload.envs(self.environment()).given(super::given::uses(&mut self));
        workload = workload.given(mounts.configs);
        let (health, is_off) = self.health();
        workload = workload.health(health).no_healthcheck(is_off);
        self.check_values();
        let after = super::after::read(&mut self);
        workload = deploy::apply(&mut self, workload.after(after), is_component);
        match self.find("x-shoal") {
            Some(tree) => extra::apply(&mut self, workload, tree),
            None => {
                if let Err(why) = workload.spec(None) {
                    self.refuse(self.at, "", why.to_string());
                }
                Some(workload)
            }
        }
    }

    fn image(&mut self) -> Option<String> {
        let build = self.find("build");
        let image = self.text("image").filter(|it| !it.is_empty());
        if extra::has_program(self.find("x-shoal")) {
            return Some(extra::ANY_IMAGE.to_owned());
        }
        if image.is_none() {
            let (at, field, why) = match build {
                Some(build) => {
                    let folder = build.as_text().or_else(|| build.get("context")?.as_text());
                    let folder = folder.unwrap_or(".");
                    let name = self.shared.names.get(self.name).map_or("app", Label::as_str);
                    let why = format!(
                        "shoal builds no images. Build it, give it to the cluster, and write \
                         `image: {name}`:  docker build -t {name} {folder} && docker save {name} \
                         -o {name}.tar && shoal image push {name}.tar --name {name}"
                    );
                    (build.at, "build", why)
                }
                None => (self.at, "image", "the image is missing, as in `image: redis:7`".into()),
            };
            self.refuse(at, field, why);
        }
        if let Some(text) = &image
            && options::is_file(text)
        {
            let why = format!("`{text}` is a file; write `x-shoal: {{ image: {text} }}`");
            self.refuse(self.find("image").map_or(self.at, |it| it.at), "image", why);
        } else if let Some(text) = &image
            && full_name(text).is_none()
        {
            let why = format!("`{text}` is no name of an image, as `redis:7` is");
            self.refuse(self.find("image").map_or(self.at, |it| it.at), "image", why);
        }
        image
    }

    fn labels(&mut self) -> Vec<(String, String)> {
        let mut all = BTreeMap::new();
        for (at, path) in self.get("label_file", values::texts).unwrap_or_default() {
            let path = self.files.path(at, &path);
            let pairs = self.files.open_text(&path).and_then(|text| {
                env_file::read(&text, &|_| None, &BTreeMap::new())
                    .map_err(|(line, why)| format!("{}:{line}: {why}", path.display()))
            });
            match pairs {
                Ok(pairs) => {
                    let pairs = pairs.into_iter().map(|(name, it)| (name, it.unwrap_or_default()));
                    all.extend(pairs);
                }
                Err(why) => self.refuse(at, "label_file", why),
            }
        }
        all.extend(self.pairs("labels"));
        all.into_iter().collect()
    }

    fn environment(&mut self) -> BTreeMap<String, String> {
        let (all, problems) = variables(self.tree, self.files);
        for (field, problem) in problems {
            self.refuse(problem.at, &field, problem.message);
        }
        let own = self.get("environment", |tree| values::pairs("environment", tree));
        for pair in own.unwrap_or_default() {
            self.note_pair("environment", &pair);
            if all.get(&pair.name).is_some_and(Option::is_none) {
                let why = "left out: it has no value here, and none where this is published";
                self.degrade(pair.at, &format!("environment.{}", pair.name), why);
            }
        }
        // A name alone is the variable of the shell, or left out.
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn network(&mut self) -> Option<NetworkMode> {
        let mode = self.text("network_mode")?;
        let at = self.find("network_mode")?.at;
        match mode.as_str() {
            "" | "default" => None,
            "bridge" => Some(NetworkMode::Bridge),
            "host" => Some(NetworkMode::Host),
            "none" => Some(NetworkMode::None),
            other => {
                let why = format!(
                    "`{other}`: bridge, none and host are known; a container has no part of \
                     another one's network: reach it by its name"
                );
                self.refuse(at, "network_mode", why);
                None
            }
        }
    }

    fn devices(&mut self) -> Vec<spec::Device> {
        let Some(items) = self.find("devices").and_then(Tree::as_list) else { return Vec::new() };
        let mut all = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let part = |name: &str| item.get(name).and_then(Tree::as_text);
            let text = match item.as_text() {
                Some(text) => text.to_owned(),
                None => {
                    let source = part("source").unwrap_or_default();
                    let target = part("target").unwrap_or(source);
                    format!("{source}:{target}:{}", part("permissions").unwrap_or("rwm"))
                }
            };
            match volume::device(&text) {
                Ok(device) => all.push(device),
                Err(why) => self.refuse(item.at, &format!("devices[{index}]"), why),
            }
        }
        all
    }

    fn ulimits(&mut self) -> Vec<(String, spec::Ulimit)> {
        let Some(entries) = self.find("ulimits").and_then(Tree::as_map) else { return Vec::new() };
        let mut all = Vec::new();
        for entry in entries {
            let field = format!("ulimits.{}", entry.key);
            let number = |tree: Option<&Tree>| match tree {
                Some(tree) => values::int(tree),
                None => Err("`soft` and `hard` are expected".into()),
            };
            let both = match entry.value.as_map() {
                Some(_) => number(entry.value.get("soft"))
                    .and_then(|soft| Ok((soft, number(entry.value.get("hard"))?))),
                None => values::int(&entry.value).map(|it| (it, it)),
            };
            match both {
                Ok((soft, hard)) => all.push((entry.key.clone(), spec::Ulimit { soft, hard })),
                Err(why) => self.refuse(entry.at, &field, why),
            }
        }
        all
    }

    fn pull(&mut self) -> Option<PullPolicy> {
        let text = self.text("pull_policy")?;
        let at = self.find("pull_policy")?.at;
        match text.as_str() {
            "always" => Some(PullPolicy::Always),
            "never" => Some(PullPolicy::Never),
            "missing" | "if_not_present" | "" => None,
            "build" => {
                self.degrade(at, "pull_policy", "nodes build nothing: as `missing`");
                None
            }
            text if matches!(text, "daily" | "weekly" | "refresh")
                || text.starts_with("every_") =>
            {
                let why = "as `missing`: the bytes of an image are settled when it is published";
                self.degrade(at, "pull_policy", why);
                None
            }
            other => {
                let why = format!("`{other}` is none of always, missing and never");
                self.refuse(at, "pull_policy", why);
                None
            }
        }
    }

    /// The probes, and whether the check of the image does not count.
    fn health(&mut self) -> (Health, bool) {
        let none = (Health::default(), false);
        let Some(check) = self.find("healthcheck") else { return none };
        if self.flag("healthcheck.disable") {
            return (Health::default(), true);
        }
        let Some(test) = self.find("healthcheck.test") else {
            let says = |it: &Entry| it.key != "disable" && !it.value.is_null();
            if check.as_map().is_some_and(|entries| entries.iter().any(says)) {
                let why = "the image's own check counts with its own numbers; write `test`";
                self.degrade(check.at, "healthcheck", why);
            }
            return none;
        };
        let shell = |text: &str| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()];
        let words = match values::texts(test) {
            Ok(words) => words.into_iter().map(|(_, word)| word).collect::<Vec<_>>(),
            Err(why) => {
                self.refuse(test.at, "healthcheck.test", why);
                return none;
            }
        };
        let command = match (test.as_list(), words.split_first()) {
            (None, Some((text, _))) => shell(text),
            (Some(_), Some((first, rest))) => match first.as_str() {
                "NONE" => return (Health::default(), true),
                "CMD" => rest.to_vec(),
                "CMD-SHELL" => shell(&rest.join(" ")),
                other => {
                    let why = format!("`{other}` comes first: CMD, CMD-SHELL or NONE is expected");
                    self.refuse(test.at, "healthcheck.test", why);
                    return none;
                }
            },
            _ => return none,
        };
        let mut time = |name: &str| {
            let time = self.get(&format!("healthcheck.{name}"), values::duration);
            // Docker takes 0 for its default.
            time.filter(|it| !it.is_zero())
        };
        let (interval, timeout) = (time("interval"), time("timeout"));
        let (start_period, start_interval) = (time("start_period"), time("start_interval"));
        let retries = self.get("healthcheck.retries", values::count).filter(|it| *it > 0);
        let check =
            DockerCheck { command, interval, timeout, retries, start_period, start_interval };
        // Compose leaves a container that is not well as it is: one that is slow to start must not
        // be killed in the middle.
        let Health { readiness, .. } = check.health().clamped();
        (Health { startup: None, readiness, liveness: None }, false)
    }

    /// Fields that are honoured for some of their values.
    fn check_values(&mut self) {
        for (field, known, why) in [
            ("cgroup", ["private", ""].as_slice(), "a container has control groups of its own"),
            ("ipc", &["private", "shareable", "none", ""], "no memory is shared with others"),
            ("runtime", &["runc", "crun", ""], "the engine of each node chooses it"),
        ] {
            let Some(text) = self.text(field) else { continue };
            if !known.contains(&text.as_str()) {
                let at = self.find(field).map_or(self.at, |it| it.at);
                self.refuse(at, field, format!("`{text}`: {why}; leave it out"));
            }
        }
    }
}

/// A fault of a field.
type Fault = (String, Problem);

/// The variables of a service, those of its files below its own. A name without a value has that of
/// the shell, or none.
pub(super) fn variables(
    service: &Tree,
    files: &mut Files,
) -> (BTreeMap<String, Option<String>>, Vec<Fault>) {
    let (mut all, mut faults) = (BTreeMap::new(), Vec::new());
    let own = service.get("environment").filter(|it| !it.is_null());
    // A fault of them is told where their notes are.
    let own = own.and_then(|tree| values::pairs("environment", tree).ok()).unwrap_or_default();
    let of_shell = |pair: values::Pair| {
        let value = pair.value.or_else(|| files.shell.get(&pair.name).cloned());
        (pair.name, value)
    };
    let own: BTreeMap<String, Option<String>> = own.into_iter().map(of_shell).collect();
    let items = match service.get("env_file").filter(|it| !it.is_null()) {
        Some(tree) => tree.as_list().unwrap_or(std::slice::from_ref(tree)),
        None => &[],
    };
    for (index, item) in items.iter().enumerate() {
        match file_of_variables(item, files, &own, &all) {
            Ok(pairs) => all.extend(pairs.into_iter().map(|(name, it)| (name, Some(it)))),
            Err(why) => faults.push((format!("env_file[{index}]"), Problem::new(item.at, why))),
        }
    }
    all.extend(own);
    (all, faults)
}

/// The variables of an item of `env_file`; one without a value has that of the shell, or is left
/// out. In their values those of the service's `own` come before those of the file itself.
fn file_of_variables(
    item: &Tree,
    files: &mut Files,
    own: &BTreeMap<String, Option<String>>,
    earlier: &BTreeMap<String, Option<String>>,
) -> Result<Vec<(String, String)>, String> {
    let part = |name: &str| item.get(name).and_then(Tree::as_text);
    let path = item.as_text().or_else(|| part("path")).ok_or("the path of a file is expected")?;
    let path = files.path(item.at, path);
    let required = item.get("required").map_or(Ok(true), values::boolean);
    if required == Ok(false) && !path.exists() {
        return Ok(Vec::new());
    }
    let text = files.open_text(&path)?;
    let of_shell = |name: &str| files.shell.get(name).cloned();
    let pairs = match part("format") {
        None => {
            let outer = |name: &str| of_shell(name).or_else(|| own.get(name)?.clone());
            env_file::read(&text, &outer, earlier)
        }
        Some("raw") => Ok(env_file::read_raw(&text)),
        Some(other) => return Err(format!("the format `{other}` is not `raw`")),
    };
    let pairs = pairs.map_err(|(line, why)| format!("{}:{line}: {why}", path.display()))?;
    let known = |(name, value): (String, Option<String>)| {
        let value = value.or_else(|| of_shell(&name))?;
        Some((name, value))
    };
    Ok(pairs.into_iter().filter_map(known).collect())
}

/// An option of the security modules; docker took `seccomp:unconfined` once.
fn security(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some((name, value)) if !name.contains('=') => volume::security(&format!("{name}={value}")),
        _ => volume::security(text),
    }
}
