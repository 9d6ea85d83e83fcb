//! The health probes of a manifest.

use serde::{Deserialize, Deserializer};
use shoal_protocol::model::spec::{Check, Health, Probe};

use super::container::{Command, command};
use super::text::{self, At, Count, Pairs, PortText, TextOr, Time, Word, text_or};
use super::{ManifestError, field, quantity};

/// Probes, or the word that there are none.
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(untagged))]
pub(super) enum HealthForm {
    Off(Word),
    Probes(Box<HealthText>),
}

impl TextOr for HealthForm {
    const EXPECTED: &'static str = "a mapping of probes, or `none`,";

    fn of_text(text: String) -> Self {
        HealthForm::Off(Word(text))
    }

    fn of_map<'de, D: Deserializer<'de>>(map: D) -> Result<Self, D::Error> {
        HealthText::deserialize(map).map(|it| HealthForm::Probes(Box::new(it)))
    }
}

impl<'de> Deserialize<'de> for HealthForm {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        text_or(from)
    }
}

/// The probes of a document.
#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub(super) struct HealthText {
    /// Must succeed once before the others begin. Example: `startup: { tcp: { port: 80 } }`
    startup: Option<At<ProbeText>>,
    /// While it fails the replica gets no requests.
    /// Example: `readiness: { http: { path: /ready } }`
    readiness: Option<At<ProbeText>>,
    /// When it fails the replica is started again. Example: `liveness: { exec: [pgrep, nginx] }`
    liveness: Option<At<ProbeText>>,
}

/// A probe: one check, and its numbers.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct ProbeText {
    /// A GET that is answered with 200 to 399. Example: `http: { path: /ready }`
    http: Option<Http>,
    /// A connection that is accepted. Example: `tcp: { port: 80 }`
    tcp: Option<Tcp>,
    /// A command in the container that ends with 0. Example: `exec: [redis-cli, ping]`
    exec: Option<At<Command>>,
    /// The pause between the beginnings of two checks, 100ms to 1h. Default: 10s.
    /// Example: `every: 5s`
    every: Option<At<Time>>,
    /// The time that one check may take, 100ms to 10m. Default: 1s. Example: `timeout: 3s`
    timeout: Option<At<Time>>,
    /// Failures in a row that count, 1 to 1000. Default: 3. Example: `failures: 5`
    failures: Option<At<Count>>,
    /// Successes in a row that count, 1 to 1000; for readiness alone. Default: 1.
    /// Example: `successes: 1`
    successes: Option<At<Count>>,
    /// The time before the first check, at most 1h. Default: 0s. Example: `delay: 2s`
    delay: Option<At<Time>>,
}

/// A GET of a probe.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct Http {
    /// The path. Example: `path: /healthz`
    path: String,
    /// The port in the container. Default: the one that answers the workload's requests.
    /// Example: `port: 8080`
    port: Option<At<PortText>>,
    /// Further headers of the request. Example: `headers: { Accept: text/plain }`
    #[serde(default)]
    headers: Pairs,
}

/// A connection of a probe.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
struct Tcp {
    /// The port in the container. Example: `port: 5432`
    port: At<PortText>,
}

/// The probes that a document describes, and whether that of the image does not count.
pub(super) fn health(text: Option<At<HealthForm>>) -> Result<(Health, bool), ManifestError> {
    let Some(text) = text else { return Ok((Health::default(), false)) };
    let line = text.line();
    match text.take() {
        HealthForm::Probes(text) => Ok((probes(*text)?, false)),
        HealthForm::Off(Word(word)) if word == "none" => Ok((Health::default(), true)),
        HealthForm::Off(Word(word)) => {
            let why = format!("health: `{word}`: `none` or probes are expected");
            Err(ManifestError::at(line, why))
        }
    }
}

fn probes(text: HealthText) -> Result<Health, ManifestError> {
    let HealthText { startup, readiness, liveness } = text;
    Ok(Health {
        startup: startup.map(|text| probe("startup", text)).transpose()?,
        readiness: readiness.map(|text| probe("readiness", text)).transpose()?,
        liveness: liveness.map(|text| probe("liveness", text)).transpose()?,
    })
}

fn probe(name: &str, text: At<ProbeText>) -> Result<Probe, ManifestError> {
    let line = text.line();
    let ProbeText { http, tcp, exec, every, timeout, failures, successes, delay } = text.take();
    let check = match (http, tcp, exec) {
        (Some(Http { path, port, headers }), None, None) => {
            let port = port.map(|text| port_of(name, &text)).transpose()?;
            Check::Http { path, port, headers: text::pairs(headers) }
        }
        (None, Some(Tcp { port }), None) => Check::Tcp { port: port_of(name, &port)? },
        (None, None, Some(words)) => {
            Check::Exec { command: command(&format!("health: {name}: exec"), words)?.0 }
        }
        (None, None, None) => {
            let why = format!("health: {name}: its check is missing: `http`, `tcp` or `exec`");
            return Err(ManifestError::at(line, why));
        }
        _ => {
            let why = format!("health: {name}: two checks; a probe has one of http, tcp and exec");
            return Err(ManifestError::at(line, why));
        }
    };
    let mut probe = Probe::of(check);
    let part = |part: &str| format!("health: {name}: {part}");
    for (of, given, into) in [
        ("every", every, &mut probe.every),
        ("timeout", timeout, &mut probe.timeout),
        ("delay", delay, &mut probe.delay),
    ] {
        if let Some(text) = given {
            *into = field(&part(of), &text, quantity::duration)?;
        }
    }
    for (of, given, into) in [
        ("failures", failures, &mut probe.failures),
        ("successes", successes, &mut probe.successes),
    ] {
        if let Some(text) = given {
            *into = field(&part(of), &text, quantity::count)?;
        }
    }
    Ok(probe)
}

fn port_of(name: &str, text: &At<PortText>) -> Result<u16, ManifestError> {
    let read = |text: &str| match text.parse::<u16>() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(format!("`{text}` is no port: a number from 1 to 65535 is expected")),
    };
    field(&format!("health: {name}: port"), text, read)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::parse;
    use super::*;

    fn read(health: &str) -> Result<Health, String> {
        let text = format!("name: web\nimage: nginx:1.27\nport: 80\nhealth:\n{health}");
        let workloads = parse(&text, Path::new("/"))
            .map_err(|error| ManifestError { column: None, ..error }.to_string())?;
        let spec = workloads[0].spec(None).map_err(|error| error.to_string())?;
        Ok(spec.health.clone())
    }

    #[test]
    fn probes_are_read_with_the_defaults_of_kubernetes() {
        let health = read(
            "  startup: { tcp: { port: 8080 }, every: 1s, failures: 60 }\n  \
               readiness:\n    http: { path: /ready, port: 8080, headers: { Accept: a/b } }\n    \
                 successes: 2\n    delay: 500ms\n  \
               liveness: { exec: [pgrep, nginx], timeout: 3s }\n",
        )
        .unwrap();
        let startup = health.startup.unwrap();
        assert_eq!(startup.check, Check::Tcp { port: 8080 });
        assert_eq!((startup.every, startup.failures), (Duration::from_secs(1), 60));
        let readiness = health.readiness.unwrap();
        let headers = [("Accept".to_owned(), "a/b".to_owned())].into();
        assert_eq!(
            readiness,
            Probe {
                successes: 2,
                delay: Duration::from_millis(500),
                ..Probe::of(Check::Http { path: "/ready".into(), port: Some(8080), headers })
            }
        );
        let liveness = health.liveness.unwrap();
        assert_eq!(liveness.check, Check::Exec { command: vec!["pgrep".into(), "nginx".into()] });
        assert_eq!(liveness.timeout, Duration::from_secs(3));
        assert_eq!((liveness.every, liveness.failures), (Duration::from_secs(10), 3));
    }

    /// Each slip is answered at its line, by the probe and the part.
    #[test]
    fn slips_are_answered_with_their_line() {
        for (text, why) in [
            ("  liveness: { every: 5s }", "line 5: health: liveness: its check is missing"),
            (
                "  liveness: { tcp: { port: 80 }, exec: [a] }",
                "line 5: health: liveness: two checks; a probe has one of http, tcp and exec",
            ),
            (
                "  liveness: { tcp: { port: 80 }, every: 5 }",
                "line 5: health: liveness: every: `5` is not a duration",
            ),
            (
                "  liveness: { tcp: { port: 99999 } }",
                "line 5: health: liveness: port: `99999` is no port",
            ),
            ("  liveness: { tcp: { port: 80 }, every: 0s }", "health: liveness: every: 0ns is"),
            ("  alive: { tcp: { port: 80 } }", "line 5: unknown field `alive`"),
            ("  liveness: { tcp: { port: 80 }, period: 5s }", "line 5: unknown field `period`"),
            ("  never", "line 5: health: `never`: `none` or probes are expected"),
        ] {
            let refused = read(text).unwrap_err();
            assert!(refused.starts_with(why), "{refused}");
        }
    }

    /// The health check of an image is switched off by a word; a component has none.
    #[test]
    fn none_switches_the_check_of_an_image_off() {
        let of = |program: &str| {
            let text = format!("name: web\n{program}\nhealth: none");
            let workloads = parse(&text, Path::new("/")).map_err(|error| error.to_string())?;
            let artifact = shoal_protocol::model::Artifact {
                digest: shoal_protocol::model::Digest([1; 32]),
                size: 1,
            };
            let is_image = program.starts_with("image");
            let spec = workloads[0].spec((!is_image).then_some(artifact));
            let spec = spec.map_err(|error| error.to_string())?;
            Ok::<_, String>((spec.health.is_empty(), spec.later.no_healthcheck))
        };
        assert_eq!(of("image: nginx:1.27"), Ok((true, true)));
        let refused = of("wasm: web.wasm").unwrap_err();
        assert!(refused.contains("a component has no health check to switch off"), "{refused}");
    }

    /// A component listens on no port: it is asked itself.
    #[test]
    fn probe_of_a_component_is_a_request_to_it() {
        let of = |probe: &str| {
            let text = format!("name: web\nwasm: web.wasm\nhealth: {{ readiness: {probe} }}");
            let workloads = parse(&text, Path::new("/")).map_err(|error| error.to_string())?;
            let artifact = shoal_protocol::model::Artifact {
                digest: shoal_protocol::model::Digest([1; 32]),
                size: 1,
            };
            workloads[0].spec(Some(artifact)).map(drop).map_err(|error| error.to_string())
        };
        assert_eq!(of("{ http: { path: /ready } }"), Ok(()));
        let refused = of("{ exec: [ls] }").unwrap_err();
        assert!(refused.starts_with("health: readiness: exec: a component has no"), "{refused}");
    }
}
