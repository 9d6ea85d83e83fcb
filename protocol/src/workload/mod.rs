//! The places of a workload, and the revision that belongs in each. **No other code decides this.**
//!
//! Pure functions: the owner, the holders, the bidders and the views all call them, so no two of
//! them can disagree on the same view.

use std::collections::BTreeMap;

use crate::model::spec::{Job, Kind};
use crate::model::{Place, Revision, Spec, View};

/// Every place of a workload, with the revision that belongs there.
pub fn places(spec: &Spec, view: &View<'_>) -> BTreeMap<Place, Revision> {
    let revision = spec.revision_with(view.versions);
    places_of(&spec.kind, view).map(|place| (place, revision)).collect()
}

/// The revision that belongs in one place; `None` if the workload has no such place. The same as a
/// look-up in [`places`], at a cost that does not grow with the workload.
pub fn revision_at(spec: &Spec, view: &View<'_>, place: Place) -> Option<Revision> {
    has_place(&spec.kind, view, place).then(|| spec.revision_with(view.versions))
}

/// The number of a workload's places.
pub fn count(spec: &Spec, view: &View<'_>) -> u32 {
    match spec.kind.replicas() {
        Some(replicas) => replicas,
        None => u32::try_from(places_of(&spec.kind, view).count()).unwrap_or(u32::MAX),
    }
}

fn places_of<'a>(kind: &Kind, view: &'a View<'_>) -> Box<dyn Iterator<Item = Place> + 'a> {
    match *kind {
        Kind::Service { replicas } | Kind::Stateful { replicas } => {
            Box::new((0..replicas).map(Place::Ordinal))
        }
        Kind::Daemon => {
            let members = view.members.keys().filter(|node| (view.suits)(node));
            Box::new(members.map(|node| Place::OnNode(*node)))
        }
        Kind::Job(Job { parallel, .. }) => {
            Box::new((0..parallel).map(|index| Place::Run { at: 0, index }))
        }
        // Its runs follow from the rulings about its ticks.
        Kind::Cron(_) => Box::new(std::iter::empty()),
    }
}

fn has_place(kind: &Kind, view: &View<'_>, place: Place) -> bool {
    match (kind, place) {
        (Kind::Service { replicas } | Kind::Stateful { replicas }, Place::Ordinal(index)) => {
            index < *replicas
        }
        (Kind::Daemon, Place::OnNode(node)) => {
            view.members.contains_key(&node) && (view.suits)(&node)
        }
        (Kind::Job(Job { parallel, .. }), Place::Run { at: 0, index }) => index < *parallel,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
