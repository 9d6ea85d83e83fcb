//! The ports of a service.

use shoal_protocol::model::spec::Port;

use super::super::tree::Tree;
use super::service::Service;
use super::values;
use crate::publish::container;

/// Ports of a service.
#[derive(Default)]
pub(super) struct Ports {
    /// Those of the device that lead to the container.
    pub published: Vec<Port>,
    /// Those that other workloads reach by its name.
    pub exposed: Vec<u16>,
}

/// A port as the file has it.
struct Written {
    ip: String,
    published: String,
    target: String,
    protocol: String,
}

pub(super) fn read(service: &mut Service<'_>) -> Ports {
    let mut ports = Ports::default();
    let items = service.find("ports").map(|it| it.as_list().unwrap_or(std::slice::from_ref(it)));
    for (index, item) in items.unwrap_or_default().iter().enumerate() {
        let field = format!("ports[{index}]");
        let added = written(item).and_then(|it| add(&it, &mut ports));
        match added {
            Ok(Some(note)) => service.degrade(item.at, &field, note),
            Ok(None) => {}
            Err(why) => service.refuse(item.at, &field, why),
        }
    }
    for (index, (at, text)) in
        service.get("expose", values::texts).unwrap_or_default().into_iter().enumerate()
    {
        let field = format!("expose[{index}]");
        let (range, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        match (numbers(range), protocol) {
            (Ok(all), "tcp") => ports.exposed.extend(all),
            (Ok(_), _) => service.degrade(at, &field, "only TCP is passed on between nodes"),
            (Err(why), _) => service.refuse(at, &field, why),
        }
    }
    ports
}

fn written(item: &Tree) -> Result<Written, String> {
    if item.as_map().is_some() {
        let part = |name: &str| match item.get(name).filter(|it| !it.is_null()) {
            Some(tree) => values::text(tree),
            None => Ok(String::new()),
        };
        let target = part("target")?;
        if target.is_empty() {
            return Err("`target`, the port in the container, is missing".into());
        }
        let (ip, published) = (part("host_ip")?, part("published")?);
        return Ok(Written { ip, published, target, protocol: part("protocol")? });
    }
    let text = values::text(item)?;
    let (rest, protocol) = text.split_once('/').unwrap_or((&text, ""));
    let (rest, target) = rest.rsplit_once(':').unwrap_or(("", rest));
    let (ip, published) = rest.rsplit_once(':').unwrap_or(("", rest));
    let ip = ip.trim_start_matches('[').trim_end_matches(']');
    let [ip, published, target, protocol] = [ip, published, target, protocol].map(str::to_owned);
    Ok(Written { ip, published, target, protocol })
}

/// A port in the form of `docker-compose config`: an item for each of a range.
pub(super) fn as_json(item: &Tree) -> Result<Vec<serde_json::Value>, String> {
    let Written { ip, published, target, protocol } = written(item)?;
    let part = |name: &str| item.get(name).and_then(Tree::as_text).unwrap_or_default();
    let targets = numbers(&target)?;
    let devices = numbers(&published).ok().filter(|all| all.len() == targets.len());
    let mut all = Vec::new();
    for (index, target) in targets.into_iter().enumerate() {
        let device = devices.as_ref().and_then(|it| it.get(index)).map(u16::to_string);
        all.push(serde_json::json!({
            "mode": if part("mode").is_empty() { "ingress" } else { part("mode") },
            "host_ip": ip,
            "target": target,
            "published": device.unwrap_or_else(|| published.clone()),
            "protocol": if protocol.is_empty() { "tcp" } else { &protocol },
            "name": part("name"),
            "app_protocol": part("app_protocol"),
        }));
    }
    Ok(all)
}

/// Adds what is written; a note for what is less than in Compose.
fn add(written: &Written, ports: &mut Ports) -> Result<Option<String>, String> {
    let Written { ip, published, target, protocol } = written;
    let is_udp = match protocol.as_str() {
        "" | "tcp" => false,
        "udp" => true,
        other => return Err(format!("`{other}` is none of tcp and udp")),
    };
    let targets = numbers(target)?;
    if published.is_empty() || published == "0" {
        if is_udp {
            return Err("a port of UDP needs one of the device, as in 53:53/udp".into());
        }
        let note = "no port of the device leads to it; other workloads reach it by name";
        ports.exposed.extend(targets);
        return Ok(Some(note.into()));
    }
    let devices = numbers(published)?;
    if devices.len() != targets.len() {
        return Err(format!(
            "`{published}` lets the engine choose a port: write one for each of the container's"
        ));
    }
    for (device, target) in devices.into_iter().zip(targets) {
        let ip = if ip.is_empty() { String::new() } else { format!("{ip}:") };
        let kind = if is_udp { "udp" } else { "tcp" };
        let port = container::published(&format!("{ip}{device}:{target}/{kind}"))?;
        if !ports.published.contains(&port) {
            ports.published.push(port);
        }
    }
    Ok(None)
}

/// The ports of `80` or `8000-8010`.
fn numbers(text: &str) -> Result<Vec<u16>, String> {
    let wrong = || format!("`{text}` is no port: numbers from 1 to 65535 are expected");
    let one = |text: &str| {
        let is_number = text.bytes().all(|b| b.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| is_number && *port > 0).ok_or_else(wrong)
    };
    match text.split_once('-') {
        None => Ok(vec![one(text)?]),
        Some((first, last)) => {
            let (first, last) = (one(first)?, one(last)?);
            if first > last { Err(wrong()) } else { Ok((first..=last).collect()) }
        }
    }
}
