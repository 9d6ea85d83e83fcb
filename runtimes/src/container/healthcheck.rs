//! The health check that an image names, as probes: the node asks, and not the engine.

use std::sync::PoisonError;
use std::time::Duration;

use shoal_protocol::model::spec::{DockerCheck, Health};

use super::forms::{Healthcheck, ImageConfig};
use super::refusal::CallError;
use super::shared::Shared;

/// Images whose probes are remembered: more than a device runs at a time.
const REMEMBERED: usize = 256;

/// The probes that an image names, by its id.
///
/// # Errors
/// The engine does not answer.
pub(super) async fn of_image(
    shared: &Shared,
    image: Option<&str>,
) -> Result<Option<Health>, CallError> {
    let Some(image) = image else { return Ok(None) };
    let known = || shared.image_probes.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(probes) = known().get(image) {
        return Ok(probes.clone());
    }
    let probes = match shared.engine.image_by_id(image).await {
        Ok(found) => probes(found.settings()),
        // It was removed by force: what it named cannot be known.
        Err(CallError::Refused { .. }) => None,
        Err(error) => return Err(error),
    };
    let mut known = known();
    if known.len() >= REMEMBERED {
        known.pop_first();
    }
    known.insert(image.to_owned(), probes.clone());
    Ok(probes)
}

/// The probes of an image with this configuration. Numbers out of bounds are brought within them.
fn probes(config: ImageConfig) -> Option<Health> {
    let ImageConfig { healthcheck, shell } = config;
    let Healthcheck { test, interval, timeout, start_period, start_interval, retries } =
        healthcheck?;
    let mut words = test?.into_iter();
    let command: Vec<String> = match words.next()?.as_str() {
        "CMD" => words.collect(),
        "CMD-SHELL" => {
            let shell = shell.filter(|shell| !shell.is_empty());
            let shell = shell.unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
            shell.into_iter().chain([words.collect::<Vec<_>>().join(" ")]).collect()
        }
        // `NONE`, or what this program does not know.
        _ => return None,
    };
    if command.first().is_none_or(String::is_empty) {
        return None;
    }
    let time = |nanos: Option<i64>| {
        let nanos = u64::try_from(nanos.unwrap_or_default()).ok();
        nanos.filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    };
    let retries = retries.filter(|retries| *retries > 0);
    let check = DockerCheck {
        command,
        interval: time(interval),
        timeout: time(timeout),
        retries: retries.map(|retries| u32::try_from(retries).unwrap_or(u32::MAX)),
        start_period: time(start_period),
        start_interval: time(start_interval).or(Some(DockerCheck::DEFAULT_START_INTERVAL)),
    };
    Some(check.health().clamped())
}

#[cfg(test)]
mod tests {
    use shoal_protocol::model::spec::Check;

    use super::super::forms::Image;
    use super::*;

    fn of(config: &str) -> Option<Health> {
        let image = format!(r#"{{"Id":"sha256:1","Config":{{{config}}}}}"#);
        probes(serde_json::from_str::<Image>(&image).unwrap().settings())
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Nothing and 0 stand for docker's defaults.
    #[test]
    fn health_check_of_an_image_is_readiness_and_liveness() {
        let health = of(r#""Healthcheck":{"Test":["CMD-SHELL","pg_isready -q"],"Interval":0}"#);
        let Health { startup, readiness, liveness } = health.unwrap();
        let readiness = readiness.unwrap();
        let command = ["/bin/sh", "-c", "pg_isready -q"].map(str::to_owned).to_vec();
        assert_eq!(readiness.check, Check::Exec { command });
        assert_eq!((readiness.every, readiness.timeout), (seconds(30), seconds(30)));
        assert_eq!((readiness.failures, startup), (3, None));
        assert_eq!(liveness, Some(readiness));
    }

    #[test]
    fn numbers_of_an_image_are_kept() {
        let health =
            of(r#""Shell":["/bin/bash","-lc"],"Healthcheck":{"Test":["CMD","/check","a b"],
            "Interval":2000000000,"Timeout":1500000000,"Retries":5,"StartPeriod":20000000000}"#);
        let Health { startup, liveness, .. } = health.unwrap();
        let (startup, liveness) = (startup.unwrap(), liveness.unwrap());
        let command = vec!["/check".to_owned(), "a b".to_owned()];
        assert_eq!(liveness.check, Check::Exec { command });
        assert_eq!((liveness.every, liveness.failures), (seconds(2), 5));
        assert_eq!(liveness.timeout, Duration::from_millis(1500));
        // 20 s in which failures do not count, then five of them, 2 s apart.
        assert_eq!((startup.every, startup.failures), (seconds(2), 10 + 5));
        let bash = of(r#""Shell":["/bin/bash","-lc"],"Healthcheck":{"Test":["CMD-SHELL","a"]}"#);
        let command = ["/bin/bash", "-lc", "a"].map(str::to_owned).to_vec();
        assert_eq!(bash.unwrap().liveness.unwrap().check, Check::Exec { command });
    }

    /// Podman has it beside the configuration.
    #[test]
    fn health_check_is_found_where_podman_has_it() {
        let image = r#"{"Id":"1","Config":{"Env":null},
            "Healthcheck":{"Test":["CMD-SHELL","/x"],"Interval":2000000000}}"#;
        let image: Image = serde_json::from_str(image).unwrap();
        assert_eq!(probes(image.settings()).unwrap().liveness.unwrap().every, seconds(2));
    }

    /// An image that switches the check of its base off, one that has none, and nonsense.
    #[test]
    fn image_without_a_check_has_no_probes() {
        for config in [
            "",
            r#""Healthcheck":null"#,
            r#""Healthcheck":{}"#,
            r#""Healthcheck":{"Test":null}"#,
            r#""Healthcheck":{"Test":[]}"#,
            r#""Healthcheck":{"Test":["NONE"]}"#,
            r#""Healthcheck":{"Test":["CMD"]}"#,
            r#""Healthcheck":{"Test":["LATER","x"]}"#,
        ] {
            assert_eq!(of(config), None, "{config}");
        }
    }
}
