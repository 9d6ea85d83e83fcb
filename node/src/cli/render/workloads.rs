//! `ps`: one line per workload, or one per replica.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use shoal_protocol::model::name::DEFAULT_NAMESPACE;
use shoal_protocol::model::spec::Schedule;
use shoal_protocol::model::view::{ReplicaView, UpdateView, WorkloadView};

use super::short;
use super::table::table;
use super::time::{age, age_of};
use crate::api::short_name;
use crate::manifest::quantity::{duration, show_cpu, show_size};

/// A line per workload.
pub fn workloads(views: &[WorkloadView], now: u64) -> String {
    if views.is_empty() {
        return "Nothing is published yet. Try: shoal run hello.wasm --name hello\n".into();
    }
    let mut head = vec!["NAME", ">REPLICAS", "STATE", "NODES", "PROGRAM", ">MEMORY", ">CPU"];
    let mut rows: Vec<Vec<String>> = views
        .iter()
        .map(|view| {
            vec![
                short_name(view),
                format!("{}/{}", serving(view), view.desired),
                state(view, now),
                nodes(view),
                program(view),
                show_size(view.memory),
                show_cpu(view.cpu),
            ]
        })
        .collect();
    // Where all are services, the column would tell nothing.
    if views.iter().any(|view| view.kind != "service") {
        head.insert(1, "KIND");
        rows.iter_mut().zip(views).for_each(|(row, view)| row.insert(1, view.kind.clone()));
    }
    table(&head, &rows)
}

/// The image or the hash of its program; of a group also how many containers are beside the main
/// one.
fn program(view: &WorkloadView) -> String {
    let name = view.image.clone().unwrap_or_else(|| short(&view.artifact));
    match view.containers.len() {
        0 | 1 => name,
        count => format!("{name} +{}", count - 1),
    }
}

/// Whether a list leaves a job out: it ended longer ago than it is to be kept.
pub fn is_forgotten(view: &WorkloadView, now: u64) -> bool {
    let is_over = matches!(view.job.as_deref(), Some("done" | "failed"));
    let keep = view.options.get("keep").and_then(|text| duration(text).ok());
    let ended = view.results.iter().map(|it| it.ended).max();
    match (is_over, keep, ended) {
        (true, Some(keep), Some(ended)) => u128::from(now.saturating_sub(ended)) > keep.as_millis(),
        _ => false,
    }
}

/// How far a job is: `2/5 done`, `failed (1)`.
fn job_state(view: &WorkloadView) -> Option<String> {
    let job = view.job.as_deref()?;
    let count =
        |is_done: bool| view.results.iter().filter(|it| (it.outcome == "done") == is_done).count();
    Some(match job {
        "failed" => format!("failed ({})", count(false)),
        _ => {
            let all = view.options.get("completions").map_or("1", String::as_str);
            format!("{}/{all} done", count(true))
        }
    })
}

/// When a cron workload runs next, by its schedule and this device's clock.
fn cron_state(view: &WorkloadView, now: u64) -> Option<String> {
    let (schedule, zone) = (view.options.get("schedule")?, view.options.get("timezone")?);
    if view.options.contains_key("suspend") {
        return Some("suspended".into());
    }
    let next = Schedule::new(schedule, zone).ok()?.next_after(now)?;
    Some(format!("next in {}", age_of(now, next)))
}

/// Why a workload has no replicas now, in a sentence.
pub fn no_replicas(view: &WorkloadView, now: u64) -> String {
    let name = short_name(view);
    if let Some(state) = job_state(view) {
        return match view.job.as_deref() {
            Some("done") => format!("{name} is over: {state}"),
            Some("failed") => format!("{name} is over: it {state}"),
            _ => format!("{name} has no replicas now: {state}"),
        };
    }
    match (view.kind.as_str(), cron_state(view, now)) {
        ("cron", state) => {
            let state = match state.as_deref() {
                Some("suspended") => "suspended, see `shoal cron resume`".to_owned(),
                Some(next) => next.to_owned(),
                None => "no further tick".to_owned(),
            };
            match view.results.is_empty() {
                true => format!("{name} has not run yet: {state}"),
                false => format!("nothing of {name} runs now: {state}"),
            }
        }
        ("daemon", _) => format!("{name} has no replicas: no node fits"),
        _ if view.scale.is_some_and(|scale| scale.sleeps) => {
            format!("{name} has no replicas now: the next request starts one")
        }
        _ if view.desired == 0 => format!("{name} has no replicas: it is scaled to 0"),
        _ => format!("{name} has no replicas yet"),
    }
}

/// A line per replica.
pub fn replicas(views: &[WorkloadView], now: u64) -> String {
    let rows: Vec<Vec<String>> = views
        .iter()
        .flat_map(|view| {
            let mut all: Vec<&ReplicaView> = view.replicas.iter().collect();
            // They come in the order of the nodes' keys, which tells a person nothing.
            if view.kind == "daemon" {
                all.sort_by(|a, b| a.replica.cmp(&b.replica));
            }
            all
        })
        .map(|view| row(view, now))
        .collect();
    if rows.is_empty() {
        return match views {
            [view] => format!("{}\n", no_replicas(view, now)),
            _ => "There are no replicas now.\n".to_owned(),
        };
    }
    table(&["REPLICA", "PHASE", "NODE", ">SINCE", ">RESTARTS", ">TOKEN", "REASON"], &rows)
}

fn row(view: &ReplicaView, now: u64) -> Vec<String> {
    let phase = if view.current || view.node.is_none() {
        view.phase.clone()
    } else {
        format!("{} (old)", view.phase)
    };
    vec![
        view.replica.clone(),
        phase,
        view.node_name
            .clone()
            .or_else(|| view.node.as_deref().map(short))
            .unwrap_or_else(|| "-".into()),
        view.since.as_deref().map_or("-".into(), |since| age(since, now)),
        view.restarts.to_string(),
        view.token.map_or("-".into(), |token| token.to_string()),
        view.reason.clone().unwrap_or_default(),
    ]
}

/// The replicas that answer, also those of an old version that serves until the new one does.
fn serving(view: &WorkloadView) -> u32 {
    let old = u32::try_from(old(view)).unwrap_or(u32::MAX);
    view.healthy.saturating_add(old).min(view.desired).max(view.healthy)
}

/// The replicas of an old version that answer.
pub(super) fn old(view: &WorkloadView) -> usize {
    let is_old = |replica: &&ReplicaView| replica.phase == "healthy" && !replica.current;
    view.replicas.iter().filter(is_old).count()
}

/// `healthy`, or the phases of replicas that are not: `1 missing, 1 starting`.
fn state(view: &WorkloadView, now: u64) -> String {
    let ended = job_state(view).or_else(|| cron_state(view, now));
    let mut state = if view.replicas.is_empty()
        && let Some(ended) = &ended
    {
        ended.clone()
    } else if view.desired == 0 && view.replicas.is_empty() {
        match view.kind.as_str() {
            "daemon" => "no node fits".to_owned(),
            _ if view.scale.is_some_and(|scale| scale.sleeps) => "asleep".to_owned(),
            _ => "scaled to 0".to_owned(),
        }
    } else if view.healthy >= view.desired
        && view.replicas.iter().all(|replica| matches!(replica.phase.as_str(), "healthy" | "lost"))
    {
        "healthy".to_owned()
    } else {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for replica in view.replicas.iter().filter(|replica| replica.phase != "healthy") {
            *counts.entry(&replica.phase).or_default() += 1;
        }
        let parts: Vec<String> =
            counts.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
        match parts.is_empty() {
            false => parts.join(", "),
            // The old version serves where its turn has not come.
            true if view.update.is_some() => "healthy".to_owned(),
            true => match old(view) {
                0 => "settling".to_owned(),
                count => format!("healthy, {count} of an old version"),
            },
        }
    };
    if let Some(word) = view.update.as_ref().and_then(update_word) {
        state.push_str(&format!(", {word}"));
    }
    if let Some(ended) = ended.filter(|ended| *ended != state) {
        let running = format!("{} running", view.healthy);
        state = format!("{ended}, {}", if state == "healthy" { running } else { state });
    }
    if view.conflict {
        state.push_str(", conflict");
    }
    state
}

/// A word about an update that is not done.
fn update_word(update: &UpdateView) -> Option<&'static str> {
    Some(match update.state.as_str() {
        "done" => return None,
        "paused" => "update paused",
        "canary" => "canary",
        "failed" => "update failed",
        "rolled-back" => "rolled back",
        _ => "updating",
    })
}

/// How far the update of a workload is, in words.
pub fn updating(view: &WorkloadView) -> Option<String> {
    let UpdateView { state, done, total, failed } = view.update.as_ref()?;
    let runs = format!("{done} of {total} run the new version");
    let name = short_name(view);
    Some(match state.as_str() {
        "rolled-back" => {
            let failed = failed.as_deref().unwrap_or("unknown");
            format!("rolled back (generation {failed} failed)")
        }
        "paused" => format!("{runs}, paused: `shoal resume {name}` goes on"),
        "canary" => format!("{runs}, canary: `shoal resume {name}` replaces the others"),
        "failed" => format!("{runs}, failed: the others keep what they run"),
        state => format!("{runs}, {state}"),
    })
}

/// The names of nodes that are up and hold replicas, each once.
fn nodes(view: &WorkloadView) -> String {
    let held = view.replicas.iter().filter(|replica| replica.phase != "lost");
    let mut names: Vec<&str> = held.filter_map(|replica| replica.node_name.as_deref()).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { "-".into() } else { names.join(",") }
}

/// The URL of a workload on this machine; `http` is the HTTP port's address.
pub fn url(namespace: &str, name: &str, http: &str) -> String {
    let host = if namespace == DEFAULT_NAMESPACE {
        name.to_owned()
    } else {
        format!("{name}.{namespace}")
    };
    let Ok(address) = http.parse::<SocketAddr>() else {
        return format!("http://{host}.localhost/");
    };
    let port = if address.port() == 80 { String::new() } else { format!(":{}", address.port()) };
    let local = address.ip().is_loopback() || address.ip().is_unspecified();
    match address.ip() {
        _ if local => format!("http://{host}.localhost{port}/"),
        // The port answers only at that address, which no `.localhost` name resolves to.
        IpAddr::V4(ip) => format!("http://{ip}{port}/ (with the header `Host: {host}.shoal`)"),
        IpAddr::V6(ip) => format!("http://[{ip}]{port}/ (with the header `Host: {host}.shoal`)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{replica_view, workload_view};

    /// A version for which no node has room leaves the old one in service: `0/2 settling` would
    /// look like an outage.
    #[test]
    fn replicas_of_an_old_version_count_while_they_serve() {
        let old = |name: &str| ReplicaView {
            current: false,
            ..replica_view(name, "healthy", Some("n1"))
        };
        let mut view = workload_view("web", vec![old("web/0"), old("web/1")]);
        (view.desired, view.healthy) = (2, 0);
        assert_eq!(super::state(&view, 0), "healthy, 2 of an old version");
        assert!(workloads(&[view.clone()], 0).contains(" 2/2 "));
        view.replicas[1].phase = "starting".into();
        assert_eq!(super::state(&view, 0), "1 starting");
        assert!(workloads(&[view], 0).contains(" 1/2 "));
    }

    /// All replicas answer during an update, so the state is no `settling`, which says nothing.
    #[test]
    fn update_is_told_in_a_word_and_in_a_line() {
        let of = |state: &str, failed: Option<&str>| {
            let mut view = workload_view(
                "web",
                vec![
                    replica_view("web/0", "healthy", Some("n1")),
                    replica_view("web/1", "healthy", Some("n2")),
                ],
            );
            view.healthy = if state == "done" { 2 } else { 1 };
            let failed = failed.map(str::to_owned);
            view.update = Some(UpdateView { state: state.into(), done: 1, total: 2, failed });
            (super::state(&view, 0), updating(&view).unwrap())
        };
        let runs = "1 of 2 run the new version";
        for (state, word, line) in [
            ("rolling", "healthy, updating", format!("{runs}, rolling")),
            (
                "paused",
                "healthy, update paused",
                format!("{runs}, paused: `shoal resume web` goes on"),
            ),
            (
                "canary",
                "healthy, canary",
                format!("{runs}, canary: `shoal resume web` replaces the others"),
            ),
            (
                "failed",
                "healthy, update failed",
                format!("{runs}, failed: the others keep what they run"),
            ),
            ("done", "healthy", format!("{runs}, done")),
        ] {
            assert_eq!(of(state, None), (word.to_owned(), line));
        }
        let (word, line) = of("rolled-back", Some("abcd0123"));
        assert_eq!(word, "healthy, rolled back");
        assert_eq!(line, "rolled back (generation abcd0123 failed)");
    }
}
