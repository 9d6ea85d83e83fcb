//! `describe`: all fields of one workload.

use std::collections::BTreeMap;

use shoal_protocol::model::spec::{OnLoss, Volume, VolumeSource};
use shoal_protocol::model::view::{ContainerView, ResultView, WorkloadView};
use shoal_protocol::model::{Place, WallClock};

use super::short;
use super::table::table;
use super::workloads::{old, replicas, updating, url};
use crate::api::short_name;
use crate::manifest::quantity::{show_cpu, show_cpu_limit, show_size};
use crate::publish::shown_port;

/// The spec, its owner and guardians, and its replicas. `http` is the HTTP port's address.
pub fn describe(view: &WorkloadView, http: &str, now: u64) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text.push_str(&format!("{name:<11} {value}\n"));
    line("name", &short_name(view));
    let url = match view.http {
        true => url(&view.namespace, &view.name, http),
        false => "none: it answers no HTTP requests".to_owned(),
    };
    if view.kind != "service" {
        line("kind", &view.kind);
    }
    line("url", &url);
    line("uid", &short(&view.uid));
    line("generation", &short(&view.generation));
    let held = match view.artifact_holders {
        1 => "held by 1 node".to_owned(),
        count => format!("held by {count} nodes"),
    };
    match &view.image {
        None => line(
            "artifact",
            &format!(
                "{} ({}), {}, {held}",
                short(&view.artifact),
                show_size(view.artifact_size),
                view.runtime
            ),
        ),
        Some(image) if view.artifact_size == 0 => {
            line("image", &format!("{image}, from the engine of each node"));
        }
        Some(image) => {
            line("image", &format!("{image} ({}), {held}", show_size(view.artifact_size)));
        }
    }
    let old = match old(view) {
        0 => String::new(),
        count => format!(", and {count} of an old version"),
    };
    line("replicas", &format!("{} of {} healthy{old}", view.healthy, view.desired));
    if let Some(job) = &view.job {
        line("job", job);
    }
    line(
        if view.limit.is_some() { "reserved" } else { "limits" },
        &format!("{} of memory, {} of a core, each", show_size(view.memory), show_cpu(view.cpu)),
    );
    if let Some(limit) = view.limit {
        let (memory, cpu) = (show_size(limit.memory), show_cpu_limit(limit.cpu));
        line("at most", &format!("{memory} of memory, {cpu}, each"));
    }
    let policy = view.options.get("update");
    if let Some(text) = updating(view).or_else(|| policy.map(|_| "none yet".to_owned())) {
        let policy = policy.map(|policy| format!(" ({policy})")).unwrap_or_default();
        line("update", &format!("{text}{policy}"));
    }
    let is_own_line = |name: &str| matches!(name, "require" | "update");
    for (name, text) in view.options.iter().filter(|(name, _)| !is_own_line(name)) {
        line(name, text);
    }
    for container in &view.containers {
        let ContainerView { name, role, image, env, options } = container;
        line("container", &format!("{name} ({role}): {image}"));
        // Those of the main one stand above.
        if view.containers.first() != Some(container) {
            let env = (!env.is_empty()).then(|| ("env".to_owned(), pairs(env)));
            let options = options.iter().map(|(name, text)| (name.clone(), text.clone()));
            for (name, text) in options.filter(|(name, _)| name != "role").chain(env) {
                line("", &format!("{name}: {text}"));
            }
        }
    }
    line("env", &pairs(&view.env));
    line("require", &required(view));
    for port in &view.ports {
        line("port", &shown_port(port));
    }
    for volume in &view.storage {
        line("volume", &shown(volume));
    }
    line("owner", view.owner.as_deref().unwrap_or("none"));
    line(
        "guardians",
        &if view.guardians.is_empty() { "none".to_owned() } else { view.guardians.join(", ") },
    );
    if view.conflict {
        line(
            "conflict",
            "two operators changed it without knowing of one another; the later change counts. \
                Publish again to settle it.",
        );
    }
    text.push('\n');
    text.push_str(&replicas(std::slice::from_ref(view), now));
    if !view.results.is_empty() {
        text.push('\n');
        text.push_str(&results(&view.results));
    }
    text
}

/// The ends of a job's indices, or of a cron workload's last runs, each with its last lines.
fn results(all: &[ResultView]) -> String {
    let row = |result: &ResultView| {
        vec![
            Place::Run { at: result.at, index: result.index }.to_string(),
            result.outcome.clone(),
            result.exit_code.map_or("-".into(), |code| code.to_string()),
            WallClock(result.ended).to_string(),
            result.node.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = all.iter().map(row).collect();
    let mut text = table(&["RUN", "RESULT", ">EXIT", "ENDED", "NODE"], &rows);
    for result in all.iter().filter(|it| !it.lines.is_empty()) {
        let place = Place::Run { at: result.at, index: result.index };
        text.push_str(&format!("\nlast lines of {place}\n"));
        result.lines.iter().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    text
}

fn shown(volume: &Volume) -> String {
    match (&volume.source, volume.on_loss) {
        (VolumeSource::Device(path), _) => format!("{path} of the device"),
        (VolumeSource::Scratch, _) => format!("{}, which goes with each replica", volume.name),
        (VolumeSource::Kept, OnLoss::Wait) => volume.name.clone(),
        (VolumeSource::Kept, OnLoss::Empty) => {
            format!("{}, empty elsewhere when its node is down", volume.name)
        }
    }
}

/// The labels and rules that a node must fulfil.
fn required(view: &WorkloadView) -> String {
    match (view.options.get("require"), view.require.is_empty()) {
        (None, _) => pairs(&view.require),
        (Some(rules), true) => rules.clone(),
        (Some(rules), false) => format!("{}, {rules}", pairs(&view.require).replace(' ', ", ")),
    }
}

fn pairs(map: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = map.iter().map(|(name, value)| format!("{name}={value}")).collect();
    if pairs.is_empty() { "none".into() } else { pairs.join(" ") }
}
