//! `depends_on` and `links`: what a service waits for.

use std::collections::{BTreeMap, BTreeSet};

use shoal_protocol::model::spec::{After, Until, is_alias};

use super::super::tree::{Entry, Position, Problem, Tree};
use super::super::verdict::Judged;
use super::project::named;
use super::service::Service;
use super::values;

/// A service that another one waits for, as the file has it.
pub(super) struct Awaited {
    pub at: Position,
    pub field: String,
    pub service: String,
    pub condition: String,
    pub is_required: bool,
    pub restart: Option<Position>,
    /// Another field than `depends_on` names it, and Compose restarts the two together.
    pub is_implied: bool,
}

/// All that a service waits for, and what is wrong with it.
pub(super) fn awaited(service: &Tree) -> (Vec<Awaited>, Vec<Problem>) {
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    let mut hold = None;
    if let Some(tree) = service.get("depends_on").filter(|it| !it.is_null()) {
        let tree = named("depends_on", tree, &mut hold);
        if tree.as_map().is_none() {
            let why = "a list of services, or a mapping of them, is expected";
            problems.push(Problem::new(tree.at, why).field("depends_on"));
        }
        for entry in tree.as_map().unwrap_or_default() {
            let field = format!("depends_on.{}", entry.key);
            match dependency(entry, &field) {
                Ok(it) => all.push(it),
                Err(why) => problems.push(Problem::new(entry.at, why).field(field)),
            }
        }
    }
    let links = service.get("links").and_then(Tree::as_list).unwrap_or_default();
    for (index, link) in links.iter().enumerate() {
        let text = link.as_text().unwrap_or_default();
        let (name, alias) = text.split_once(':').unwrap_or((text, text));
        let field = format!("links[{index}]");
        if alias != name && !is_alias(&alias.to_ascii_lowercase()) {
            let why = format!("the alias `{alias}` leads nowhere: a name of one part is expected");
            problems.push(Problem::new(link.at, why).field(&field));
        }
        implied(&mut all, link.at, field, name, true);
    }
    for field in ["network_mode", "ipc", "pid"] {
        let Some(tree) = service.get(field) else { continue };
        if let Some(name) = tree.as_text().and_then(|it| it.strip_prefix("service:")) {
            implied(&mut all, tree.at, field.into(), name, true);
        }
    }
    let others = service.get("volumes_from").and_then(Tree::as_list).unwrap_or_default();
    for (index, other) in others.iter().enumerate() {
        let name = other.as_text().unwrap_or_default().split(':').next().unwrap_or_default();
        if name != "container" {
            implied(&mut all, other.at, format!("volumes_from[{index}]"), name, false);
        }
    }
    (all, problems)
}

fn dependency(entry: &Entry, field: &str) -> Result<Awaited, String> {
    let Entry { key, at, value } = entry;
    let flag = |name, default| value.get(name).map_or(Ok(default), values::boolean);
    let condition = match value.get("condition") {
        Some(tree) => values::text(tree)?,
        // A name in a list.
        None if value.is_null() => "service_started".to_owned(),
        None => return Err("`condition` is missing, as in `condition: service_started`".into()),
    };
    let is_restarted = flag("restart", false)?;
    Ok(Awaited {
        at: *at,
        field: field.to_owned(),
        service: key.clone(),
        condition,
        is_required: flag("required", true)?,
        restart: value.entry("restart").filter(|_| is_restarted).map(|it| it.at),
        is_implied: false,
    })
}

/// Adds a service that another field names, unless it is among them.
fn implied(all: &mut Vec<Awaited>, at: Position, field: String, name: &str, restarts: bool) {
    if all.iter().any(|it| it.service == name) {
        return;
    }
    all.push(Awaited {
        at,
        field,
        service: name.to_owned(),
        condition: "service_started".into(),
        is_required: true,
        restart: None,
        is_implied: restarts,
    });
}

/// The workloads that a service waits for.
pub(super) fn read(service: &mut Service<'_>) -> Vec<After> {
    let (mut all, problems) = awaited(service.tree);
    // The other fields that name a service are refused where they are read.
    let is_ours =
        |it: &Awaited| it.field.starts_with("depends_on") || it.field.starts_with("links");
    all.retain(|it| is_ours(it) && problems.iter().all(|problem| problem.field != it.field));
    for problem in problems {
        service.refuse(problem.at, &problem.field, problem.message);
    }
    let mut after = Vec::new();
    for Awaited { at, field, service: other, condition, is_required, restart, .. } in all {
        let until = match condition.as_str() {
            "service_started" => Until::Started,
            "service_healthy" => Until::Ready,
            "service_completed_successfully" => Until::Done,
            text => {
                let why = format!(
                    "`{text}` is none of service_started, service_healthy and \
                     service_completed_successfully"
                );
                service.refuse(at, &field, why);
                continue;
            }
        };
        if let Some(at) = restart {
            let why = "nothing is restarted because another service is";
            service.degrade(at, &format!("{field}.restart"), why);
        }
        match service.shared.names.get(&other) {
            // Refused as a circle.
            Some(_) if other == service.name => {}
            Some(workload) => after.push(After { workload: workload.clone(), until }),
            None if service.shared.off.contains(&other) && !is_required => {
                let why = format!("left out: no profile switches `{other}` on");
                service.degrade(at, &field, why);
            }
            None if service.shared.off.contains(&other) => {
                let why = format!(
                    "no profile switches `{other}` on; give its profile, or write `required: false`"
                );
                service.refuse(at, &field, why);
            }
            None => service.refuse(at, &field, format!("there is no service `{other}`")),
        }
    }
    after
}

/// The services that another one awaits until they have ended. Services that wait for one another
/// in a circle are refused.
pub(super) fn ends(services: &Tree, judged: &mut Judged) -> BTreeSet<String> {
    let entries = services.as_map().unwrap_or_default();
    let mut ends = BTreeSet::new();
    let mut graph: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for entry in entries {
        let all = awaited(&entry.value).0;
        let done = all.iter().filter(|it| it.condition == "service_completed_successfully");
        ends.extend(done.map(|it| it.service.clone()));
        graph.insert(&entry.key, all.into_iter().map(|it| it.service).collect());
    }
    // Services that wait for nothing that is left are taken out, until none is.
    loop {
        let is_free = |(_, all): &(&&str, &Vec<String>)| {
            !all.iter().any(|it| graph.contains_key(it.as_str()))
        };
        let free: Vec<String> = graph.iter().filter(is_free).map(|it| (*it.0).to_owned()).collect();
        if free.is_empty() {
            break;
        }
        graph.retain(|name, _| !free.iter().any(|it| it == name));
    }
    if let Some((name, _)) = graph.first_key_value() {
        let at = entries.iter().find(|it| it.key == *name).map_or(services.at, |it| it.at);
        let names: Vec<&str> = graph.keys().copied().collect();
        let why = format!("in a circle, or for one: {} wait for one another", names.join(", "));
        judged.refuse(Problem::new(at, why).field(format!("services.{name}.depends_on")));
    }
    ends
}
