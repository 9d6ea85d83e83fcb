//! Checks of what workloads wait for (`after`), over all that are published together.

use std::collections::{BTreeMap, BTreeSet};

use shoal_protocol::model::spec::{After, Until};
use shoal_protocol::model::view::WorkloadView;
use shoal_protocol::model::{Spec, WorkloadName};

use super::PublishError;

/// Likely slips in `after` of these workloads, in words, each with its workload.
/// `there` are the workloads of the cluster.
///
/// # Errors
///
/// Some of them wait for one another: none of those would ever start.
pub fn waits(
    specs: &[&Spec],
    there: &[WorkloadView],
) -> Result<Vec<(WorkloadName, String)>, PublishError> {
    let given: BTreeMap<&WorkloadName, &Spec> = specs.iter().map(|it| (&it.name, *it)).collect();
    if let Some(circle) = circle(&given) {
        return Err(PublishError::Circle(circle));
    }
    let kind_of = |name: &WorkloadName| {
        let is_it = |it: &&WorkloadView| {
            it.namespace == name.namespace.as_str() && it.name == name.name.as_str()
        };
        let here = given.get(name).map(|spec| spec.kind.as_str().to_owned());
        here.or_else(|| there.iter().find(is_it).map(|it| it.kind.clone()))
    };
    let slip = |spec: &Spec, after: &After| {
        let name = sibling(spec, after);
        match kind_of(&name) {
            None => Some(format!(
                "`after: {after}`: there is no workload `{name}`; it waits until there is one"
            )),
            Some(kind) if after.until == Until::Done && kind != "job" => Some(format!(
                "`after: {after}`: `{name}` is a {kind}, which is never done: it waits for ever"
            )),
            Some(_) => None,
        }
    };
    let all = specs.iter().flat_map(|spec| spec.later.after.iter().map(move |it| (*spec, it)));
    Ok(all.filter_map(|(spec, it)| Some((spec.name.clone(), slip(spec, it)?))).collect())
}

fn sibling(spec: &Spec, after: &After) -> WorkloadName {
    WorkloadName { namespace: spec.name.namespace.clone(), name: after.workload.clone() }
}

/// Workloads each of which waits for the next one, and the last one for the first.
fn circle(given: &BTreeMap<&WorkloadName, &Spec>) -> Option<Vec<WorkloadName>> {
    // Those that start in the end, round by round.
    let mut left: BTreeSet<&WorkloadName> = given.keys().copied().collect();
    let waits_for = |name: &WorkloadName, left: &BTreeSet<&WorkloadName>| {
        let spec = given.get(name)?;
        let mut names = spec.later.after.iter().map(|it| sibling(spec, it));
        names.find(|it| left.contains(it))
    };
    loop {
        let free = left.iter().copied().find(|name| waits_for(name, &left).is_none());
        match free {
            Some(name) => left.remove(name),
            None => break,
        };
    }
    let mut way = vec![(*left.first()?).clone()];
    loop {
        let next = waits_for(way.last()?, &left)?;
        if let Some(at) = way.iter().position(|it| *it == next) {
            return Some(way.split_off(at));
        }
        way.push(next);
    }
}

#[cfg(test)]
mod tests {
    use shoal_protocol::model::SpecForm;

    use super::*;
    use crate::fakes;

    fn spec(name: &str, after: &[&str]) -> Spec {
        let mut form = SpecForm::from(fakes::spec(name, 1));
        form.later.after = after.iter().map(|it| it.parse().unwrap()).collect();
        form.try_into().unwrap()
    }

    fn told(specs: &[Spec]) -> Result<Vec<String>, String> {
        let specs: Vec<&Spec> = specs.iter().collect();
        let found = waits(&specs, &[]).map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(|(name, why)| format!("{name}: {why}")).collect())
    }

    #[test]
    fn what_is_not_there_or_never_done_is_told() {
        let all = [spec("web", &["db", "nobody"]), spec("db", &[])];
        assert_eq!(
            told(&all).unwrap(),
            ["web: `after: nobody`: there is no workload `nobody`; it waits until \
                there is one"]
        );
        let all = [spec("web", &["db:done"]), spec("db", &[])];
        assert_eq!(
            told(&all).unwrap(),
            ["web: `after: db:done`: `db` is a service, which is never done: it \
                waits for ever"]
        );
    }

    #[test]
    fn circle_is_refused_with_its_members() {
        let all = [spec("web", &["a"]), spec("a", &["b"]), spec("b", &["c:started", "db"])];
        let all = [&all[..], &[spec("c", &["a"]), spec("db", &[])]].concat();
        assert_eq!(
            told(&all).unwrap_err(),
            "each waits for the next one, and the last one for the first, so that none would \
                start: a, b, c; nothing was changed"
        );
    }
}
