//! Which places a workload has, and which revision belongs in each: **the only code that knows**.
//!
//! Pure: the owner, the holders, the bidders and the views all ask here, so that no two of them can
//! disagree on the same view.

use std::collections::BTreeMap;

use crate::model::{Place, Revision, Spec, View};

/// Every place of a workload, with the revision that belongs there.
pub fn places(spec: &Spec, _view: &View<'_>) -> BTreeMap<Place, Revision> {
    (0..spec.replicas).map(|index| (Place::Ordinal(index), spec.revision())).collect()
}

/// The revision that belongs in one place; none when the workload has no such place. The same as
/// looking into [`places`], at a cost that does not grow with the workload.
pub fn revision_at(spec: &Spec, _view: &View<'_>, place: Place) -> Option<Revision> {
    match place {
        Place::Ordinal(index) => (index < spec.replicas).then(|| spec.revision()),
        Place::OnNode(_) | Place::Run { .. } => None,
    }
}

/// How many places a workload has.
pub fn count(spec: &Spec, _view: &View<'_>) -> u32 {
    spec.replicas
}

#[cfg(test)]
mod tests;
