//! The merged project in the form of `docker-compose config --format json`, before anything is
//! made of it: for the test that lays both beside one another, field by field.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value as Json, json};

use super::super::bundle::Refusal;
use super::super::tree::{Entry, Position, Tree, Value};
use super::after::awaited;
use super::project::{Project, named, read_project};
use super::reading::Files;
use super::service::variables;
use super::{Request, ports, values, volumes};

/// The form of a field.
enum Shape {
    Bool,
    Int,
    Float,
    Bytes,
    Duration,
    Text,
    Texts,
    Words,
    Pairs,
    Path,
    /// As it stands there.
    Any,
}

fn shape(path: &[&str]) -> Shape {
    match path {
        [first, ..] if first.starts_with("x-") => Shape::Any,
        [
            "attach" | "init" | "oom_kill_disable" | "privileged" | "read_only" | "stdin_open"
            | "tty" | "use_api_socket",
        ]
        | ["healthcheck", "disable"]
        | ["networks" | "volumes", _, "internal" | "attachable" | "enable_ipv6"]
        | ["logging" | "volumes", .., "read_only" | "nocopy" | "create_host_path"] => Shape::Bool,
        [
            "cpu_count" | "cpu_period" | "cpu_quota" | "cpu_shares" | "oom_score_adj"
            | "pids_limit" | "scale",
        ]
        | ["deploy", "replicas"]
        | ["deploy", .., "pids" | "parallelism" | "max_attempts" | "max_replicas_per_node"]
        | ["healthcheck", "retries"]
        | ["ulimits", ..] => Shape::Int,
        ["cpus" | "cpu_percent"] | ["deploy", .., "cpus" | "max_failure_ratio"] => Shape::Float,
        ["mem_limit" | "mem_reservation" | "memswap_limit" | "mem_swappiness" | "shm_size"]
        | ["deploy", "resources", _, "memory"]
        | ["volumes", "*", "tmpfs", "size"] => Shape::Bytes,
        ["stop_grace_period"]
        | ["healthcheck", "interval" | "timeout" | "start_period" | "start_interval"]
        | ["deploy", _, "delay" | "monitor" | "window"] => Shape::Duration,
        [
            "cap_add"
            | "cap_drop"
            | "device_cgroup_rules"
            | "dns"
            | "dns_opt"
            | "dns_search"
            | "expose"
            | "external_links"
            | "group_add"
            | "links"
            | "profiles"
            | "security_opt"
            | "tmpfs"
            | "volumes_from",
        ]
        | ["deploy", "placement", "constraints"]
        | ["networks", _, "aliases"] => Shape::Texts,
        ["command" | "entrypoint"] | ["post_start" | "pre_stop" | "pre_start", "*", "command"] => {
            Shape::Words
        }
        ["labels" | "annotations" | "sysctls" | "storage_opt"]
        | ["logging", "options"]
        | [.., "labels" | "driver_opts" | "environment" | "args"] => Shape::Pairs,
        ["label_file", ..] | ["file"] => Shape::Path,
        ["user" | "hostname" | "cpuset" | "image" | "working_dir"] => Shape::Text,
        _ => Shape::Any,
    }
}

/// The merged project as JSON.
///
/// # Errors
/// The files cannot be read or laid over one another.
pub fn merged(request: Request<'_>) -> Result<Json, Refusal> {
    let Project { name, tree, mut files, judged, .. } = read_project(&request);
    let mut problems = judged.problems;
    let mut services = Map::new();
    for Entry { key, value, .. } in tree.get("services").and_then(Tree::as_map).unwrap_or_default()
    {
        let variables = variables(value, &mut files);
        problems.extend(variables.1.into_iter().map(|it| it.1));
        services.insert(key.clone(), service(value, variables.0, &files));
    }
    if !problems.is_empty() {
        return Err(Refusal { problems, notes: judged.notes, sources: files.sources });
    }
    let mut all = Map::new();
    for Entry { key, value, .. } in tree.as_map().unwrap_or_default() {
        match key.as_str() {
            "name" | "services" | "version" | "volumes" | "networks" | "configs" | "secrets" => {}
            _ => _ = all.insert(key.clone(), of(value, &[key], &files)),
        }
    }
    for section in ["volumes", "networks", "configs", "secrets"] {
        let used = used(section, &services);
        let mut shown = Map::new();
        for key in used {
            let declared = tree.at_path(&[section, &key]).filter(|it| !it.is_null());
            let mut one = match declared {
                Some(tree) => of(tree, &[], &files),
                None if section == "networks" && key == "default" => json!({}),
                None => json!({}),
            };
            let is_external = one.get("external").is_some_and(|it| *it == json!(true));
            let full = if is_external { key.clone() } else { format!("{name}_{key}") };
            if let Some(one) = one.as_object_mut() {
                one.entry("name").or_insert(full.into());
            }
            shown.insert(key, one);
        }
        all.insert(section.into(), shown.into());
    }
    all.insert("name".into(), name.into());
    all.insert("services".into(), services.into());
    Ok(all.into())
}

/// The names of a section that services refer to.
fn used(section: &str, services: &Map<String, Json>) -> BTreeSet<String> {
    let of_service = |service: &Json| -> Vec<String> {
        match service.get(section) {
            Some(Json::Object(all)) => all.keys().cloned().collect(),
            Some(Json::Array(all)) => {
                let kind = |it: &Json| it.get("type").is_none_or(|it| *it == json!("volume"));
                let source = |it: &Json| Some(it.get("source")?.as_str()?.to_owned());
                all.iter().filter(|it| kind(it)).filter_map(source).collect()
            }
            _ => Vec::new(),
        }
    };
    services.values().flat_map(of_service).filter(|it| !it.is_empty()).collect()
}

fn service(tree: &Tree, env: BTreeMap<String, Option<String>>, files: &Files) -> Json {
    let mut all = Map::new();
    for Entry { key, at, value } in tree.as_map().unwrap_or_default() {
        let listed = |one: &dyn Fn(&Tree) -> Vec<Json>| -> Json {
            let items = value.as_list().unwrap_or(std::slice::from_ref(value));
            items.iter().flat_map(one).collect::<Vec<_>>().into()
        };
        let json = match key.as_str() {
            "environment" | "env_file" | "depends_on" => continue,
            _ if value.is_null() => Json::Null,
            "ports" => listed(&|it| ports::as_json(it).unwrap_or_else(|_| vec![plain(it)])),
            "volumes" => listed(&|it| vec![volume(it, files)]),
            "devices" => listed(&|it| vec![device(it)]),
            "configs" | "secrets" => listed(&|it| vec![value_use(key, it)]),
            "networks" => networks(value, files),
            "extra_hosts" => hosts(value),
            "build" => build(value, *at, files),
            "gpus" if value.as_text() == Some("all") => json!([{ "count": -1 }]),
            _ => of(value, &[key], files),
        };
        all.insert(key.clone(), json);
    }
    let env: Map<String, Json> = env.into_iter().map(|(name, it)| (name, it.into())).collect();
    all.insert("environment".into(), env.into());
    if tree.get("network_mode").is_none_or(Tree::is_null)
        && all.get("networks").is_none_or(is_empty)
    {
        all.insert("networks".into(), json!({ "default": null }));
    }
    let mut after = Map::new();
    for it in awaited(tree).0 {
        let restart = it.restart.is_some() || it.is_implied;
        let one = json!({
            "condition": it.condition, "required": it.is_required, "restart": restart,
        });
        after.insert(it.service, one);
    }
    all.insert("depends_on".into(), after.into());
    if let Some(check) = all.get_mut("healthcheck")
        && let Some(test) = check.get_mut("test")
        && let Some(text) = test.as_str()
    {
        *test = json!(["CMD-SHELL", text]);
    }
    for (field, below) in [("gpus", ""), ("deploy", "/resources/reservations/devices")] {
        all_of(&mut all, field, below);
    }
    all.into()
}

/// A reservation of devices without a number is one of all.
fn all_of(service: &mut Map<String, Json>, field: &str, below: &str) {
    let items = service.get_mut(field).and_then(|it| it.pointer_mut(below));
    for item in items.and_then(Json::as_array_mut).into_iter().flatten() {
        if let Some(item) = item.as_object_mut() {
            match item.get("count") {
                None if !item.contains_key("device_ids") => {
                    item.insert("count".into(), json!(-1));
                }
                Some(it) if *it == json!("all") => _ = item.insert("count".into(), json!(-1)),
                _ => {}
            }
        }
    }
}

fn is_empty(json: &Json) -> bool {
    match json {
        Json::Null => true,
        Json::Object(all) => all.is_empty(),
        Json::Array(all) => all.is_empty(),
        _ => false,
    }
}

/// A part in the form of its field. One that is not of that form stays as it is.
fn of(tree: &Tree, path: &[&str], files: &Files) -> Json {
    if tree.is_null() {
        return Json::Null;
    }
    let read = match shape(path) {
        Shape::Bool => values::boolean(tree).map(Json::from),
        Shape::Int if tree.as_scalar().is_some() => values::int(tree).map(Json::from),
        Shape::Float => {
            let number = tree.as_text().and_then(|it| it.parse::<f64>().ok());
            number.map(Json::from).ok_or_default()
        }
        Shape::Bytes if tree.as_text() == Some("-1") => Ok("-1".into()),
        Shape::Bytes => values::size(tree).map(|it| it.to_string().into()),
        Shape::Duration => values::duration(tree).map(|it| duration(it).into()),
        Shape::Text => values::text(tree).map(Json::from),
        Shape::Texts => texts(tree),
        Shape::Words => values::words(tree).map(Json::from),
        Shape::Pairs => pairs(path.last().copied().unwrap_or_default(), tree),
        Shape::Path => match tree.as_text() {
            Some(text) => Ok(absolute(files, tree.at, text).into()),
            None => Err(String::new()),
        },
        _ => Err(String::new()),
    };
    if let Ok(json) = read {
        return json;
    }
    match &tree.value {
        Value::Map(entries) => {
            let of_entry = |it: &Entry| {
                let below = [path, &[it.key.as_str()]].concat();
                (it.key.clone(), of(&it.value, &below, files))
            };
            Json::Object(entries.iter().map(of_entry).collect())
        }
        Value::List(items) => {
            let below = [path, &["*"]].concat();
            items.iter().map(|it| of(it, &below, files)).collect::<Vec<_>>().into()
        }
        Value::Scalar(_) => plain(tree),
    }
}

trait OrDefault<T> {
    fn ok_or_default(self) -> Result<T, String>;
}

impl<T> OrDefault<T> for Option<T> {
    fn ok_or_default(self) -> Result<T, String> {
        self.ok_or_else(String::new)
    }
}

/// A value as YAML reads it.
fn plain(tree: &Tree) -> Json {
    let Some(scalar) = tree.as_scalar() else { return json!(tree.what()) };
    match values::text(tree) {
        _ if tree.is_null() => Json::Null,
        Ok(text) if scalar.is_plain => match text.as_str() {
            "true" => json!(true),
            "false" => json!(false),
            text => values::number(&scalar.text).unwrap_or_else(|| text.into()),
        },
        Ok(text) => text.into(),
        Err(_) => scalar.text.clone().into(),
    }
}

fn texts(tree: &Tree) -> Result<Json, String> {
    let texts = values::texts(tree)?;
    Ok(texts.into_iter().map(|it| it.1).collect::<Vec<_>>().into())
}

fn pairs(field: &str, tree: &Tree) -> Result<Json, String> {
    let all = values::pairs(field, tree)?;
    let one = |it: values::Pair| (it.name, it.value.unwrap_or_default().into());
    Ok(Json::Object(all.into_iter().map(one).collect()))
}

/// A duration in the words of Go.
fn duration(time: Duration) -> String {
    let (seconds, nanos) = (time.as_secs(), time.subsec_nanos());
    if seconds == 0 {
        return match nanos {
            0 => "0s".into(),
            1..1_000 => format!("{nanos}ns"),
            1_000..1_000_000 => format!("{}µs", f64::from(nanos) / 1e3),
            _ => format!("{}ms", f64::from(nanos) / 1e6),
        };
    }
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let fraction = format!("{nanos:09}");
    let fraction = fraction.trim_end_matches('0');
    let dot = if fraction.is_empty() { "" } else { "." };
    let last = format!("{}{dot}{fraction}s", seconds % 60);
    match (hours, minutes) {
        (0, 0) => last,
        (0, minutes) => format!("{minutes}m{last}"),
        (hours, minutes) => format!("{hours}h{minutes}m{last}"),
    }
}

fn absolute(files: &Files, at: Position, path: &str) -> String {
    if let Some(rest) = path.strip_prefix('~') {
        let home = files.shell.get("HOME").cloned().unwrap_or_default();
        return format!("{home}{rest}");
    }
    let path = files.path(at, path);
    let path = std::path::absolute(&path).unwrap_or(path);
    let mut clean = std::path::PathBuf::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => _ = clean.pop(),
            part => clean.push(part),
        }
    }
    clean.display().to_string()
}

fn volume(item: &Tree, files: &Files) -> Json {
    let Some(text) = item.as_text() else {
        let mut json = of(item, &["volumes", "*"], files);
        let source = json.get("source").and_then(Json::as_str).map(str::to_owned);
        if json.get("type") == Some(&json!("bind"))
            && let Some(source) = source
        {
            json["source"] = absolute(files, item.at, &source).into();
        }
        if let Some(target) = json.get("target").and_then(Json::as_str) {
            json["target"] = cleaned(target).into();
        }
        return json;
    };
    let Ok(volumes::Short { kind, source, target, options }) = volumes::parts(text) else {
        return text.into();
    };
    let mut json = json!({ "type": kind, "target": cleaned(target) });
    if kind == "bind" {
        json["source"] = absolute(files, item.at, source).into();
    } else if !source.is_empty() {
        json["source"] = source.into();
    }
    for option in options.split(',') {
        match option {
            "ro" => json["read_only"] = true.into(),
            "z" | "Z" if kind == "bind" => json["bind"]["selinux"] = option.into(),
            "nocopy" => json["volume"]["nocopy"] = true.into(),
            it if it.contains("private") || it.contains("shared") || it.contains("slave") => {
                json["bind"]["propagation"] = it.into();
            }
            _ => {}
        }
    }
    json
}

fn cleaned(target: &str) -> String {
    match target.trim_end_matches('/') {
        "" => "/".into(),
        target => target.into(),
    }
}

fn device(item: &Tree) -> Json {
    let Some(text) = item.as_text() else { return of(item, &[], &Files::default()) };
    let mut parts = text.split(':');
    let source = parts.next().unwrap_or_default();
    let target = parts.next().unwrap_or(source);
    json!({
        "source": source, "target": target, "permissions": parts.next().unwrap_or("rwm"),
    })
}

/// A config or secret of a service.
fn value_use(section: &str, item: &Tree) -> Json {
    let mut json = match item.as_text() {
        Some(source) => json!({ "source": source }),
        None => of(item, &["configs", "*"], &Files::default()),
    };
    if section == "secrets" && json.get("target").is_none() {
        let source = json.get("source").and_then(Json::as_str).unwrap_or_default();
        json["target"] = format!("/run/secrets/{source}").into();
    }
    for id in ["uid", "gid"] {
        if let Some(tree) = item.get(id) {
            json[id] = values::text(tree).unwrap_or_default().into();
        }
    }
    if let Some(mode) = item.get("mode") {
        let text = mode.as_text().unwrap_or_default();
        let octal = mode.as_scalar().filter(|it| !it.is_plain).map(|_| text);
        let number = match octal {
            Some(text) => i64::from_str_radix(text, 8).ok(),
            None => values::int(mode).ok(),
        };
        json["mode"] = format!("0{:o}", number.unwrap_or_default()).into();
    }
    json
}

fn networks(tree: &Tree, files: &Files) -> Json {
    let mut hold = None;
    let tree = named("networks", tree, &mut hold);
    let entries = tree.as_map().unwrap_or_default();
    let one = |it: &Entry| (it.key.clone(), of(&it.value, &["networks", &it.key], files));
    Json::Object(entries.iter().map(one).collect())
}

/// Names with their addresses, as `name=address`, in the order of the names.
fn hosts(tree: &Tree) -> Json {
    let mut all = Vec::new();
    for item in tree.as_list().unwrap_or_default() {
        let text = item.as_text().unwrap_or_default();
        let (name, address) = text.split_once(['=', ':']).unwrap_or((text, ""));
        all.push((name.to_owned(), address.to_owned()));
    }
    for Entry { key, value, .. } in tree.as_map().unwrap_or_default() {
        for (_, address) in values::texts(value).unwrap_or_default() {
            all.push((key.clone(), address));
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let bare = |it: &str| it.trim_start_matches('[').trim_end_matches(']').to_owned();
    all.into_iter().map(|(name, it)| format!("{name}={}", bare(&it))).collect::<Vec<_>>().into()
}

/// Nothing is built here, so only the folder is shown.
fn build(tree: &Tree, at: Position, files: &Files) -> Json {
    let context = tree.as_text().or_else(|| tree.get("context")?.as_text());
    let at = tree.get("context").map_or(at, |it| it.at);
    json!({ "context": absolute(files, at, context.unwrap_or(".")) })
}
