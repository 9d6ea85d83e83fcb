//! A pod: its containers, volumes, and rights, as its template has them. What becomes of it is
//! decided in `build`.

use std::collections::BTreeMap;
use std::time::Duration;

use shoal_protocol::model::Label;
use shoal_protocol::model::spec::{Extra, Preference, Rule, Toleration, ValueKind};

use super::super::tree::Position;
use super::super::verdict::Judged;
use super::container::{Boxed, container};
use super::own_names::own_names;
use super::placement::{self, Relation};
use super::scalar::Part;
use super::values::{Held, Values, missing_key, word};

/// A pod's template.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub at: Position,
    /// Its path in the object.
    pub path: String,
    /// The labels that selectors find.
    pub labels: BTreeMap<String, String>,
    pub containers: Vec<Boxed>,
    /// Those that run before the others, or beside them.
    pub inits: Vec<Boxed>,
    pub volumes: BTreeMap<String, Source>,
    pub restart: Option<String>,
    pub grace: Duration,
    pub deadline: Option<Duration>,
    pub hostname: Option<String>,
    pub is_host_network: bool,
    /// Names and name servers of its own, and further groups of its users.
    pub extra: Extra,
    pub rules: Vec<Rule>,
    pub preferences: Vec<Preference>,
    pub spread: Vec<String>,
    /// Spreads that must be: their places, and the most by which two parts may differ.
    pub strict: Vec<(Position, String, u32)>,
    pub tolerations: Vec<Toleration>,
    pub relations: Vec<Relation>,
    /// The class of its priority, and its place.
    pub priority_class: Option<(Position, String)>,
}

/// The source of a volume.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A folder that is empty at first, with its size.
    Empty(Option<u64>),
    /// The same, in memory.
    Memory(Option<u64>),
    /// A path of the device.
    Host(String),
    /// A device of the device.
    Device(String),
    /// A claim, and that it is only read.
    Claim(String, bool),
    /// Values, each as a file below the mount.
    Files(Vec<File>),
}

/// A file of a volume.
#[derive(Clone, Debug)]
pub(super) struct File {
    /// Below the mount.
    pub path: String,
    pub kind: ValueKind,
    pub value: Label,
    pub mode: u32,
}

/// What a pod is read with.
pub(super) struct Around<'a> {
    pub values: &'a Values,
    pub namespace: &'a Label,
}

const DEFAULT_GRACE: Duration = Duration::from_secs(30);
const DEFAULT_MODE: u32 = 0o644;

/// Reads a template: a part with `metadata` and `spec`.
pub(super) fn pod(part: &Part<'_>, around: &Around<'_>, out: &mut Judged) -> Option<Pod> {
    let spec = part.get("spec");
    if !spec.is_there() {
        out.refuse(spec.wrong("it is missing"));
        return None;
    }
    let labels: BTreeMap<_, _> = part.at(&["metadata", "labels"]).pairs(out).into_iter().collect();
    let is_host_network = spec.get("hostNetwork").is_true(out);
    refused_values(&spec, out);
    let security = spec.get("securityContext");
    let containers = |field: &str, out: &mut Judged| -> Vec<Boxed> {
        let all = spec.get(field).items(out);
        all.iter().filter_map(|it| container(it, &security, &labels, around, out)).collect()
    };
    let (inits, containers) = (containers("initContainers", out), containers("containers", out));
    let list = spec.get("containers");
    if !list.is_there() {
        out.refuse(list.wrong("it is missing"));
    } else if list.is_empty_list() {
        out.refuse(list.wrong("there is no container"));
    }
    let seconds = |name: &str, out: &mut Judged| {
        let number = spec.get(name).int(0..=i64::from(u32::MAX), out)?;
        Some(Duration::from_secs(number.unsigned_abs()))
    };
    let grace = seconds("terminationGracePeriodSeconds", out).unwrap_or(DEFAULT_GRACE);
    let deadline = seconds("activeDeadlineSeconds", out);
    let class = spec.get("priorityClassName");
    let mut rules = placement::rules(&spec, out);
    if let Some(os) = spec.at(&["os", "name"]).text(out) {
        rules.push(Rule::is("os", os));
    }
    Some(Pod {
        at: spec.at,
        path: spec.path.clone(),
        containers,
        inits,
        volumes: volumes(&spec, around, out),
        restart: spec.get("restartPolicy").text(out),
        grace,
        deadline,
        hostname: spec.get("hostname").text(out),
        is_host_network,
        extra: own_names(&spec, out),
        rules,
        preferences: placement::preferences(&spec, out),
        spread: placement::spread(&spec, &labels, out),
        strict: placement::strict(&spec, out),
        tolerations: placement::tolerations(&spec, out),
        relations: placement::relations(&spec, out),
        priority_class: class.text(out).map(|name| (class.at, name)),
        labels,
    })
}

/// Fields that are taken with one value alone.
fn refused_values(spec: &Part<'_>, out: &mut Judged) {
    for (name, taken, why) in [
        ("hostPID", false, "it would see all programs of the device, and no node allows that"),
        ("hostIPC", false, "it would share memory with the device, and no node allows that"),
        ("hostUsers", true, "the engine of the node maps users, or does not"),
    ] {
        let part = spec.get(name);
        if part.bool(out).is_some_and(|is| is != taken) {
            out.refuse(part.wrong(why).hint(format!("Write `{name}: {taken}`, or leave it away.")));
        }
    }
    let security = spec.get("securityContext");
    let only_group = security.get("runAsGroup").is_there() && !security.get("runAsUser").is_there();
    let of_each = spec.get("containers").items(&mut Judged::default());
    let has_user = |it: &Part| it.at(&["securityContext", "runAsUser"]).is_there();
    if only_group && !of_each.iter().all(has_user) {
        let problem = security.get("runAsGroup").wrong("a group without a user");
        out.refuse(problem.hint("Write `runAsUser`, too."));
    }
}

fn volumes(spec: &Part<'_>, around: &Around<'_>, out: &mut Judged) -> BTreeMap<String, Source> {
    let mut all = BTreeMap::new();
    for part in spec.get("volumes").items(out) {
        let Some(name) = part.get("name").text(out) else {
            if !part.get("name").is_there() {
                out.refuse(part.get("name").wrong("it is missing"));
            }
            continue;
        };
        if let Some(source) = source(&part, around, out)
            && all.insert(name.clone(), source).is_some()
        {
            out.refuse(part.wrong(format!("two volumes are called `{name}`")));
        }
    }
    all
}

fn source(part: &Part<'_>, around: &Around<'_>, out: &mut Judged) -> Option<Source> {
    let fields = part.fields(out);
    let sources: Vec<_> = fields.iter().filter(|(name, _)| *name != "name").collect();
    if sources.len() > 1 {
        let names: Vec<&str> = sources.iter().map(|(name, _)| *name).collect();
        out.refuse(
            part.wrong(format!("a volume has one source, and here are {}", names.join(", "))),
        );
        return None;
    }
    let Some((name, source)) = sources.first() else {
        // As Kubernetes has it.
        return Some(Source::Empty(None));
    };
    match *name {
        "emptyDir" => {
            let size = source.get("sizeLimit").quantity(out).map(|it| it.bytes());
            let medium = source.get("medium");
            match medium.text(out).as_deref() {
                None | Some("") => Some(Source::Empty(size)),
                Some("Memory") => Some(Source::Memory(size)),
                Some(other) => {
                    let problem = medium.wrong(format!("`{other}` is no medium here"));
                    out.refuse(problem.hint("Write `Memory`, or leave it away for the disk."));
                    None
                }
            }
        }
        "hostPath" => {
            let path = source.get("path");
            let kind = source.get("type").text(out).unwrap_or_default();
            if !path.is_there() {
                out.refuse(path.wrong("it is missing"));
            }
            let path = path.text(out)?;
            match kind.as_str() {
                "" | "Directory" | "File" | "Socket" => Some(Source::Host(path)),
                "CharDevice" | "BlockDevice" => Some(Source::Device(path)),
                "DirectoryOrCreate" | "FileOrCreate" => {
                    let at = source.get("type");
                    out.degrade(at.at, at.path, "the path must be there: nothing makes it");
                    Some(Source::Host(path))
                }
                other => {
                    let problem = source.get("type").wrong(format!("`{other}` is no type"));
                    out.refuse(problem);
                    None
                }
            }
        }
        "persistentVolumeClaim" => {
            let name = source.get("claimName");
            if !name.is_there() {
                out.refuse(name.wrong("it is missing"));
            }
            Some(Source::Claim(name.text(out)?, source.get("readOnly").is_true(out)))
        }
        "configMap" | "secret" => {
            let mode = mode(&source.get("defaultMode"), out).unwrap_or(DEFAULT_MODE);
            Some(Source::Files(files(name, source, mode, around, out)))
        }
        "projected" => {
            let mode = mode(&source.get("defaultMode"), out).unwrap_or(DEFAULT_MODE);
            let mut all = Vec::new();
            for of in source.get("sources").items(out) {
                for (name, part) in of.fields(out) {
                    all.extend(files(name, &part, mode, around, out));
                }
            }
            Some(Source::Files(all))
        }
        // The table refuses it.
        _ => None,
    }
}

fn mode(part: &Part<'_>, out: &mut Judged) -> Option<u32> {
    part.int(0..=0o777, out).and_then(|it| u32::try_from(it).ok())
}

fn files(
    kind: &str,
    part: &Part<'_>,
    mode_of_all: u32,
    around: &Around<'_>,
    out: &mut Judged,
) -> Vec<File> {
    let (kind, name) = match kind {
        "configMap" => (ValueKind::Config, part.get("name")),
        "secret" if part.get("secretName").is_there() => {
            (ValueKind::Secret, part.get("secretName"))
        }
        "secret" => (ValueKind::Secret, part.get("name")),
        _ => return Vec::new(),
    };
    if !name.is_there() {
        out.refuse(name.wrong("it is missing"));
    }
    let Some(name) = name.text(out) else { return Vec::new() };
    let items = part.get("items");
    let named = if items.is_there() { items.items(out) } else { Vec::new() };
    // Single keys may be of an object that is elsewhere.
    let known: BTreeMap<String, Held> =
        around.values.all(kind, around.namespace, &name, part, out).into_iter().collect();
    if !items.is_there() {
        let file = |(key, held): (String, Held)| File {
            path: key,
            kind,
            value: held.label,
            mode: mode_of_all,
        };
        return known.into_iter().map(file).collect();
    }
    if known.is_empty() {
        return Vec::new();
    }
    let mut all = Vec::new();
    for item in named {
        let (key, path) = (item.get("key").text(out), item.get("path").text(out));
        let (Some(key), Some(path)) = (key, path) else {
            out.refuse(item.wrong("`key` and `path` are expected"));
            continue;
        };
        if path.starts_with('/') || path.split('/').any(|it| it == "..") {
            out.refuse(item.get("path").wrong("a path within the volume is expected"));
            continue;
        }
        let mode = mode(&item.get("mode"), out).unwrap_or(mode_of_all);
        match known.get(&key) {
            Some(held) => all.push(File { path, kind, value: held.label.clone(), mode }),
            None => out.refuse(missing_key(&item.get("key"), word(kind), &name, &key, &known)),
        }
    }
    all
}
