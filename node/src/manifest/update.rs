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

/// The update that the document of a workload of this kind describes; none if it has none.
pub(super) fn update(
    text: Option<UpdateText>,
    kind: &Kind,
) -> Result<Option<Rollout>, ManifestError> {
    let Some(text) = text else { return Ok(None) };
    let UpdateText { parallel, order, min_ready, deadline, canary, on_failure, paused } = text;
    let mut all = kind.rollout();
    for (name, given, into) in [
        ("update: parallel", parallel, &mut all.parallel),
        ("update: canary", canary, &mut all.canary),
    ] {
        if let Some(text) = given {
            *into = field(name, &text, quantity::count)?;
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
        assert_eq!(read(all), Ok(Some(rollout)));
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
