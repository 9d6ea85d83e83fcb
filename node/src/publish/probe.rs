//! Health probes of a workload, as people give them to `shoal run`.

use std::time::Duration;

use clap::Args;
use shoal_protocol::model::spec::{Check, DockerCheck, Health, Probe};

use crate::manifest::quantity;

/// Probes. A manifest has more of them, as `health`.
#[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
#[command(next_help_heading = "Health probes")]
pub struct HealthOptions {
    /// A GET of this path shows that a replica is ready; while it fails the replica gets no
    /// requests. A container's port is that of --port unless it is given
    #[arg(long, value_name = "PATH[:PORT]", value_parser = http)]
    pub ready_http: Option<Check>,
    /// A GET of this path shows that a replica is alive; when it fails the replica is restarted
    #[arg(long, value_name = "PATH[:PORT]", value_parser = http)]
    pub live_http: Option<Check>,
    /// A command, run by the container's shell, that ends with 0 while the container is well; while
    /// it fails the container gets no requests, and is restarted
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// The pause between two runs of it [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub health_interval: Option<Duration>,
    /// The time that one run of it may take [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub health_timeout: Option<Duration>,
    /// Failures in a row that count [default: 3]
    #[arg(long, value_name = "N", value_parser = quantity::count)]
    pub health_retries: Option<u32>,
    /// The time that it has to start, in which failures do not count
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub health_start_period: Option<Duration>,
    /// The health check that the image names does not count
    #[arg(long)]
    pub no_healthcheck: bool,
}

impl HealthOptions {
    /// The probes that the options describe.
    ///
    /// # Errors
    /// Two options contradict one another.
    pub fn health(&self) -> Result<Health, String> {
        let http = |check: &Option<Check>| check.clone().map(Probe::of);
        let mut health = self.of_command()?;
        if self.no_healthcheck && self.health_cmd.is_some() {
            return Err("--no-healthcheck: --health-cmd is there as well, and counts instead of \
                        that of the image"
                .into());
        }
        let pairs = [
            ("--ready-http", &self.ready_http, &mut health.readiness),
            ("--live-http", &self.live_http, &mut health.liveness),
        ];
        for (option, check, probe) in pairs {
            if check.is_some() && probe.is_some() {
                return Err(format!(
                    "{option}: --health-cmd is there as well, and a probe has one check"
                ));
            }
            *probe = http(check).or(probe.take());
        }
        Ok(health)
    }

    /// The probes of docker's health check.
    fn of_command(&self) -> Result<Health, String> {
        let numbers = [
            ("--health-interval", self.health_interval.is_some()),
            ("--health-timeout", self.health_timeout.is_some()),
            ("--health-retries", self.health_retries.is_some()),
            ("--health-start-period", self.health_start_period.is_some()),
        ];
        let Some(command) = &self.health_cmd else {
            return match numbers.iter().find(|(_, is_given)| *is_given) {
                Some((option, _)) => Err(format!("{option}: --health-cmd is missing")),
                None => Ok(Health::default()),
            };
        };
        // Docker takes 0 for its default.
        let of = |given: Option<Duration>| given.filter(|it| !it.is_zero());
        let check = DockerCheck {
            command: vec!["/bin/sh".into(), "-c".into(), command.clone()],
            interval: of(self.health_interval),
            timeout: of(self.health_timeout),
            retries: self.health_retries.filter(|it| *it != 0),
            start_period: of(self.health_start_period),
            start_interval: None,
        };
        Ok(check.health())
    }
}

/// Reads `/PATH` or `/PATH:PORT`.
fn http(text: &str) -> Result<Check, String> {
    if !text.starts_with('/') {
        return Err(format!("`{text}` is no path: `/PATH` or `/PATH:PORT` is expected"));
    }
    let port = text.rsplit_once(':').and_then(|(path, port)| Some((path, port.parse().ok()?)));
    Ok(match port {
        Some((path, port)) => Check::http(path, Some(port)),
        None => Check::http(text, None),
    })
}

/// Reads a duration, also as docker writes them: `1m30s`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let is_digit = |c: char| c.is_ascii_digit() || c == '.';
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut sum = Duration::ZERO;
    loop {
        let unit = rest.find(|c| !is_digit(c)).unwrap_or(rest.len());
        let (_, after) = rest.split_at(unit);
        let end = after.find(is_digit).map_or(rest.len(), |length| unit + length);
        let (first, others) = rest.split_at(end);
        let part = quantity::duration(first).map_err(|error| match others.is_empty() {
            true if first == text => error.to_string(),
            _ => format!("`{text}` is not a duration: {error}"),
        })?;
        sum = sum.saturating_add(part);
        rest = others;
        if rest.is_empty() {
            return Ok(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A container that docker calls unhealthy must not get requests, and Swarm replaces it.
    #[test]
    fn health_check_of_docker_is_readiness_and_liveness() {
        let options = HealthOptions {
            health_cmd: Some("redis-cli ping".into()),
            health_interval: Some(Duration::from_secs(10)),
            health_start_period: Some(duration("1m30s").unwrap()),
            ..HealthOptions::default()
        };
        let Health { startup, readiness, liveness } = options.health().unwrap();
        let (startup, readiness) = (startup.unwrap(), readiness.unwrap());
        let command = ["/bin/sh", "-c", "redis-cli ping"].map(str::to_owned).to_vec();
        assert_eq!(readiness.check, Check::Exec { command });
        assert_eq!(
            (readiness.every, readiness.timeout),
            (Duration::from_secs(10), DockerCheck::DEFAULT)
        );
        assert_eq!((readiness.failures, startup.failures), (3, 9 + 3));
        assert_eq!(liveness, Some(readiness));
    }

    #[test]
    fn options_that_mean_nothing_are_refused() {
        let alone = HealthOptions { health_retries: Some(2), ..HealthOptions::default() };
        assert_eq!(alone.health().unwrap_err(), "--health-retries: --health-cmd is missing");
        let twice = HealthOptions {
            health_cmd: Some("true".into()),
            live_http: Some(http("/live").unwrap()),
            ..HealthOptions::default()
        };
        let why = "--live-http: --health-cmd is there as well, and a probe has one check";
        assert_eq!(twice.health().unwrap_err(), why);
        let off = HealthOptions { live_http: None, no_healthcheck: true, ..twice };
        let why = off.health().unwrap_err();
        assert!(why.starts_with("--no-healthcheck: --health-cmd is there as well"), "{why}");
        assert!(http("live").is_err());
        for wrong in ["5", "s", "1m30", "1x", ""] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn path_may_have_a_port() {
        assert_eq!(http("/ready:8080"), Ok(Check::http("/ready", Some(8080))));
        assert_eq!(http("/a:b"), Ok(Check::http("/a:b", None)));
        let options = HealthOptions { ready_http: http("/ready").ok(), ..HealthOptions::default() };
        let health = options.health().unwrap();
        assert_eq!(health.readiness, Some(Probe::of(Check::http("/ready", None))));
        assert_eq!((health.startup, health.liveness), (None, None));
    }
}
