//! Health probes: what a node asks a replica, how often, and how many answers count.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::shown::words;
use super::{Container, InvalidSpec, NetworkMode, SpecForm};

/// The least pause between two checks, and the least time that one may take.
pub const MIN_PROBE: Duration = Duration::from_millis(100);
/// The longest pause between two checks, and the longest delay of the first one.
pub const MAX_PROBE: Duration = Duration::from_secs(3600);
/// The longest time that one check may take.
pub const MAX_PROBE_TIMEOUT: Duration = Duration::from_secs(600);
/// The greatest number of failures or successes in a row that count.
const MAX_COUNT: u32 = 1_000;
/// Bytes of a command, of a path, and of all headers of a check.
const MAX_TEXT: usize = 2 * 1024;
/// Words of a command, and headers of a request.
const MAX_ITEMS: usize = 64;
/// Headers that belong to the connection, and not to the request.
const OF_THE_CONNECTION: [&str; 5] =
    ["connection", "content-length", "transfer-encoding", "upgrade", "expect"];

/// The probes of a replica.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Must succeed once before the others begin; when it fails the replica is restarted.
    #[serde(default)]
    pub startup: Option<Probe>,
    /// While it fails the replica gets no requests.
    #[serde(default)]
    pub readiness: Option<Probe>,
    /// When it fails the replica is restarted.
    #[serde(default)]
    pub liveness: Option<Probe>,
}

/// A probe of a replica.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The check that is tried.
    pub check: Check,
    /// The pause between the beginnings of two checks, 100 ms to 1 h.
    pub every: Duration,
    /// The time that one check may take, 100 ms to 10 min.
    pub timeout: Duration,
    /// Failures in a row that count, 1 to 1000.
    pub failures: u32,
    /// Successes in a row that count, 1 to 1000. Always 1 but for readiness.
    pub successes: u32,
    /// The time before the first check, at most 1 h.
    pub delay: Duration,
}

/// A check that a probe tries.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Check {
    /// A GET that is answered with 200 to 399.
    Http {
        /// The path, as in `/healthz`.
        path: String,
        /// The port in the container; none for the one that answers its workload's requests, and
        /// for a component, which is asked itself.
        port: Option<u16>,
        /// Headers of the request, besides those that shoal sets.
        headers: BTreeMap<String, String>,
    },
    /// A connection that is accepted.
    Tcp {
        /// The port in the container.
        port: u16,
    },
    /// A command in the container that ends with 0.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
    },
}

impl Probe {
    /// A probe with the defaults of Kubernetes: every 10 s, with 1 s for an answer; three failures
    /// or one success count.
    pub fn of(check: Check) -> Probe {
        Probe {
            check,
            every: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            failures: 3,
            successes: 1,
            delay: Duration::ZERO,
        }
    }
}

impl Check {
    /// A GET of this path, where requests of the workload go.
    pub fn http(path: impl Into<String>, port: Option<u16>) -> Check {
        Check::Http { path: path.into(), port, headers: BTreeMap::new() }
    }

    /// The port that it names.
    pub fn port(&self) -> Option<u16> {
        match self {
            Check::Http { port, .. } => *port,
            Check::Tcp { port } => Some(*port),
            Check::Exec { .. } => None,
        }
    }
}

/// A health check as docker has it, in a command line or in an image. Nothing stands for docker's
/// default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DockerCheck {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The pause between two checks.
    pub interval: Option<Duration>,
    /// The time of one.
    pub timeout: Option<Duration>,
    /// Failures in a row that count.
    pub retries: Option<u32>,
    /// The time that it has to start, in which failures do not count.
    pub start_period: Option<Duration>,
    /// The pause between two checks in that time; nothing for the same as later.
    pub start_interval: Option<Duration>,
}

impl DockerCheck {
    /// The interval and the time-out of docker.
    pub const DEFAULT: Duration = Duration::from_secs(30);
    /// The failures in a row that count for docker.
    pub const DEFAULT_RETRIES: u32 = 3;
    /// The pause between two checks of an image while it starts, for docker.
    pub const DEFAULT_START_INTERVAL: Duration = Duration::from_secs(5);

    /// The probes that act as it does with Swarm: a container that is not well gets no requests,
    /// and is replaced.
    pub fn health(&self) -> Health {
        let interval = self.interval.unwrap_or(Self::DEFAULT);
        let probe = Probe {
            every: interval,
            timeout: self.timeout.unwrap_or(Self::DEFAULT),
            failures: self.retries.unwrap_or(Self::DEFAULT_RETRIES),
            ..Probe::of(Check::Exec { command: self.command.clone() })
        };
        let startup = self.start_period.map(|period| {
            let every = self.start_interval.unwrap_or(interval).min(interval);
            let tries = |time: Duration| {
                let tries = time.as_millis().div_ceil(every.as_millis().max(1));
                u32::try_from(tries).unwrap_or(u32::MAX)
            };
            // Failures count from the end of the period on, at the later pace.
            let counted = tries(interval.saturating_mul(probe.failures));
            let failures = tries(period).saturating_add(counted);
            Probe { every, failures, ..probe.clone() }
        });
        Health { startup, readiness: Some(probe.clone()), liveness: Some(probe) }
    }
}

impl Health {
    /// The probes with numbers within the bounds of a spec: an image may name others, and runs
    /// nevertheless. A start-up probe keeps the time that it has.
    pub fn clamped(mut self) -> Health {
        if let Some(probe) = &mut self.startup {
            let time = probe.every.saturating_mul(probe.failures);
            probe.every = probe.every.max(time / MAX_COUNT);
            let failures = time.as_millis().div_ceil(probe.every.as_millis().max(1));
            probe.failures = u32::try_from(failures).unwrap_or(MAX_COUNT);
        }
        let Health { startup, readiness, liveness } = &mut self;
        for probe in [startup, readiness, liveness].into_iter().flatten() {
            probe.every = probe.every.clamp(MIN_PROBE, MAX_PROBE);
            probe.timeout = probe.timeout.clamp(MIN_PROBE, MAX_PROBE_TIMEOUT);
            probe.failures = probe.failures.clamp(1, MAX_COUNT);
        }
        self
    }

    /// Whether there is no probe.
    pub fn is_empty(&self) -> bool {
        *self == Health::default()
    }

    /// The probes with their names, as a manifest has them.
    pub fn probes(&self) -> impl Iterator<Item = (&'static str, &Probe)> {
        let Health { startup, readiness, liveness } = self;
        let all = [("startup", startup), ("readiness", readiness), ("liveness", liveness)];
        all.into_iter().filter_map(|(name, probe)| Some((name, probe.as_ref()?)))
    }

    /// Its probes in words, for views and differences.
    pub fn options(&self) -> Vec<(&'static str, String)> {
        self.probes().map(|(name, probe)| (name, probe.shown())).collect()
    }
}

impl Probe {
    /// The probe in words: `GET /healthz at port 8080 every 10s, timeout 1s, failures 3`.
    fn shown(&self) -> String {
        let Probe { check, every, timeout, failures, successes, delay } = self;
        let check = match check {
            Check::Http { path, port, headers } => {
                let port = port.map(|port| format!(" at port {port}")).unwrap_or_default();
                let headers = headers.iter().map(|(name, value)| format!(", {name}: {value}"));
                format!("GET {path}{port}{}", headers.collect::<String>())
            }
            Check::Tcp { port } => format!("a connection to port {port}"),
            Check::Exec { command } => words(command),
        };
        let mut text = format!("{check} every {every:?}, timeout {timeout:?}, failures {failures}");
        if *successes != 1 {
            text.push_str(&format!(", successes {successes}"));
        }
        if !delay.is_zero() {
            text.push_str(&format!(", delay {delay:?}"));
        }
        text
    }
}

/// Checks the probes of a form.
pub(super) fn check(form: &SpecForm) -> Result<(), InvalidSpec> {
    let main = form.program.containers().first();
    for (container, health) in form.probes() {
        check_of(health, container.or(main), form)?;
    }
    Ok(())
}

/// Checks the probes of one container, or of a component.
fn check_of(
    health: &Health,
    container: Option<&Container>,
    form: &SpecForm,
) -> Result<(), InvalidSpec> {
    for (name, probe) in health.probes() {
        check_numbers(name, probe)?;
        if container.is_none() && !form.program.answers() {
            return wrong(name, "a command answers nothing that a probe could ask".into());
        }
        let checked = check_check(&probe.check, container);
        checked.or_else(|why| wrong(name, why))?;
    }
    Ok(())
}

fn check_numbers(name: &'static str, probe: &Probe) -> Result<(), InvalidSpec> {
    let Probe { check: _, every, timeout, failures, successes, delay } = probe;
    let durations = [
        ("every", every, MIN_PROBE..=MAX_PROBE),
        ("timeout", timeout, MIN_PROBE..=MAX_PROBE_TIMEOUT),
        ("delay", delay, Duration::ZERO..=MAX_PROBE),
    ];
    for (part, given, range) in durations {
        if !range.contains(given) {
            let (least, most) = (range.start(), range.end());
            return wrong(name, format!("{part}: {given:?} is outside {least:?} to {most:?}"));
        }
    }
    const RANGE: RangeInclusive<u32> = 1..=MAX_COUNT;
    for (part, given) in [("failures", failures), ("successes", successes)] {
        if !RANGE.contains(given) {
            return wrong(name, format!("{part}: {given} is outside 1 to {MAX_COUNT}"));
        }
    }
    if name != "readiness" && *successes != 1 {
        return wrong(name, "successes: only readiness waits for more than one success".into());
    }
    Ok(())
}

fn check_check(check: &Check, container: Option<&Container>) -> Result<(), String> {
    let Some(container) = container else { return check_for_component(check) };
    if check.port() == Some(0) {
        return Err("port 0 is no port".into());
    }
    let is_offline = container.network == NetworkMode::None;
    match check {
        Check::Http { .. } | Check::Tcp { .. } if is_offline => {
            Err("a container without a network takes no connections; use `exec`".into())
        }
        Check::Http { port: None, .. } if container.http.is_none() => {
            Err("http: give the port to ask at, since the container has no HTTP port itself".into())
        }
        Check::Http { path, headers, .. } => check_request(path, headers),
        Check::Tcp { .. } => Ok(()),
        Check::Exec { command } => check_command(command),
    }
}

fn check_for_component(check: &Check) -> Result<(), String> {
    match check {
        Check::Http { port: Some(port), .. } => Err(format!(
            "http: a component listens on no port: leave {port} away, and it is asked itself"
        )),
        Check::Http { path, port: None, headers } => check_request(path, headers),
        Check::Tcp { port } => Err(format!(
            "tcp: a component listens on no port, so not on {port} either: use `http` with a path"
        )),
        Check::Exec { .. } => Err("exec: a component has no programs besides itself to run: use \
                                   `http` with a path"
            .into()),
    }
}

fn check_request(path: &str, headers: &BTreeMap<String, String>) -> Result<(), String> {
    let is_path = path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if !is_path || path.len() > MAX_TEXT {
        return Err(format!(
            "http: {path:?} is no path as `/healthz` is one: it begins with `/` and has no blanks"
        ));
    }
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if headers.len() > MAX_ITEMS || bytes > MAX_TEXT {
        return Err(format!("http: more than {MAX_ITEMS} headers, or {MAX_TEXT} bytes of them"));
    }
    for (name, value) in headers {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("http: {name:?} is no name of a header"));
        }
        if OF_THE_CONNECTION.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(format!("http: the header `{name}` is set by shoal itself"));
        }
        if !value.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
            return Err(format!("http: the value of the header `{name}` is not plain ASCII"));
        }
    }
    Ok(())
}

fn check_command(command: &[String]) -> Result<(), String> {
    let bytes: usize = command.iter().map(|word| word.len() + 1).sum();
    if command.len() > MAX_ITEMS || bytes > MAX_TEXT {
        return Err(format!("exec: more than {MAX_ITEMS} words, or {MAX_TEXT} bytes of them"));
    }
    if command.first().is_none_or(String::is_empty) {
        return Err("exec: the program to run is missing".into());
    }
    match command.iter().find(|word| word.contains('\0')) {
        Some(word) => Err(format!("exec: {word:?} contains a NUL byte")),
        None => Ok(()),
    }
}

fn wrong(probe: &'static str, why: String) -> Result<(), InvalidSpec> {
    Err(InvalidSpec::Health { probe, why })
}

#[cfg(test)]
mod tests {
    use super::super::Image;
    use super::*;
    use crate::model::{Artifact, Digest, Resources, Spec, Value, codec};

    const SIZE: Resources = Resources { memory: 64 << 20, cpu: 100 };

    fn component() -> SpecForm {
        let artifact = Artifact { digest: Digest([1; 32]), size: 1 };
        SpecForm::wasm_service("web".parse().unwrap(), artifact, 1, SIZE)
    }

    fn container() -> SpecForm {
        let container = Container::of("main", Image::named("redis:7"));
        SpecForm::container_service("db".parse().unwrap(), container, 1, SIZE)
    }

    fn exec() -> Check {
        Check::Exec { command: vec!["redis-cli".into(), "ping".into()] }
    }

    fn with(form: SpecForm, change: impl FnOnce(&mut Health)) -> Result<Spec, InvalidSpec> {
        let mut form = form;
        change(&mut form.health);
        form.try_into()
    }

    /// Older programs keep and relay what they cannot act on; without probes nothing changed.
    #[test]
    fn only_a_spec_with_probes_is_of_form_3() {
        let plain: Spec = component().try_into().unwrap();
        assert!(matches!(Value::workload(&plain), Value::Workload { version: 2, .. }));
        assert_eq!(codec::encode(&plain.health), [0, 0, 0], "as the program of form 2 had it");
        let probed = with(container(), |health| health.liveness = Some(Probe::of(exec()))).unwrap();
        let value = Value::workload(&probed);
        assert!(matches!(&value, Value::Workload { version: 3, .. }));
        assert_eq!(value.spec(), Some(probed.clone()));
        assert_ne!(probed.revision(), Spec::try_from(container()).unwrap().revision());
    }

    /// A probe that can never succeed would restart its replica for ever, on a node that nobody
    /// watches.
    #[test]
    fn check_that_can_never_succeed_is_refused() {
        let readiness = |form: SpecForm, check: Check| {
            let spec = with(form, |health| health.readiness = Some(Probe::of(check)));
            spec.map(drop).map_err(|error| error.to_string())
        };
        let tcp = |port| Check::Tcp { port };
        assert_eq!(readiness(component(), Check::http("/ready", None)), Ok(()));
        assert_eq!(readiness(container(), Check::http("/ready?full=1", Some(8080))), Ok(()));
        assert_eq!(readiness(container(), tcp(6379)), Ok(()));
        let header = |name: &str| Check::Http {
            path: "/".into(),
            port: None,
            headers: [(name.to_owned(), "a".to_owned())].into(),
        };
        for (form, check, why) in [
            (component(), exec(), "exec: a component has no programs"),
            (component(), tcp(80), "tcp: a component listens on no port"),
            (component(), Check::http("/", Some(80)), "http: a component listens on no port"),
            (component(), Check::http("ready", None), "http: \"ready\" is no path"),
            (component(), Check::http("/a b", None), "http: \"/a b\" is no path"),
            (component(), header("Content-Length"), "http: the header `Content-Length` is set"),
            (component(), header("a b"), "http: \"a b\" is no name of a header"),
            (container(), Check::http("/", None), "http: give the port"),
            (container(), tcp(0), "port 0 is no port"),
            (container(), Check::Exec { command: Vec::new() }, "exec: the program to run"),
        ] {
            let refused = readiness(form, check).unwrap_err();
            let expected = format!("health: readiness: {why}");
            assert!(refused.starts_with(&expected), "{refused}");
        }
    }

    #[test]
    fn numbers_out_of_bounds_are_refused_by_name() {
        let startup = |change: fn(&mut Probe)| {
            let mut probe = Probe::of(exec());
            change(&mut probe);
            let spec = with(container(), |health| health.startup = Some(probe));
            spec.unwrap_err().to_string()
        };
        assert_eq!(
            startup(|it| it.every = Duration::ZERO),
            "health: startup: every: 0ns is outside 100ms to 3600s"
        );
        for (refused, part) in [
            (startup(|it| it.timeout = Duration::from_secs(601)), "timeout"),
            (startup(|it| it.delay = Duration::from_secs(3601)), "delay"),
            (startup(|it| it.failures = 0), "failures"),
            (startup(|it| it.successes = 2), "successes"),
        ] {
            assert!(refused.starts_with(&format!("health: startup: {part}: ")), "{refused}");
        }
    }

    /// What an image names must not keep it from running.
    #[test]
    fn numbers_of_an_image_are_brought_within_the_bounds() {
        let check = DockerCheck {
            command: vec!["true".into()],
            interval: Some(Duration::from_millis(1)),
            timeout: Some(Duration::from_secs(86_400)),
            retries: Some(1_000_000),
            start_period: None,
            start_interval: None,
        };
        let of = |check: DockerCheck| {
            let health = check.health().clamped();
            let spec = with(container(), |it| *it = health.clone());
            assert!(spec.is_ok(), "{spec:?}");
            health
        };
        let probe = of(check.clone()).readiness.unwrap();
        assert_eq!((probe.every, probe.timeout), (MIN_PROBE, MAX_PROBE_TIMEOUT));
        assert_eq!(probe.failures, MAX_COUNT);
        let health = of(DockerCheck {
            interval: None,
            retries: None,
            start_period: Some(Duration::from_secs(10 * 3600)),
            start_interval: Some(Duration::from_secs(5)),
            ..check.clone()
        });
        let startup = health.startup.unwrap();
        assert!(startup.every * startup.failures >= Duration::from_secs(10 * 3600), "{startup:?}");
        let week = Some(Duration::from_secs(7 * 86_400));
        of(DockerCheck { interval: week, start_period: Some(Duration::MAX), ..check });
    }

    #[test]
    fn probes_are_shown_in_words() {
        let mut probe = Probe::of(Check::http("/ready", Some(8080)));
        (probe.successes, probe.delay) = (2, Duration::from_secs(5));
        let health = Health {
            readiness: Some(probe),
            liveness: Some(Probe::of(exec())),
            ..Health::default()
        };
        let shown: Vec<String> =
            health.options().into_iter().map(|(name, text)| format!("{name}: {text}")).collect();
        assert_eq!(
            shown,
            [
                "readiness: GET /ready at port 8080 every 10s, timeout 1s, failures 3, successes \
                 2, delay 5s",
                "liveness: redis-cli ping every 10s, timeout 1s, failures 3",
            ]
        );
    }
}
