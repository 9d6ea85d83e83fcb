//! The places of a workload, and the revision that belongs in each. **No other code decides this.**
//!
//! Pure functions: the owner, the holders, the bidders and the views all call them, so no two of
//! them can disagree on the same view.

use std::collections::BTreeMap;

use crate::model::{Place, Revision, Spec, View};

/// Every place of a workload, with the revision that belongs there.
pub fn places(spec: &Spec, _view: &View<'_>) -> BTreeMap<Place, Revision> {
    (0..spec.replicas).map(|index| (Place::Ordinal(index), spec.revision())).collect()
}

/// The revision that belongs in one place; `None` if the workload has no such place. The same as a
/// look-up in [`places`], at a cost that does not grow with the workload.
pub fn revision_at(spec: &Spec, _view: &View<'_>, place: Place) -> Option<Revision> {
    match place {
        Place::Ordinal(index) => (index < spec.replicas).then(|| spec.revision()),
        Place::OnNode(_) | Place::Run { .. } => None,
    }
}

/// The number of a workload's places.
pub fn count(spec: &Spec, _view: &View<'_>) -> u32 {
    spec.replicas
}

#[cfg(test)]
mod tests;
