//! The probes of a container.

use std::collections::BTreeMap;
use std::time::Duration;

use shoal_protocol::model::spec::{Check, Health, Probe};

use super::super::verdict::Judged;
use super::container::NamedPort;
use super::scalar::{IntOrText, Part};

/// Reads the probes of a container with these ports.
pub(super) fn probes(part: &Part<'_>, ports: &[NamedPort], out: &mut Judged) -> Health {
    let mut one = |field: &str| {
        let part = part.get(field);
        part.is_there().then(|| probe(&part, ports, out))?
    };
    let (startup, liveness) = (one("startupProbe"), one("livenessProbe"));
    Health { startup, readiness: one("readinessProbe"), liveness }
}

fn probe(part: &Part<'_>, ports: &[NamedPort], out: &mut Judged) -> Option<Probe> {
    let (http, tcp, exec) = (part.get("httpGet"), part.get("tcpSocket"), part.get("exec"));
    let check = match [&http, &tcp, &exec].iter().filter(|it| it.is_there()).count() {
        // The table refuses it.
        0 if part.get("grpc").is_there() => return None,
        1 if http.is_there() => http_check(&http, ports, out),
        1 if tcp.is_there() => Some(Check::Tcp { port: port(&tcp.get("port"), ports, out)? }),
        1 => Some(Check::Exec { command: exec.get("command").texts(out) }),
        number => {
            let why =
                format!("{number} checks, and one of `httpGet`, `tcpSocket` and `exec` counts");
            out.refuse(part.wrong(why));
            None
        }
    };
    let mut probe = Probe::of(check?);
    // Kubernetes takes 0 for its default.
    let mut number = |field: &str| part.get(field).count(out).filter(|number| *number > 0);
    let seconds = |number: u32| Duration::from_secs(number.into());
    probe.delay = number("initialDelaySeconds").map(seconds).unwrap_or(probe.delay);
    probe.every = number("periodSeconds").map(seconds).unwrap_or(probe.every);
    probe.timeout = number("timeoutSeconds").map(seconds).unwrap_or(probe.timeout);
    probe.failures = number("failureThreshold").unwrap_or(probe.failures);
    probe.successes = number("successThreshold").unwrap_or(probe.successes);
    Some(probe)
}

fn http_check(part: &Part<'_>, ports: &[NamedPort], out: &mut Judged) -> Option<Check> {
    let scheme = part.get("scheme");
    if scheme.text(out).is_some_and(|it| it != "HTTP") {
        let problem = scheme.wrong("probes ask over plain HTTP");
        out.refuse(problem.hint("Write `tcpSocket` with the same port, or an `exec`."));
    }
    let mut headers = BTreeMap::new();
    for header in part.get("httpHeaders").items(out) {
        if let (Some(name), Some(value)) =
            (header.get("name").text(out), header.get("value").text_or_empty(out))
        {
            headers.insert(name, value);
        }
    }
    let path = part.get("path").text(out).filter(|it| !it.is_empty());
    let path = path.map_or_else(
        || "/".into(),
        |path| match path.starts_with('/') {
            true => path,
            false => format!("/{path}"),
        },
    );
    Some(Check::Http { path, port: Some(port(&part.get("port"), ports, out)?), headers })
}

/// The number of a port that a field names by number or name.
pub(super) fn port(part: &Part<'_>, ports: &[NamedPort], out: &mut Judged) -> Option<u16> {
    if !part.is_there() {
        out.refuse(part.wrong("it is missing"));
        return None;
    }
    let name = match part.int_or_text(out)? {
        IntOrText::Int(number) => {
            let port = u16::try_from(number).ok().filter(|port| *port > 0);
            if port.is_none() {
                out.refuse(part.wrong(format!("{number} is outside 1 to 65535")));
            }
            return port;
        }
        IntOrText::Text(name) => name,
    };
    let named = ports.iter().find(|it| it.name.as_deref() == Some(&name));
    if named.is_none() {
        let problem = part.wrong(format!("no port of the container is called `{name}`"));
        let names: Vec<&str> = ports.iter().filter_map(|it| it.name.as_deref()).collect();
        out.refuse(match name.parse::<u16>() {
            Ok(_) => problem.hint(format!("In quotes it is a name; write it without: {name}")),
            Err(_) if names.is_empty() => {
                problem.hint("Name it below `ports`, or write its number.")
            }
            Err(_) => problem.hint(format!("Known are {}.", names.join(", "))),
        });
    }
    named.map(|it| it.port)
}
