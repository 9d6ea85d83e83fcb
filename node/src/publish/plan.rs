//! A publish in two steps: what would change, and then the change itself, which is refused if it
//! is no longer what was shown.

use futures::{StreamExt, stream};
use shoal_protocol::model::spec::{Kind, Program};
use shoal_protocol::model::{Spec, WorkloadName};

use super::bases::{Base, Bases};
use super::batch::NotAll;
use super::{
    Checked, Difference, Door, Edit, Operator, Outcome, Overtaken, PublishError, Published, Ready,
    TRIES, apply, check, differences, submit, upload,
};

/// Workloads that a node is asked about at once: fewer than it asks the other members about.
const AT_ONCE: usize = 16;

/// What a change means for the replicas that run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// So many replicas are started; the workload is new.
    Starts(u32),
    /// Every replica is replaced by one of the new version.
    Replaces,
    /// The number of replicas changes.
    Scales(u32, u32),
    /// Replicas go on as they are.
    NoRestart,
    /// So many replicas stop; the workload is removed.
    Stops(u32),
    /// The workload is new, or of another kind than before, and this kind names no number of
    /// replicas.
    Begins(&'static str),
    /// All that runs of a workload of such a kind, or of its earlier kind, stops.
    Ends,
    /// The job is another one, of which nothing is done.
    RunsAgain,
    /// All that runs of a cron workload is replaced, and later runs are of the new version.
    ReplacesRuns,
}

impl std::fmt::Display for Effect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let count = |replicas: u32| match replicas {
            1 => "1 replica".to_owned(),
            many => format!("{many} replicas"),
        };
        match self {
            Effect::Starts(replicas) => write!(f, "starts {}", count(*replicas)),
            Effect::Replaces => f.write_str("replaces every replica"),
            Effect::Scales(from, to) => write!(f, "scales {from} to {to}"),
            Effect::NoRestart => f.write_str("no restart"),
            Effect::Begins(kind) => write!(f, "starts as a {kind} workload"),
            Effect::Ends => f.write_str("all its replicas stop"),
            Effect::RunsAgain => f.write_str("all of it runs again"),
            Effect::ReplacesRuns => f.write_str("replaces the replicas of runs that go on"),
            Effect::Stops(1) => f.write_str("1 replica stops"),
            Effect::Stops(replicas) => write!(f, "{} stop", count(*replicas)),
        }
    }
}

/// The effects of a change from one spec to another; none if they are equal.
pub fn effects(old: Option<&Spec>, new: Option<&Spec>) -> Vec<Effect> {
    match (old, new) {
        (None, None) => Vec::new(),
        (None, Some(new)) => vec![start(&new.kind)],
        (Some(old), None) => vec![old.kind.replicas().map_or(Effect::Ends, Effect::Stops)],
        (Some(old), Some(new)) if old == new => Vec::new(),
        (Some(old), Some(new)) if old.kind.as_str() != new.kind.as_str() => {
            let stops = old.kind.replicas() != Some(0);
            stops.then_some(Effect::Ends).into_iter().chain([start(&new.kind)]).collect()
        }
        (Some(old), Some(new)) => {
            let (from, to) = (old.kind.replicas(), new.kind.replicas());
            let runs = from != Some(0) && to != Some(0);
            let replaces = runs && old.revision() != new.revision();
            let mut all = Vec::new();
            all.extend(replaces.then_some(match new.kind {
                Kind::Job(_) => Effect::RunsAgain,
                Kind::Cron(_) => Effect::ReplacesRuns,
                _ => Effect::Replaces,
            }));
            if let (Some(from), Some(to)) = (old.fixed_replicas(), new.fixed_replicas())
                && from != to
            {
                all.push(Effect::Scales(from, to));
            }
            if all.is_empty() {
                all.push(Effect::NoRestart);
            }
            all
        }
    }
}

/// The effect of a workload of this kind that was not there, or was of another kind.
fn start(kind: &Kind) -> Effect {
    match kind.replicas() {
        Some(replicas) => Effect::Starts(replicas),
        None => Effect::Begins(kind.as_str()),
    }
}

/// A workload of a plan.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// Its name.
    pub name: WorkloadName,
    /// The spec that is there now.
    pub current: Option<Spec>,
    /// The wanted spec; none to remove it.
    pub wanted: Option<Spec>,
    /// What the change comes to.
    pub outcome: Outcome,
    /// Parts of the wanted spec that are mostly a slip, in words.
    pub warnings: Vec<String>,
    /// Further versions that other operators wrote at the same time as the one that counts: the
    /// author of each, and how it differs from that one.
    pub conflicts: Vec<(String, Vec<Difference>)>,
    /// What others changed since this operator published it last.
    pub overtaken: Option<Overtaken>,
}

impl Step {
    /// Whether the workload will be another one, or gone.
    pub fn changes(&self) -> bool {
        self.current != self.wanted
    }

    /// Its effects on replicas.
    pub fn effects(&self) -> Vec<Effect> {
        effects(self.current.as_ref(), self.wanted.as_ref())
    }

    /// The fields that change, of a workload that is there before and after.
    pub fn differences(&self) -> Vec<Difference> {
        match (&self.current, &self.wanted) {
            (Some(old), Some(new)) => differences(old, new),
            _ => Vec::new(),
        }
    }

    /// Whether something that runs is replaced or stopped.
    pub fn disturbs(&self) -> bool {
        self.effects().iter().any(|effect| match effect {
            Effect::Replaces | Effect::RunsAgain | Effect::ReplacesRuns => true,
            Effect::Stops(replicas) => *replicas > 0,
            Effect::Scales(from, to) => to < from,
            Effect::Ends => true,
            Effect::Starts(_) | Effect::Begins(_) | Effect::NoRestart => false,
        })
    }

    /// The program, in words for people.
    pub fn program(&self) -> Option<String> {
        match &self.wanted.as_ref()?.program {
            Program::Wasm(component) => Some(component.artifact.digest.short()),
            Program::Containers(all) => {
                let mut images: Vec<&str> = Vec::new();
                for container in all {
                    // Two of a group may be of one image.
                    let image = container.image.reference.as_str();
                    if !images.contains(&image) {
                        images.push(image);
                    }
                }
                Some(images.join(", "))
            }
        }
    }
}

/// All changes of one publish, checked and not yet made.
pub struct Plan<'a> {
    edits: Vec<Edit<'a>>,
    checked: Vec<Checked>,
    /// What each comes to, in order.
    pub steps: Vec<Step>,
    force: bool,
}

/// Asks what publishing `all` and removing `removed` would change. Nothing is changed, and nothing
/// is uploaded. `bases` is what this installation published before.
///
/// # Errors
/// The changes that the node would refuse.
pub async fn plan<'a>(
    door: &impl Door,
    operator: &Operator,
    (all, removed): (&'a [Ready], &'a [WorkloadName]),
    bases: &Bases,
    force: bool,
) -> Result<Plan<'a>, NotAll> {
    let publish = all.iter().map(|ready| Edit::of(ready, force));
    let edits: Vec<Edit<'a>> =
        publish.chain(removed.iter().map(|name| Edit::removal(name, force))).collect();
    let (mut steps, mut checked, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    // Each may take as long as a member needs that does not answer.
    let checks = stream::iter(edits.iter().map(|edit| check(door, operator, edit)));
    let found: Vec<_> = checks.buffered(AT_ONCE).collect().await;
    for (edit, found) in edits.iter().zip(found) {
        match found {
            Ok(Some(found)) => {
                let base = bases.get(edit.name);
                steps.push(step(operator, edit, &found, base.as_ref()));
                checked.push(found);
            }
            // Only an edit that is derived from a spec can be void.
            Ok(None) => failed.push((edit.name.clone(), contended(edit))),
            Err(error) => failed.push((edit.name.clone(), error)),
        }
    }
    match failed.is_empty() {
        true => Ok(Plan { edits, checked, steps, force }),
        false => Err(NotAll::nothing(failed, edits.len())),
    }
}

fn contended(edit: &Edit<'_>) -> PublishError {
    PublishError::Contended(edit.name.clone())
}

fn step(operator: &Operator, edit: &Edit<'_>, found: &Checked, base: Option<&Base>) -> Step {
    let current = found.current.clone();
    let counts = current.as_ref();
    let conflicts = found.versions.iter().skip(1).map(|version| {
        let by = version_author(version);
        let differs = match (counts, &version.spec) {
            (Some(current), Some(other)) => differences(current, other),
            _ => Vec::new(),
        };
        (by, differs)
    });
    let overtaken = base
        .filter(|base| base.is_overtaken(&found.draft.clock, &operator.writer()))
        .filter(|base| base.spec != current && current != found.spec)
        .map(|base| Overtaken {
            name: edit.name.clone(),
            shown: base.spec.clone().map(Box::new),
            now: current.clone().map(Box::new),
            by: found.versions.first().map(version_author),
            since: "you published it last",
        });
    Step {
        name: edit.name.clone(),
        wanted: found.spec.clone(),
        outcome: found.outcome.clone(),
        warnings: found.warnings.clone(),
        conflicts: conflicts.collect(),
        overtaken,
        current,
    }
}

fn version_author(version: &shoal_protocol::node::Version) -> String {
    format!("{} (key {})", version.by, version.key.short())
}

impl Plan<'_> {
    /// Whether anything will be another one, new or gone.
    pub fn changes(&self) -> bool {
        self.steps.iter().any(Step::changes)
    }

    /// Makes the changes, each only if the workload is still what the plan shows; with `force` in
    /// any case. Notes in `bases` what was published.
    ///
    /// # Errors
    /// The first change that was not made, with those that were made before it.
    pub async fn carry_out(
        self,
        door: &impl Door,
        operator: &Operator,
        bases: &Bases,
    ) -> Result<Vec<Published>, NotAll> {
        let Plan { edits, checked, steps, force } = self;
        let of = edits.len();
        let overtaken = steps.iter().filter_map(|step| step.overtaken.clone());
        let refused: Vec<_> = overtaken
            .filter(|_| !force)
            .map(|it| (it.name.clone(), PublishError::Overtaken(it)))
            .collect();
        if !refused.is_empty() {
            return Err(NotAll::nothing(refused, of));
        }
        for (edit, checked) in edits.iter().zip(&checked) {
            let sent = upload(door, edit, checked).await;
            sent.map_err(|error| NotAll::nothing(vec![(edit.name.clone(), error)], of))?;
        }
        let mut published = Vec::with_capacity(of);
        for (at, (edit, checked)) in edits.iter().zip(checked).enumerate() {
            match carry_out(door, operator, edit, checked, force).await {
                Ok((done, base)) => {
                    bases.note(&done, base);
                    published.push(done);
                }
                Err(error) => {
                    let untried = edits[at + 1..].iter().map(|edit| edit.name.clone()).collect();
                    let failed = vec![(edit.name.clone(), error)];
                    return Err(NotAll { published, failed, untried, of });
                }
            }
        }
        Ok(published)
    }
}

/// Makes one change of a plan.
async fn carry_out(
    door: &impl Door,
    operator: &Operator,
    edit: &Edit<'_>,
    checked: Checked,
    force: bool,
) -> Result<(Published, Option<Base>), PublishError> {
    let shown = checked.current.clone();
    let mut next = checked;
    for _ in 0..TRIES {
        let base = Base::after(&next.draft, operator.writer(), next.spec.clone());
        if let Some(done) = submit(door, operator, edit, next).await? {
            return Ok((done, Some(base)));
        }
        let Some(again) = check(door, operator, edit).await? else { break };
        if again.current != shown && !force {
            return Err(PublishError::Overtaken(Overtaken {
                name: edit.name.clone(),
                shown: shown.map(Box::new),
                now: again.current.map(Box::new),
                by: again.versions.first().map(version_author),
                since: "the plan was shown",
            }));
        }
        next = again;
    }
    match force {
        true => Ok((apply(door, operator, edit).await?, None)),
        false => Err(contended(edit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::spec;
    use shoal_protocol::model::SpecForm;
    use shoal_protocol::model::spec::{Cron, Job, Missed, Overlap, Rollout};

    fn with(change: impl FnOnce(&mut SpecForm)) -> Spec {
        let mut form = SpecForm::from(spec("web", 2));
        change(&mut form);
        form.try_into().unwrap()
    }

    fn told(old: Option<&Spec>, new: Option<&Spec>) -> String {
        effects(old, new).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// A person decides by these words whether to go on.
    #[test]
    fn effects_tell_replacement_scale_and_neither() {
        let (old, more) = (spec("web", 2), spec("web", 4));
        assert_eq!(told(None, Some(&old)), "starts 2 replicas");
        assert_eq!(told(Some(&old), None), "2 replicas stop");
        assert_eq!(told(Some(&old), Some(&old)), "");
        assert_eq!(told(Some(&old), Some(&more)), "scales 2 to 4");
        let env = with(|form| form.later.restarts = 7);
        assert_eq!(told(Some(&old), Some(&env)), "replaces every replica");
        let zone = with(|form| {
            form.placement.require.insert("zone".into(), "a".into());
        });
        assert_eq!(told(Some(&old), Some(&zone)), "no restart");
        let again = old.restarted().unwrap();
        assert_eq!(told(Some(&old), Some(&again)), "replaces every replica");
        let none = spec("web", 0);
        assert_eq!(told(Some(&none), Some(&none.restarted().unwrap())), "no restart");
        let slow = with(|form| form.later.rollout = Some(Rollout::default()));
        assert_eq!(told(Some(&old), Some(&slow)), "no restart");
        let paused = Rollout { paused: true, parallel: 2, ..Rollout::default() };
        let paused = with(|form| form.later.rollout = Some(paused));
        let fields: Vec<String> =
            differences(&slow, &paused).iter().map(ToString::to_string).collect();
        assert_eq!(fields, ["update parallel 1 -> 2", "update paused false -> true"]);
        let daemon = with(|form| form.kind = Kind::Daemon);
        assert_eq!(told(None, Some(&daemon)), "starts as a daemon workload");
        assert_eq!(told(Some(&daemon), Some(&old)), "all its replicas stop, starts 2 replicas");
        assert_eq!(told(Some(&daemon), None), "all its replicas stop");
    }

    /// The numbers of a kind are no part of what a replica runs.
    #[test]
    fn another_program_of_a_job_runs_again_and_other_numbers_do_not() {
        let image = |kind: Kind| {
            let workload = crate::publish::Workload::image("web", "report:1").unwrap();
            workload.kind(kind).spec(None).unwrap()
        };
        let job = Job { completions: 5, parallel: 2, ..Job::default() };
        let cron = |schedule: &str, job: &Job| {
            image(Kind::Cron(Cron {
                schedule: schedule.into(),
                zone: "UTC".into(),
                missed: Missed::Once,
                overlap: Overlap::Allow,
                suspended: false,
                job: job.clone(),
            }))
        };
        let more = Job { completions: 7, retries: 1, ..job.clone() };
        let (one, other) = (image(Kind::Job(job.clone())), image(Kind::Job(more.clone())));
        assert_eq!(told(Some(&one), Some(&other)), "no restart");
        let again = one.restarted().unwrap();
        assert_eq!(told(Some(&one), Some(&again)), "all of it runs again");
        let (daily, hourly) = (cron("@daily", &job), cron("@hourly", &more));
        assert_eq!(told(Some(&daily), Some(&hourly)), "no restart");
        let again = daily.restarted().unwrap();
        let runs = "replaces the replicas of runs that go on";
        assert_eq!(told(Some(&daily), Some(&again)), runs);
        // The same program, and not the same work.
        let becomes = "all its replicas stop, starts as a cron workload";
        assert_eq!(told(Some(&one), Some(&daily)), becomes);
    }
}
