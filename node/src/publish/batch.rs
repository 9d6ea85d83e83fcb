//! Several wishes at once. All are checked before the first is written; and where one fails after
//! that, because the node dies or its disk fills up, it is told which were written and which were
//! not.

use shoal_protocol::model::WorkloadName;

use super::{
    Checked, Door, Operator, Outcome, PublishError, Published, Ready, Wish, check, fulfil, submit,
    upload,
};

/// Why not all of several wishes were fulfilled.
#[derive(Debug)]
pub struct NotAll {
    /// The fulfilled ones, in order. None: nothing changed, unless a failure says that this is not
    /// known.
    pub published: Vec<Published>,
    /// All that were refused, or the one that failed.
    pub failed: Vec<(WorkloadName, PublishError)>,
    /// The ones that were not tried after a failure.
    pub untried: Vec<WorkloadName>,
    /// How many there were.
    pub of: usize,
}

impl Published {
    /// Whether something was written.
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
    fulfil_all(door, operator, &all.iter().map(|ready| Wish::of(ready, force)).collect::<Vec<_>>())
        .await
}

/// Removes all of these, or none when the node would refuse any of them.
pub async fn remove_all(
    door: &impl Door,
    operator: &Operator,
    names: &[WorkloadName],
    force: bool,
) -> Result<Vec<Published>, NotAll> {
    fulfil_all(
        door,
        operator,
        &names.iter().map(|name| Wish::to_remove(name, force)).collect::<Vec<_>>(),
    )
    .await
}

async fn fulfil_all(
    door: &impl Door,
    operator: &Operator,
    wishes: &[Wish<'_>],
) -> Result<Vec<Published>, NotAll> {
    let nothing =
        |failed| NotAll { published: Vec::new(), failed, untried: Vec::new(), of: wishes.len() };
    let (mut checked, mut failed): (Vec<Option<Checked>>, Vec<_>) = (Vec::new(), Vec::new());
    for wish in wishes {
        match check(door, operator, wish).await {
            Ok(found) => checked.push(found),
            Err(error) => failed.push((wish.name.clone(), error)),
        }
    }
    if !failed.is_empty() {
        return Err(nothing(failed));
    }
    for (wish, checked) in wishes.iter().zip(&checked) {
        if let Some(checked) = checked {
            upload(door, wish, checked)
                .await
                .map_err(|error| nothing(vec![(wish.name.clone(), error)]))?;
        }
    }
    let mut published = Vec::with_capacity(wishes.len());
    for (at, (wish, checked)) in wishes.iter().zip(checked).enumerate() {
        let done = match checked {
            Some(checked) => submit(door, operator, wish, checked).await,
            None => Ok(None),
        };
        let done = match done {
            // Somebody else changed it since it was checked.
            Ok(None) => fulfil(door, operator, wish).await,
            Ok(Some(done)) => Ok(done),
            Err(error) => Err(error),
        };
        match done {
            Ok(done) => published.push(done),
            Err(error) => {
                let untried = wishes[at + 1..].iter().map(|wish| wish.name.clone()).collect();
                return Err(NotAll {
                    published,
                    failed: vec![(wish.name.clone(), error)],
                    untried,
                    of: wishes.len(),
                });
            }
        }
    }
    Ok(published)
}
