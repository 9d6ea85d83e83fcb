//! Services and Ingresses: which ports of which workloads are reached, and from where.

use std::collections::BTreeMap;

use shoal_protocol::model::Label;
use shoal_protocol::model::nearest::did_you_mean;
use shoal_protocol::model::spec::{Port, is_alias};

use super::super::tree::Problem;
use super::super::verdict::Judged;
use super::container::{NamedPort, is_udp};
use super::objects::Object;
use super::placement::Selector;
use super::probe;
use super::scalar::{IntOrText, Part};
use super::workloads::Draft;

/// The ports of Services, by namespace and name, with the workloads that they lead to.
type Services = BTreeMap<(Label, String), Vec<Led>>;

/// A port of a Service.
struct Led {
    port: u16,
    name: Option<String>,
    /// Workloads, by their place in the list, and the port in each.
    to: Vec<(usize, u16)>,
}

/// Adds the ports of Services and Ingresses to the workloads.
pub(super) fn expose(objects: &[Object], drafts: &mut [Draft], all: &mut Judged) {
    let mut services = Services::new();
    for object in objects.iter().filter(|it| it.kind == "Service") {
        let mut out = Judged::default();
        let led = service(object, drafts, &mut out);
        services.insert((object.namespace.clone(), object.name.clone()), led);
        object.tell(out, all);
    }
    for object in objects.iter().filter(|it| it.kind == "Ingress") {
        let mut out = Judged::default();
        ingress(object, &services, drafts, &mut out);
        object.tell(out, all);
    }
}

fn service(object: &Object, drafts: &mut [Draft], out: &mut Judged) -> Vec<Led> {
    let root = object.root();
    let spec = root.get("spec");
    let kind = spec.get("type");
    let kind_word = kind.text(out).unwrap_or_else(|| "ClusterIP".into());
    if !["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"].contains(&kind_word.as_str()) {
        let problem = kind.wrong(format!("`{kind_word}` is no type of a Service"));
        out.refuse(problem.hint("Known are ClusterIP, NodePort and LoadBalancer."));
    }
    // The table refuses the outer name.
    if kind_word == "ExternalName" {
        if !spec.get("externalName").is_there() {
            out.refuse(kind.wrong("a name leads to workloads alone"));
        }
        return Vec::new();
    }
    let selector = spec.get("selector");
    let wanted = Selector::of(selector.pairs(out));
    if wanted.is_empty() {
        let problem = selector.wrong("without a selector nothing leads to a workload");
        out.refuse(problem.hint("Write the labels of the pods that it is for."));
        return Vec::new();
    }
    let found: Vec<usize> = (0..drafts.len())
        .filter(|at| drafts[*at].name.namespace == object.namespace)
        .filter(|at| wanted.finds(&drafts[*at].pod.labels))
        .collect();
    if found.is_empty() {
        nothing_found(object, &selector, &wanted, drafts, out);
    }
    give_name(object, &root, &found, drafts, out);
    let ports = spec.get("ports").items(out);
    ports.iter().filter_map(|port| led(port, &kind_word, &found, drafts, out)).collect()
}

/// Makes the name of a Service a further name of the workload that it selects.
fn give_name(
    object: &Object,
    root: &Part<'_>,
    found: &[usize],
    drafts: &mut [Draft],
    out: &mut Judged,
) {
    let is_its_name = |draft: &Draft| {
        draft.name.namespace == object.namespace && draft.name.name.as_str() == object.name
    };
    let Some(first) = found.iter().copied().min_by_key(|at| drafts[*at].name.clone()) else {
        return;
    };
    let name = root.at(&["metadata", "name"]);
    let workload = drafts[first].name.name.clone();
    // A workload of the very name comes first, selected or not.
    if let Some(of_the_name) = drafts.iter().position(is_its_name) {
        if found != [of_the_name] {
            let text = format!(
                "`{}` leads to the workload of that name alone; others are reached by their own \
                 names",
                object.name
            );
            out.degrade(name.at, name.path, text);
        }
        return;
    }
    if !is_alias(&object.name) {
        let text = format!("`{}` leads nowhere: it is reached as `{workload}`", object.name);
        return out.degrade(name.at, name.path, text);
    }
    if found.len() > 1 {
        let text = format!(
            "`{}` leads to `{workload}` alone, the first of the {} workloads that it selects",
            object.name,
            found.len()
        );
        out.degrade(name.at, name.path, text);
    }
    let aliases = &mut drafts[first].pod.extra.aliases;
    if !aliases.contains(&object.name) {
        aliases.push(object.name.clone());
    }
}

fn nothing_found(
    object: &Object,
    selector: &Part<'_>,
    wanted: &Selector,
    drafts: &[Draft],
    out: &mut Judged,
) {
    let shown = wanted.shown();
    let here: Vec<&Draft> =
        drafts.iter().filter(|it| it.name.namespace == object.namespace).collect();
    if here.is_empty() {
        let text = format!(
            "no workload of these files has the labels {shown}: takes effect with networking"
        );
        return out.degrade(selector.at, selector.path.clone(), text);
    }
    let known = here.iter().take(5).map(|draft| {
        let labels = draft.pod.labels.iter().map(|(name, value)| format!("{name}={value}"));
        format!("{} has {}", draft.shown, labels.collect::<Vec<_>>().join(", "))
    });
    let hint = format!("{}.", known.collect::<Vec<_>>().join("; "));
    let problem = selector.wrong(format!("no workload of these files has the labels {shown}"));
    out.refuse(problem.hint(hint));
}

fn led(
    part: &Part<'_>,
    kind: &str,
    found: &[usize],
    drafts: &mut [Draft],
    out: &mut Judged,
) -> Option<Led> {
    let number = part.get("port");
    if !number.is_there() {
        out.refuse(number.wrong("it is missing"));
    }
    let port = number.port(out)?;
    let udp = is_udp(&part.get("protocol"), out);
    let node_port = part.get("nodePort").int(0..=65_535, out).filter(|it| *it > 0);
    let node_port = node_port.and_then(|it| u16::try_from(it).ok());
    let device = match kind {
        "LoadBalancer" => Some(port),
        "NodePort" => {
            if node_port.is_none() {
                let text = "no `nodePort` is named, and none is chosen: every node answers HTTP \
                    as `NAME.localhost`";
                out.degrade(part.at, part.path.clone(), text);
            }
            node_port
        }
        _ => None,
    };
    let mut to = Vec::new();
    for at in found {
        let Some(target) = target(part, port, &drafts[*at], out) else { continue };
        let draft = &mut drafts[*at];
        to.push((*at, target));
        if let Some(device) = device
            && !draft.pod.is_host_network
        {
            let new = Port { device, replica: target, udp, address: None };
            if !draft.published.contains(&new) {
                draft.published.push(new);
            }
        }
        if udp {
            if kind == "ClusterIP" {
                let text = "UDP takes effect with networking";
                out.degrade(part.at, part.path.clone(), text);
            }
            continue;
        }
        draft.exposed.insert(target);
        if draft.http.is_none() {
            draft.http = Some(target);
        }
        let is_reached = port == target || (port == 80 && draft.http == Some(target));
        if !is_reached && device.is_none() {
            let text = format!(
                "port {port} is not led to {target}: the name has port {target}, so write \
                 `{}:{target}` where it is used",
                draft.name.name
            );
            out.degrade(number.at, number.path.clone(), text);
        }
    }
    Some(Led { port, name: part.get("name").text(out), to })
}

/// The port of a workload that a port of a Service leads to.
fn target(part: &Part<'_>, port: u16, draft: &Draft, out: &mut Judged) -> Option<u16> {
    let target = part.get("targetPort");
    // Nothing, and 0, stand for the port itself.
    let is_same = match target.tree {
        None => true,
        Some(_) => target.int_or_text(&mut Judged::default()) == Some(IntOrText::Int(0)),
    };
    if is_same {
        return Some(port);
    }
    let all = draft.pod.containers.iter().chain(&draft.pod.inits);
    let ports: Vec<NamedPort> = all.flat_map(|it| it.ports.iter().cloned()).collect();
    probe::port(&target, &ports, out)
}

fn ingress(object: &Object, services: &Services, drafts: &mut [Draft], out: &mut Judged) {
    let root = object.root();
    let spec = root.get("spec");
    let mut backends = vec![spec.get("defaultBackend")];
    for rule in spec.get("rules").items(out) {
        let paths = rule.at(&["http", "paths"]).items(out);
        backends.extend(paths.iter().map(|path| path.get("backend")));
    }
    let mut chosen: BTreeMap<usize, u16> = BTreeMap::new();
    for backend in backends.iter().filter(|it| it.is_there()) {
        if backend.get("resource").is_there() {
            out.refuse(backend.get("resource").wrong("requests go to Services alone"));
            continue;
        }
        let service = backend.get("service");
        for (at, port) in of_backend(object, &service, services, out) {
            match chosen.get(&at) {
                Some(other) if *other != port => {
                    let text = format!("requests go to port {other} until networking takes effect");
                    out.degrade(service.at, service.path.clone(), text);
                }
                Some(_) => {}
                None => {
                    chosen.insert(at, port);
                    drafts[at].http = Some(port);
                }
            }
        }
    }
}

fn of_backend(
    object: &Object,
    service: &Part<'_>,
    services: &Services,
    out: &mut Judged,
) -> Vec<(usize, u16)> {
    let name = service.get("name");
    let Some(named) = name.text(out) else {
        out.refuse(name.wrong("it is missing"));
        return Vec::new();
    };
    let key = (object.namespace.clone(), named.clone());
    let Some(ports) = services.get(&key) else {
        let here = services.keys().filter(|(namespace, _)| *namespace == object.namespace);
        let here: Vec<&str> = here.map(|(_, name)| name.as_str()).collect();
        let why = format!("there is no Service `{named}` in these files");
        match here.is_empty() {
            true => out.degrade(name.at, name.path, format!("{why}: nothing leads to it")),
            false => {
                let hint = did_you_mean(&named, here.iter().copied());
                let hint = hint.unwrap_or_else(|| format!("There are {}.", here.join(", ")));
                out.refuse(name.wrong(why).hint(hint));
            }
        }
        return Vec::new();
    };
    let (by_number, by_name) = (service.at(&["port", "number"]), service.at(&["port", "name"]));
    let number = by_number.port(out);
    let port_name = by_name.text(out);
    let found = ports.iter().find(|it| match (&port_name, number) {
        (Some(name), _) => it.name.as_ref() == Some(name),
        (None, Some(number)) => it.port == number,
        (None, None) => false,
    });
    match found {
        Some(led) => led.to.clone(),
        // Its own fault is told already.
        None if ports.is_empty() => Vec::new(),
        None => {
            let known: Vec<String> = ports.iter().map(|it| it.port.to_string()).collect();
            let part = if by_name.is_there() { by_name } else { by_number };
            let problem: Problem = part.wrong(format!("Service `{named}` has no such port"));
            out.refuse(problem.hint(format!("It has {}.", known.join(", "))));
            Vec::new()
        }
    }
}
