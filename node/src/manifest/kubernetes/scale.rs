//! The numbers of replicas that follow from load.

use std::time::Duration;

use shoal_protocol::model::nearest::did_you_mean;
use shoal_protocol::model::spec::{Autoscale, Kind, MIN_DOWN};

use super::super::verdict::Judged;
use super::objects::Object;
use super::scalar::Part;
use super::workloads::Draft;

/// Percent of CPU where an object names no metric, as in Kubernetes.
const DEFAULT_CPU: u32 = 80;

/// Adds the scaling of each HorizontalPodAutoscaler to its target.
pub(super) fn scale(objects: &[Object], drafts: &mut [Draft], all: &mut Judged) {
    for object in objects.iter().filter(|it| it.kind == "HorizontalPodAutoscaler") {
        let mut out = Judged::default();
        one(object, drafts, &mut out);
        object.tell(out, all);
    }
}

fn one(object: &Object, drafts: &mut [Draft], out: &mut Judged) {
    let root = object.root();
    let spec = root.get("spec");
    let target = spec.get("scaleTargetRef");
    let (kind, name) = (target.get("kind"), target.get("name"));
    let (Some(kind_word), Some(named)) = (kind.text(out), name.text(out)) else {
        return out.refuse(target.wrong("`kind` and `name` are expected"));
    };
    if kind_word != "Deployment" {
        let problem = kind.wrong(format!("a {kind_word} is not scaled by load: a service is"));
        return out.refuse(problem.hint("Scale it by hand, with `shoal scale`."));
    }
    let shown = format!("Deployment/{named}");
    let here = |draft: &&mut Draft| draft.name.namespace == object.namespace;
    let names: Vec<String> = drafts.iter().map(|it| it.shown.clone()).collect();
    let Some(draft) = drafts.iter_mut().filter(here).find(|it| it.shown == shown) else {
        let problem = name.wrong(format!("{shown} is not in these files"));
        return out.refuse(match did_you_mean(&shown, names.iter().map(String::as_str)) {
            Some(hint) => problem.hint(hint),
            None => problem.hint("Publish it together with them."),
        });
    };
    if draft.autoscale.is_some() {
        return out.refuse(name.wrong(format!("{shown} is scaled by another one already")));
    }
    let most = spec.get("maxReplicas");
    if !most.is_there() {
        out.refuse(most.wrong("it is missing"));
    }
    let Some(max) = most.count(out) else { return };
    let default = Autoscale::default();
    let mut scale = Autoscale {
        min: spec.get("minReplicas").count(out).unwrap_or(default.min),
        max,
        ..default
    };
    scale.cpu = spec.get("targetCPUUtilizationPercentage").count(out);
    for metric in spec.get("metrics").items(out) {
        self::metric(&metric, draft, &mut scale, out);
    }
    if scale.cpu.is_none() && scale.memory.is_none() {
        scale.cpu = Some(DEFAULT_CPU);
    }
    let window = |of: &str, out: &mut Judged| {
        let part = spec.at(&["behavior", of, "stabilizationWindowSeconds"]);
        part.count(out).map(|it| (part, Duration::from_secs(it.into())))
    };
    if let Some((_, time)) = window("scaleUp", out) {
        scale.up = time;
    }
    if let Some((part, time)) = window("scaleDown", out) {
        if time < MIN_DOWN {
            out.degrade(part.at, part.path, "taken as 10s, which is the least here");
        }
        scale.down = time.max(MIN_DOWN);
    }
    if draft.request("cpu").is_none() && scale.cpu.is_some() {
        let text = "the container requests no CPU: percents are those of 0.1, which is reserved";
        out.degrade(target.at, target.path.clone(), text);
    }
    if let Kind::Service { replicas } = &mut draft.kind
        && scale.min <= scale.max
    {
        *replicas = (*replicas).clamp(scale.min, scale.max);
    }
    draft.autoscale = Some(scale);
}

fn metric(part: &Part<'_>, draft: &Draft, scale: &mut Autoscale, out: &mut Judged) {
    let kind = part.get("type");
    if kind.text(out).is_none_or(|it| it != "Resource") {
        // The table refuses the others by their fields.
        return;
    }
    let resource = part.get("resource");
    let name = resource.get("name");
    let Some(named) = name.text(out) else { return };
    let target = resource.get("target");
    let percent = target.get("averageUtilization").count(out);
    let value = target.get("averageValue");
    let percent = match (percent, value.quantity(out)) {
        (Some(percent), _) => Some(percent),
        (None, Some(wanted)) => match draft.request(&named) {
            Some(request) if request.millis() > 0 => {
                let whole = |it: super::quantity::Quantity| match named.as_str() {
                    "cpu" => u64::from(it.millis()),
                    _ => it.bytes(),
                };
                u32::try_from(whole(wanted).saturating_mul(100) / whole(request).max(1)).ok()
            }
            _ => {
                let problem = value.wrong(format!("the container requests no {named}"));
                out.refuse(problem.hint("Write the request, or `averageUtilization`."));
                return;
            }
        },
        (None, None) => {
            let problem = target.wrong("`averageUtilization` or `averageValue` is expected");
            return out.refuse(problem);
        }
    };
    match named.as_str() {
        "cpu" => scale.cpu = percent,
        "memory" => scale.memory = percent,
        other => {
            let problem = name.wrong(format!("`{other}` is not measured"));
            out.refuse(problem.hint("CPU and memory are: `cpu`, `memory`."));
        }
    }
}
