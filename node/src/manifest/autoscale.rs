//! The number of replicas by their load, in a manifest.

use serde::Deserialize;
use shoal_protocol::model::spec::Autoscale;

use super::text::{At, Count, Time};
use super::{ManifestError, field, quantity};

/// The number of replicas follows from their load.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct AutoscaleText {
    /// The fewest replicas. 0: the last one stops when no request came for the time of `down`, and
    /// the next request starts one. Default: 1. Example: `min: 2`
    min: Option<At<Count>>,
    /// The most replicas. Example: `max: 10`
    max: At<Count>,
    /// The wanted use of CPU, in percent of what is reserved for a replica. Example: `cpu: 70`
    cpu: Option<At<Count>>,
    /// The wanted use of memory, in percent of what is reserved for a replica.
    /// Example: `memory: 80`
    memory: Option<At<Count>>,
    /// The wanted number of requests that a replica answers at one time. Example: `requests: 20`
    requests: Option<At<Count>>,
    /// There are more replicas when that was so for this time. Default: 0s. Example: `up: 30s`
    up: Option<At<Time>>,
    /// There are fewer replicas when that was so for this time. Default: 5m. Example: `down: 10m`
    down: Option<At<Time>>,
}

/// The scaling that a document describes; none if it has none.
pub(super) fn autoscale(text: Option<AutoscaleText>) -> Result<Option<Autoscale>, ManifestError> {
    let Some(text) = text else { return Ok(None) };
    let AutoscaleText { min, max, cpu, memory, requests, up, down } = text;
    let count = |name: &'static str, text: &At<Count>| field(name, text, quantity::count);
    let maybe = |name: &'static str, text: Option<At<Count>>| {
        text.as_ref().map(|text| count(name, text)).transpose()
    };
    let time = |name: &'static str, text: Option<At<Time>>| {
        text.as_ref().map(|text| field(name, text, quantity::duration)).transpose()
    };
    let default = Autoscale::default();
    Ok(Some(Autoscale {
        min: maybe("autoscale: min", min)?.unwrap_or(default.min),
        max: count("autoscale: max", &max)?,
        cpu: maybe("autoscale: cpu", cpu)?,
        memory: maybe("autoscale: memory", memory)?,
        requests: maybe("autoscale: requests", requests)?,
        up: time("autoscale: up", up)?.unwrap_or(default.up),
        down: time("autoscale: down", down)?.unwrap_or(default.down),
    }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::super::parse;
    use super::*;

    fn read(rest: &str) -> Result<Option<Autoscale>, String> {
        let text = format!("name: web\nimage: nginx:1.27\n{rest}");
        let workloads = parse(&text, Path::new("/"))
            .map_err(|error| ManifestError { column: None, ..error }.to_string())?;
        let spec = workloads[0].spec(None).map_err(|error| error.to_string())?;
        Ok(spec.later.autoscale.clone())
    }

    #[test]
    fn scaling_is_read_with_its_defaults() {
        assert_eq!(read(""), Ok(None));
        let plain = Autoscale { max: 5, cpu: Some(70), ..Autoscale::default() };
        assert_eq!(read("autoscale: { max: 5, cpu: 70 }"), Ok(Some(plain)));
        let all = "port: 80\nautoscale: { min: 0, max: 9, cpu: 50, memory: 80, requests: 20, \
             up: 30s, down: 1m }";
        let scale = Autoscale {
            min: 0,
            max: 9,
            cpu: Some(50),
            memory: Some(80),
            requests: Some(20),
            up: Duration::from_secs(30),
            down: Duration::from_secs(60),
        };
        assert_eq!(read(all), Ok(Some(scale)));
    }

    #[test]
    fn slips_are_answered_by_the_part() {
        for (text, why) in [
            ("{ max: many, cpu: 70 }", "line 3: autoscale: max: `many` is not"),
            ("{ max: 5, cpu: 70, down: 5 }", "line 3: autoscale: down: `5` is not a duration"),
            ("{ max: 5, maximum: 7 }", "line 3: unknown field `maximum`"),
            ("{ cpu: 70 }", "line 3: autoscale: the field `max` is missing"),
            ("{ max: 5 }", "autoscale: there is no target"),
            ("{ max: 5, cpu: 0 }", "autoscale: cpu: 0 is outside 1 to 1000"),
            ("{ min: 6, max: 5, cpu: 9 }", "autoscale: min: 6 is more than max, which is 5"),
            (
                "{ max: 5, cpu: 9, down: 1s }",
                "autoscale: down: 1s is outside 10 seconds to an hour",
            ),
            ("{ max: 5, cpu: 9 }\nreplicas: 6", "replicas: 6 is more than the 5 of `autoscale`"),
            ("{ min: 0, max: 5, cpu: 9 }", "autoscale: min: 0 needs a program that answers HTTP"),
            ("{ max: 5, requests: 9 }", "autoscale: requests: the program answers no HTTP"),
        ] {
            let refused = read(&format!("autoscale: {text}")).unwrap_err();
            assert!(refused.starts_with(why), "{text}: {refused}");
        }
        let daemon = read("kind: daemon\nautoscale: { max: 5, cpu: 70 }").unwrap_err();
        assert!(daemon.contains("autoscale: a workload of kind daemon has none"), "{daemon}");
    }
}
