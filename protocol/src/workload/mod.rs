//! The places of a workload, and the revision that belongs in each. **No other code decides this.**
//!
//! Pure functions: the owner, the holders, the bidders and the views all call them, so no two of
//! them can disagree on the same view.

mod runs;

use std::collections::{BTreeMap, BTreeSet};

use crate::model::spec::{Kind, MAX_REPLICAS};
use crate::model::{Place, Revision, RulingBody, Spec, View};

pub use runs::{Due, NO_GENERATION, Run, Ticks, due, generation_of, overdue, results, runs};

/// Every place of a workload, with the revision that belongs there.
pub fn places(spec: &Spec, view: &View<'_>) -> BTreeMap<Place, Revision> {
    let revision = spec.revision_with(view.versions);
    places_of(spec, view).map(|place| (place, revision)).collect()
}

/// The revision that belongs in one place; `None` if the workload has no such place. The same as a
/// look-up in [`places`], at a cost that does not grow with the workload.
pub fn revision_at(spec: &Spec, view: &View<'_>, place: Place) -> Option<Revision> {
    has_place(spec, view, place).then(|| spec.revision_with(view.versions))
}

/// Whether it is a place's turn to get the revision that belongs there.
pub fn is_due(spec: &Spec, view: &View<'_>, place: Place) -> bool {
    let is_below = |below| rank(spec, view, place).is_none_or(|rank| rank < below);
    due_below(spec, view).is_none_or(is_below)
}

/// The places of which [`is_due`] is true; `None` for all. At a cost that does not grow with the
/// square of a daemon's places.
pub fn due_places(spec: &Spec, view: &View<'_>) -> Option<BTreeSet<Place>> {
    let below = due_below(spec, view)?.saturating_sub(first_rank(spec));
    let below = usize::try_from(below).unwrap_or(usize::MAX);
    Some(in_turn(spec, view).into_iter().take(below).collect())
}

/// The places in the order in which they get a new revision. **Those of a stateful workload go from
/// the last to the first**: mostly place 0 leads the others, and moves once.
pub fn in_turn(spec: &Spec, view: &View<'_>) -> Vec<Place> {
    let mut places: Vec<Place> = places_of(spec, view).collect();
    if spec.kind.is_stateful() {
        places.reverse();
    }
    places
}

/// The rank of the first place that gets a new revision; the others follow without a gap. Ranks of
/// a stateful workload count from the greatest number that there may be, so that a place keeps its
/// rank when others come and go: it is due from the same frontier on.
pub fn first_rank(spec: &Spec) -> u32 {
    match &spec.kind {
        Kind::Stateful(it) => MAX_REPLICAS.saturating_sub(it.replicas),
        _ => 0,
    }
}

/// The number of places whose turn has come; `None` for all: without a policy for updates, and when
/// the revision was ruled to be good.
fn due_below(spec: &Spec, view: &View<'_>) -> Option<u32> {
    spec.rollout()?;
    match frontier(spec.revision_with(view.versions), view) {
        (_, Some(true)) => None,
        (below, _) => Some(below),
    }
}

/// The frontier of a revision, and what was ruled about it.
pub fn frontier(revision: Revision, view: &View<'_>) -> (u32, Option<bool>) {
    let (mut frontier, mut verdict) = (0, None);
    for ruling in view.rulings.iter().filter(|ruling| ruling.generation == revision) {
        match &ruling.body {
            RulingBody::Frontier { below } => frontier = *below,
            RulingBody::RolloutVerdict { is_good } => verdict = Some(*is_good),
            _ => {}
        }
    }
    (frontier, verdict)
}

/// The number of a place among those of its workload; none for one that is never replaced.
fn rank(spec: &Spec, view: &View<'_>, place: Place) -> Option<u32> {
    match place {
        Place::Ordinal(index) if spec.kind.is_stateful() => {
            Some(MAX_REPLICAS.saturating_sub(index.saturating_add(1)))
        }
        Place::Ordinal(index) => Some(index),
        Place::OnNode(_) => {
            let before = places_of(spec, view).take_while(|other| *other < place);
            Some(u32::try_from(before.count()).unwrap_or(u32::MAX))
        }
        Place::Run { .. } => None,
    }
}

/// The number of a workload's places.
pub fn count(spec: &Spec, view: &View<'_>) -> u32 {
    match replicas(spec, view) {
        Some(replicas) => replicas,
        None => u32::try_from(places_of(spec, view).count()).unwrap_or(u32::MAX),
    }
}

/// The number of replicas of a kind that has one: what its owner ruled last if it is scaled by
/// load, else what the spec says.
fn replicas(spec: &Spec, view: &View<'_>) -> Option<u32> {
    let first = spec.kind.replicas()?;
    let Some(scale) = &spec.later.autoscale else { return Some(first) };
    Some(scale.bounded(ruled_replicas(view).unwrap_or(first)))
}

/// The number of replicas that an owner ruled last, if one did.
pub fn ruled_replicas(view: &View<'_>) -> Option<u32> {
    view.rulings.iter().find_map(|ruling| match ruling.body {
        RulingBody::Autoscale { replicas } if ruling.generation == NO_GENERATION => Some(replicas),
        _ => None,
    })
}

fn places_of<'a>(spec: &Spec, view: &'a View<'_>) -> Box<dyn Iterator<Item = Place> + 'a> {
    match spec.kind {
        Kind::Service { .. } | Kind::Stateful { .. } => {
            Box::new((0..replicas(spec, view).unwrap_or_default()).map(Place::Ordinal))
        }
        Kind::Daemon => {
            let members = view.members.keys().filter(|node| (view.suits)(node));
            Box::new(members.map(|node| Place::OnNode(*node)))
        }
        Kind::Job(_) | Kind::Cron(_) => {
            let places =
                |run: Run| run.open.into_iter().map(move |index| Place::Run { at: run.at, index });
            Box::new(runs(spec, view).into_iter().flat_map(places))
        }
    }
}

fn has_place(spec: &Spec, view: &View<'_>, place: Place) -> bool {
    match (&spec.kind, place) {
        (Kind::Service { .. } | Kind::Stateful { .. }, Place::Ordinal(index)) => {
            replicas(spec, view).is_some_and(|replicas| index < replicas)
        }
        (Kind::Daemon, Place::OnNode(node)) => {
            view.members.contains_key(&node) && (view.suits)(&node)
        }
        (Kind::Job(_) | Kind::Cron(_), Place::Run { at, index }) => {
            runs(spec, view).iter().any(|run| run.at == at && run.open.contains(&index))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
