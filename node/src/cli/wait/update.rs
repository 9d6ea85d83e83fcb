//! How a wait takes the update of a workload whose replicas are replaced step by step.

use shoal_protocol::model::Spec;
use shoal_protocol::model::spec::OnFailure;
use shoal_protocol::model::view::{UpdateView, WorkloadView};

/// How the update to a spec stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stands {
    /// It goes on, is done, or is none.
    Open,
    /// The same, and all replicas go back when it fails: a failure is not the end.
    RollsBack,
    /// It waits for a person, in words.
    Held(String),
    /// It failed.
    Failed,
    /// It failed, and all replicas run the version before again.
    RolledBack,
}

/// How the update to `spec` stands in a view.
pub(super) fn stands(spec: &Spec, view: &WorkloadView) -> Stands {
    let rolls_back = spec.later.previous.is_some()
        && spec.later.rollout.as_ref().is_some_and(|it| it.on_failure == OnFailure::RollBack);
    let open = if rolls_back { Stands::RollsBack } else { Stands::Open };
    let Some(UpdateView { state, done, total, failed }) = &view.update else { return open };
    let generation = spec.revision();
    if state == "rolled-back" {
        let is_this = failed.as_deref() == Some(generation.short().as_str());
        return if is_this { Stands::RolledBack } else { open };
    }
    let is_scaled = spec.fixed_replicas().is_none_or(|replicas| view.desired == replicas);
    if view.generation != generation.to_string() || !is_scaled {
        return open;
    }
    let is_settled = view.replicas.iter().all(|replica| {
        matches!(replica.phase.as_str(), "healthy" | "lost") && replica.replacement.is_none()
    });
    let name = &spec.name;
    let runs = format!("{done} of {total} run the new version");
    match state.as_str() {
        "failed" if !rolls_back => Stands::Failed,
        "paused" if is_settled && done < total => {
            Stands::Held(format!("{runs}, and its update is paused: `shoal resume {name}` goes on"))
        }
        "canary" if is_settled => Stands::Held(format!(
            "{runs} as its canary: `shoal resume {name}` replaces the others, publishing the old \
             version goes back"
        )),
        _ => open,
    }
}

/// Whether no decision about the update of a view is open.
pub(super) fn is_over(view: &WorkloadView) -> bool {
    // After a roll-back all is as before the update.
    let is_over = |it: &UpdateView| matches!(it.state.as_str(), "done" | "paused" | "rolled-back");
    view.update.as_ref().is_none_or(is_over)
}

#[cfg(test)]
mod tests {
    use shoal_protocol::model::SpecForm;
    use shoal_protocol::model::spec::Rollout;

    use super::*;
    use crate::fakes::{replica_view, spec, workload_view};

    fn wanted(on_failure: OnFailure) -> Spec {
        let mut form = SpecForm::from(spec("web", 2));
        form.later.rollout = Some(Rollout { on_failure, ..Rollout::default() });
        form.later.restarts = 1;
        let spec: Spec = form.try_into().unwrap();
        spec.replacing(Some(&crate::fakes::spec("web", 2)), true)
    }

    fn shown(spec: &Spec, state: &str, done: u32) -> WorkloadView {
        let replicas =
            ["web/0", "web/1"].map(|name| replica_view(name, "healthy", Some("n1"))).into();
        let failed = (state == "rolled-back").then(|| spec.revision().short());
        WorkloadView {
            generation: spec.revision().to_string(),
            update: Some(UpdateView { state: state.into(), done, total: 2, failed }),
            ..workload_view("web", replicas)
        }
    }

    #[test]
    fn wait_ends_by_what_became_of_the_update() {
        let (stays, goes_back) = (wanted(OnFailure::Pause), wanted(OnFailure::RollBack));
        let of = |spec: &Spec, state: &str| stands(spec, &shown(spec, state, 1));
        assert_eq!(of(&stays, "rolling"), Stands::Open);
        assert_eq!(of(&stays, "failed"), Stands::Failed);
        assert_eq!(of(&goes_back, "rolling"), Stands::RollsBack);
        assert_eq!(of(&goes_back, "failed"), Stands::RollsBack, "the way back comes");
        assert_eq!(of(&goes_back, "rolled-back"), Stands::RolledBack);
        let Stands::Held(text) = of(&stays, "canary") else { panic!("it waits for a person") };
        assert!(text.contains("1 of 2") && text.contains("shoal resume web"), "{text}");
        assert!(matches!(of(&stays, "paused"), Stands::Held(_)));
        assert!(is_over(&shown(&stays, "done", 2)) && !is_over(&shown(&stays, "rolling", 2)));
        // The good version was published again, and waited for without end.
        assert!(is_over(&shown(&goes_back, "rolled-back", 0)));
    }

    /// An earlier update had failed; this one has just begun.
    #[test]
    fn roll_back_of_another_version_is_not_taken_for_this_one() {
        let spec = wanted(OnFailure::RollBack);
        let mut view = shown(&spec, "rolled-back", 0);
        view.update.as_mut().unwrap().failed = Some("00000000".into());
        assert_eq!(stands(&spec, &view), Stands::RollsBack);
    }

    /// A new workload is published with `paused`: its replicas start all the same.
    #[test]
    fn paused_update_is_waited_for_while_replicas_start() {
        let spec = wanted(OnFailure::Pause);
        let mut view = shown(&spec, "paused", 0);
        view.replicas[1] = replica_view("web/1", "starting", Some("n1"));
        assert_eq!(stands(&spec, &view), Stands::Open);
    }
}
