//! The forms that Compose asks for, whatever a lenient reader could make of others: a text that is
//! no plain number, a list that is no single text. **A file that is refused elsewhere is refused
//! here**, so that it means the same to everybody who runs it.

use super::super::tree::{Problem, Tree};
use super::super::verdict::Judged;
use super::values;

/// Fields of a service that are texts.
const TEXTS: [&str; 26] = [
    "cgroup",
    "cgroup_parent",
    "container_name",
    "cpuset",
    "domainname",
    "hostname",
    "image",
    "ipc",
    "isolation",
    "mac_address",
    "network_mode",
    "pid",
    "platform",
    "pull_policy",
    "restart",
    "runtime",
    "stop_signal",
    "user",
    "userns_mode",
    "uts",
    "working_dir",
    "deploy.endpoint_mode",
    "deploy.mode",
    "deploy.resources.limits.memory",
    "deploy.resources.reservations.memory",
    "logging.driver",
];
/// Fields of a service that are lists, never a single item without brackets.
const LISTS: [&str; 16] = [
    "cap_add",
    "cap_drop",
    "configs",
    "deploy.placement.constraints",
    "device_cgroup_rules",
    "devices",
    "dns_opt",
    "expose",
    "external_links",
    "links",
    "ports",
    "profiles",
    "secrets",
    "security_opt",
    "volumes",
    "volumes_from",
];
/// Lists whose items are texts; the first two may be one text.
const OF_TEXTS: [&str; 12] = [
    "command",
    "entrypoint",
    "cap_add",
    "cap_drop",
    "deploy.placement.constraints",
    "dns",
    "dns_search",
    "links",
    "profiles",
    "security_opt",
    "tmpfs",
    "healthcheck.test",
];

/// Refuses other forms in the services, and in the file itself.
pub(super) fn check(tree: &Tree, judged: &mut Judged) {
    if let Some(name) = tree.get("name") {
        text(name, "name".into(), judged);
    }
    let services = tree.get("services").and_then(Tree::as_map).unwrap_or_default();
    for entry in services {
        let find = |field: &str| {
            let path: Vec<&str> = field.split('.').collect();
            let found = entry.value.at_path(&path).filter(|it| !it.is_null())?;
            Some((found, format!("services.{}.{field}", entry.key)))
        };
        for (found, field) in TEXTS.iter().filter_map(|it| find(it)) {
            text(found, field, judged);
        }
        for (found, field) in LISTS.iter().filter_map(|it| find(it)) {
            if found.as_text().is_some() {
                let why = "a list is expected: write it in [ ]";
                judged.refuse(Problem::new(found.at, why).field(field));
            }
        }
        for (found, field) in OF_TEXTS.iter().filter_map(|it| find(it)) {
            for (index, item) in found.as_list().unwrap_or_default().iter().enumerate() {
                text(item, format!("{field}[{index}]"), judged);
            }
        }
        if let (Some(_), Some((tree, field))) = (find("network_mode"), find("networks")) {
            let why = "`network_mode` says where it is: leave one of the two out";
            judged.refuse(Problem::new(tree.at, why).field(field));
        }
    }
}

/// A plain number or bool is no text.
fn text(tree: &Tree, field: String, judged: &mut Judged) {
    let Some(scalar) = tree.as_scalar() else { return };
    let is_bool = ["true", "false"].iter().any(|it| scalar.text.eq_ignore_ascii_case(it));
    if scalar.is_plain && (is_bool || values::number(&scalar.text).is_some()) {
        let why = format!("a text is expected: write \"{}\", in quotes", scalar.text);
        judged.refuse(Problem::new(tree.at, why).field(field));
    }
}
