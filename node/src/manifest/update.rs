//! How replicas get a new version, in a manifest.

use serde::Deserialize;
use shoal_protocol::model::spec::{Kind, Rollout};

use super::text::{At, Count, Failure, OrderText, Time};
use super::{ManifestError, field, quantity};
use crate::publish::rollout;

/// The steps of an update. Without any, all replicas are replaced at once.
#[derive(Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct UpdateText {
    /// Replicas that are replaced at one time. Default: 1. Example: `parallel: 2`
    parallel: Option<At<Count>>,
    /// Whether the new replica starts before the old one stops, or after that.
    /// Default: start-first, and stop-first for a stateful workload. Example: `order: stop-first`
    order: Option<At<OrderText>>,
    /// The time that new replicas must stay ready before the next ones are replaced. Default: 0s.
    /// Example: `min-ready: 10s`
    min_ready: Option<At<Time>>,
    /// An update whose replicas are not ready so long after their turn has failed. Default: 10m.
    /// Example: `deadline: 5m`
    deadline: Option<At<Time>>,
    /// So many replicas are replaced, and the others when `shoal resume` says so; 0 for no stop.
    /// Default: 0. Example: `canary: 1`
    canary: Option<At<Count>>,
    /// When it fails, the other replicas keep the old version, or all get it again.
    /// Default: pause. Example: `on-failure: roll-back`
    on_failure: Option<At<Failure>>,
    /// No further replicas are replaced until `shoal resume` says so. Default: false.
    /// Example: `paused: true`
    paused: Option<At<bool>>,
}

/// The update that the document of a workload of this kind describes; none if it has none. `most`:
/// the greatest number of its replicas; none if nodes decide it.
pub(super) fn update(
    text: Option<UpdateText>,
    kind: &Kind,
    most: Option<u32>,
) -> Result<Option<Rollout>, ManifestError> {
    let Some(text) = text else { return Ok(None) };
    let UpdateText { parallel, order, min_ready, deadline, canary, on_failure, paused } = text;
    let mut all = kind.rollout();
    for (name, given, into) in
        [("update: parallel", parallel, &mut all.parallel), (CANARY, canary, &mut all.canary)]
    {
        if let Some(text) = given {
            *into = field(name, &text, quantity::count)?;
            let most = most.filter(|_| name == CANARY);
            field(name, &text, |_| leaves_some(*into, most))?;
        }
    }
    for (name, given, into) in [
        ("update: min-ready", min_ready, &mut all.min_ready),
        ("update: deadline", deadline, &mut all.deadline),
    ] {
        if let Some(text) = given {
            *into = field(name, &text, quantity::duration)?;
        }
    }
    if let Some(text) = order {
        all.order = field("update: order", &text, rollout::order)?;
    }
    if let Some(text) = on_failure {
        all.on_failure = field("update: on-failure", &text, rollout::on_failure)?;
    }
    all.paused = paused.is_some_and(At::take);
    Ok(Some(all))
}

const CANARY: &str = "update: canary";

/// A canary that is all replicas would never wait for anybody. With no replica at all there is
/// nothing to compare: somebody scales it later.
pub(super) fn leaves_some(canary: u32, most: Option<u32>) -> Result<(), String> {
    match most {
        Some(most) if most > 0 && canary >= most => {
            let will_do = match most {
                1 => "leave it out, or have more replicas".to_owned(),
                2 => "1 will do".to_owned(),
                _ => format!("1 to {} will do", most - 1),
            };
            Err(format!(
                "{canary}, and there are {most} replicas at most: all would be replaced, and the \
                 update never waits for `shoal resume`; {will_do}"
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use shoal_protocol::model::spec::{OnFailure, Order};

    use super::super::parse;
    use super::*;

    fn read(update: &str) -> Result<Option<Rollout>, String> {
        let text = format!("name: web\nimage: nginx:1.27\n{update}");
        let workloads = parse(&text, Path::new("/"))
            .map_err(|error| ManifestError { column: None, ..error }.to_string())?;
        let spec = workloads[0].spec(None).map_err(|error| error.to_string())?;
        Ok(spec.later.rollout.clone())
    }

    #[test]
    fn update_is_read_with_its_defaults() {
        assert_eq!(read(""), Ok(None), "all at once");
        assert_eq!(read("update: {}"), Ok(Some(Rollout::default())));
        let all = "update: { parallel: 2, order: stop-first, min-ready: 10s, deadline: 5m, \
             canary: 3, on-failure: roll-back, paused: true }";
        let rollout = Rollout {
            parallel: 2,
            order: Order::StopFirst,
            min_ready: Duration::from_secs(10),
            deadline: Duration::from_secs(300),
            canary: 3,
            on_failure: OnFailure::RollBack,
            paused: true,
        };
        assert_eq!(read(&format!("replicas: 4\n{all}")), Ok(Some(rollout)));
    }

    /// With `canary: 5` of one replica that one was replaced, and nothing waited.
    #[test]
    fn canary_of_all_replicas_is_refused() {
        let refused = |rest: &str| {
            let text = format!("name: web\nimage: nginx:1.27\n{rest}");
            let error = parse(&text, Path::new("/")).map(drop).unwrap_err();
            (error.line, error.column, error.message)
        };
        let (line, column, message) = refused("update: { canary: 5 }\nreplicas: 1\n");
        assert_eq!((line, column), (Some(3), Some(19)));
        assert_eq!(
            message,
            "update: canary: 5, and there are 1 replicas at most: all would be replaced, and the \
             update never waits for `shoal resume`; leave it out, or have more replicas"
        );
        for (rest, will_do) in [
            ("update: { canary: 1 }\n", "leave it out, or have more replicas"),
            ("replicas: 2\nupdate: { canary: 2 }\n", "1 will do"),
            ("replicas: 4\nupdate: { canary: 4 }\n", "1 to 3 will do"),
            ("autoscale: { min: 1, max: 3, cpu: 50 }\nupdate: { canary: 3 }\n", "1 to 2 will do"),
        ] {
            let (.., message) = refused(rest);
            assert!(message.ends_with(&format!("; {will_do}")), "{rest}{message}");
        }
        for good in [
            "replicas: 2\nupdate: { canary: 1 }",
            "replicas: 0\nupdate: { canary: 1 }",
            "autoscale: { min: 1, max: 3, cpu: 50 }\nupdate: { canary: 2 }",
            "kind: daemon\nupdate: { canary: 7 }",
            "update: { canary: 0 }",
        ] {
            assert!(read(good).is_ok(), "{good}: {:?}", read(good));
        }
    }

    /// Two of one replica are never wanted, so an order that would run them is refused.
    #[test]
    fn stateful_workload_stops_first() {
        let stateful = |update: &str| read(&format!("kind: stateful\nupdate: {update}"));
        let two = Rollout { parallel: 2, order: Order::StopFirst, ..Rollout::default() };
        assert_eq!(stateful("{ parallel: 2 }"), Ok(Some(two)));
        let refused = stateful("{ order: start-first }").unwrap_err();
        assert!(refused.contains("start-first would run two of one replica"), "{refused}");
        assert!(refused.contains("`kind: stateful`"), "{refused}");
    }

    /// Each slip is answered at its line, by the part.
    #[test]
    fn slips_are_answered_with_their_line() {
        for (text, why) in [
            ("{ parallel: two }", "line 3: update: parallel: `two` is not"),
            ("{ order: old-first }", "line 3: update: order: `old-first` is neither"),
            ("{ on-failure: rollback-all }", "line 3: update: on-failure: `rollback-all` is"),
            ("{ deadline: 5 }", "line 3: update: deadline: `5` is not a duration"),
            ("{ min_ready: 5s }", "line 3: unknown field `min_ready`"),
            ("{ parallel: 0 }", "update: parallel: 0 is outside 1 to"),
            ("{ min-ready: 1h }", "update: min-ready: no replica can be ready so long"),
        ] {
            let refused = read(&format!("update: {text}")).unwrap_err();
            assert!(refused.starts_with(why), "{refused}");
        }
    }
}
