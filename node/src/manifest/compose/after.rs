//! `depends_on` and `links`: what a service waits for.

use std::collections::{BTreeMap, BTreeSet};

use shoal_protocol::model::spec::{After, Until};

use super::super::tree::{Position, Problem, Tree};
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
}

/// All that a service waits for.
pub(super) fn awaited(service: &Tree) -> Result<Vec<Awaited>, Problem> {
    let mut all = Vec::new();
    let mut hold = None;
    if let Some(tree) = service.get("depends_on").filter(|it| !it.is_null()) {
        let tree = named("depends_on", tree, &mut hold);
        let Some(entries) = tree.as_map() else {
            let why = "a list of services, or a mapping of them, is expected";
            return Err(Problem::new(tree.at, why).field("depends_on"));
        };
        for entry in entries {
            let field = format!("depends_on.{}", entry.key);
            let wrong = |why: String| Problem::new(entry.at, why).field(field.clone());
            let flag = |name, default| match entry.value.get(name) {
                Some(tree) => values::boolean(tree).map_err(wrong),
                None => Ok(default),
            };
            let condition = match entry.value.get("condition") {
                Some(tree) => values::text(tree).map_err(wrong)?,
                None => "service_started".to_owned(),
            };
            let is_restarted = flag("restart", false)?;
            let restart = entry.value.entry("restart").filter(|_| is_restarted).map(|it| it.at);
            let is_required = flag("required", true)?;
            let (at, service) = (entry.at, entry.key.clone());
            all.push(Awaited {
                at,
                field: field.clone(),
                service,
                condition,
                is_required,
                restart,
            });
        }
    }
    let links = service.get("links").and_then(Tree::as_list).unwrap_or_default();
    for (index, link) in links.iter().enumerate() {
        let text = link.as_text().unwrap_or_default();
        let (name, alias) = text.split_once(':').unwrap_or((text, text));
        let field = format!("links[{index}]");
        if alias != name {
            let why = format!("the alias `{alias}` leads nowhere: use the name `{name}`");
            return Err(Problem::new(link.at, why).field(field));
        }
        if !all.iter().any(|it| it.service == name) {
            all.push(Awaited {
                at: link.at,
                field,
                service: name.to_owned(),
                condition: "service_started".into(),
                is_required: true,
                restart: None,
            });
        }
    }
    Ok(all)
}

/// The workloads that a service waits for.
pub(super) fn read(service: &mut Service<'_>) -> Vec<After> {
    let all = match awaited(service.tree) {
        Ok(all) => all,
        Err(problem) => {
            service.refuse(problem.at, &problem.field, problem.message);
            return Vec::new();
        }
    };
    let mut after = Vec::new();
    for Awaited { at, field, service: other, condition, is_required, restart } in all {
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
        let all = awaited(&entry.value).unwrap_or_default();
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
