//! The changes that a publish would make: for people, and as JSON.

use serde::Serialize;

use crate::publish::plan::Step;
use crate::publish::{Difference, Outcome};

/// All steps, and how many of each kind there are.
pub fn plan(steps: &[Step]) -> String {
    let mut text: String = steps.iter().map(step).collect();
    if steps.len() > 1 {
        text.push_str(&summary(steps));
    }
    text
}

fn step(step: &Step) -> String {
    let name = &step.name;
    let effects: Vec<String> = step.effects().iter().map(ToString::to_string).collect();
    let effects = effects.join(", ");
    let mut text = match word(step) {
        "create" => {
            let program = step.program().map(|it| format!(" of {it}")).unwrap_or_default();
            format!("{name}: create, {effects}{program}\n")
        }
        "unchanged" => format!("{name}: unchanged{}\n", again(&step.outcome)),
        word => format!("{name}: {word}, {effects}\n"),
    };
    for difference in step.differences() {
        text.push_str(&format!("    {difference}\n"));
    }
    for (by, differences) in &step.conflicts {
        text.push_str(&format!(
            "  conflict: {by} wrote another version at the same time, which does not count\n"
        ));
        differences.iter().for_each(|it| text.push_str(&format!("      {it}\n")));
    }
    if let Some(overtaken) = &step.overtaken {
        let by = overtaken.by.as_deref().unwrap_or("another operator");
        text.push_str(&format!(
            "  {by} wrote it since {}: this overwrites that\n",
            overtaken.since
        ));
    }
    text
}

fn again(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Repeated(unheard) => format!(
            ", and is written again, since not all nodes confirm it: {}",
            unheard.join(", ")
        ),
        _ => String::new(),
    }
}

/// What happens to the workload.
fn word(step: &Step) -> &'static str {
    match (&step.current, &step.wanted) {
        (None, Some(_)) => "create",
        (Some(_), None) => "remove",
        (Some(old), Some(new)) if old != new => "change",
        _ => "unchanged",
    }
}

fn summary(steps: &[Step]) -> String {
    let count = |of: &str| steps.iter().filter(|step| word(step) == of).count();
    format!(
        "{} to create, {} to change, {} to remove, {} unchanged\n",
        count("create"),
        count("change"),
        count("remove"),
        count("unchanged")
    )
}

/// A step as JSON.
#[derive(Serialize)]
pub struct StepBody {
    name: String,
    action: &'static str,
    effects: Vec<String>,
    differences: Vec<DifferenceBody>,
    warnings: Vec<String>,
    conflicts: Vec<String>,
    overtaken_by: Option<String>,
}

#[derive(Serialize)]
struct DifferenceBody {
    field: String,
    from: Option<String>,
    to: Option<String>,
}

/// All steps as JSON.
pub fn plan_body(steps: &[Step]) -> Vec<StepBody> {
    let difference = |it: Difference| DifferenceBody { field: it.field, from: it.from, to: it.to };
    let one = |step: &Step| StepBody {
        name: crate::api::form::full_name(&step.name),
        action: word(step),
        effects: step.effects().iter().map(ToString::to_string).collect(),
        differences: step.differences().into_iter().map(difference).collect(),
        warnings: step.warnings.clone(),
        conflicts: step.conflicts.iter().map(|(by, _)| by.clone()).collect(),
        overtaken_by: step.overtaken.as_ref().and_then(|it| it.by.clone()),
    };
    steps.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::spec;
    use shoal_protocol::model::Spec;

    fn of(current: Option<Spec>, wanted: Option<Spec>) -> Step {
        let name = current.as_ref().or(wanted.as_ref()).unwrap().name.clone();
        let outcome = Outcome::Unchanged;
        let (warnings, conflicts) = (Vec::new(), Vec::new());
        Step { name, current, wanted, outcome, warnings, conflicts, overtaken: None }
    }

    /// Each kind of step, and what is told of it before it is done.
    #[test]
    fn plan_tells_each_step_and_their_number() {
        let web = |replicas| Some(spec("shop/web", replicas));
        let mut again = of(web(1), web(1));
        again.outcome = Outcome::Repeated(vec!["n2".into()]);
        let mut torn = of(web(2), web(4));
        torn.conflicts.push(("bob (key ab)".into(), Vec::new()));
        let steps = [of(None, web(2)), torn, of(web(1), web(1)), again, of(web(3), None)];
        let text = plan(&steps);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("shop/web: create, starts 2 replicas of "), "{text}");
        assert_eq!(
            lines[1..],
            [
                "shop/web: change, scales 2 to 4",
                "    replicas 2 -> 4",
                "  conflict: bob (key ab) wrote another version at the same time, which does not \
                 count",
                "shop/web: unchanged",
                "shop/web: unchanged, and is written again, since not all nodes confirm it: n2",
                "shop/web: remove, 3 replicas stop",
                "1 to create, 1 to change, 1 to remove, 2 unchanged",
            ]
        );
        assert_eq!(plan_body(&steps)[1].action, "change");
    }
}
