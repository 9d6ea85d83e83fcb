//! Several changes at once. All are checked before the first is written. If one fails after that,
//! because the node dies or its disk is full, the error lists which were written.

use shoal_protocol::model::WorkloadName;

use super::{
    Checked, Door, Edit, Operator, Outcome, PublishError, Published, Ready, apply, check, submit,
    upload,
};

/// Why not all of several changes were made.
#[derive(Debug)]
pub struct NotAll {
    /// The changes that were made, in order. If there are none, nothing changed, unless a failure
    /// says that this is not known.
    pub published: Vec<Published>,
    /// All changes that were refused, or the one that failed.
    pub failed: Vec<(WorkloadName, PublishError)>,
    /// The changes that were not tried after a failure.
    pub untried: Vec<WorkloadName>,
    /// The number of changes.
    pub of: usize,
}

impl NotAll {
    /// Nothing was changed, because these were refused.
    pub(super) fn nothing(failed: Vec<(WorkloadName, PublishError)>, of: usize) -> NotAll {
        NotAll { published: Vec::new(), failed, untried: Vec::new(), of }
    }
}

impl Published {
    /// Whether a change was written.
    pub fn was_written(&self) -> bool {
        self.outcome != Outcome::Unchanged
    }
}

/// Publishes all of these, or none when the node would refuse any of them.
pub async fn publish_all(
    door: &impl Door,
    operator: &Operator,
    all: &[Ready],
    force: bool,
) -> Result<Vec<Published>, NotAll> {
    apply_all(door, operator, &all.iter().map(|ready| Edit::of(ready, force)).collect::<Vec<_>>())
        .await
}

/// Removes all of these, or none when the node would refuse any of them.
pub async fn remove_all(
    door: &impl Door,
    operator: &Operator,
    names: &[WorkloadName],
    force: bool,
) -> Result<Vec<Published>, NotAll> {
    apply_all(
        door,
        operator,
        &names.iter().map(|name| Edit::removal(name, force)).collect::<Vec<_>>(),
    )
    .await
}

async fn apply_all(
    door: &impl Door,
    operator: &Operator,
    edits: &[Edit<'_>],
) -> Result<Vec<Published>, NotAll> {
    let nothing = |failed| NotAll::nothing(failed, edits.len());
    let (mut checked, mut failed): (Vec<Option<Checked>>, Vec<_>) = (Vec::new(), Vec::new());
    for edit in edits {
        match check(door, operator, edit).await {
            Ok(found) => checked.push(found),
            Err(error) => failed.push((edit.name.clone(), error)),
        }
    }
    if !failed.is_empty() {
        return Err(nothing(failed));
    }
    for (edit, checked) in edits.iter().zip(&checked) {
        if let Some(checked) = checked {
            upload(door, edit, checked)
                .await
                .map_err(|error| nothing(vec![(edit.name.clone(), error)]))?;
        }
    }
    let mut published = Vec::with_capacity(edits.len());
    for (at, (edit, checked)) in edits.iter().zip(checked).enumerate() {
        let done = match checked {
            Some(checked) => submit(door, operator, edit, checked).await,
            None => Ok(None),
        };
        let done = match done {
            // Another operator changed it since it was checked.
            Ok(None) => apply(door, operator, edit).await,
            Ok(Some(done)) => Ok(done),
            Err(error) => Err(error),
        };
        match done {
            Ok(done) => published.push(done),
            Err(error) => {
                let untried = edits[at + 1..].iter().map(|edit| edit.name.clone()).collect();
                return Err(NotAll {
                    published,
                    failed: vec![(edit.name.clone(), error)],
                    untried,
                    of: edits.len(),
                });
            }
        }
    }
    Ok(published)
}
