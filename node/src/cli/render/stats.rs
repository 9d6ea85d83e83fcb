//! `stats`: a line for each replica that runs.

use std::collections::BTreeMap;

use shoal_protocol::model::spec::NO_CPU_LIMIT;
use shoal_protocol::model::view::WorkloadView;

use super::table::table;
use crate::api::form::UsageBody;
use crate::manifest::quantity::{show_cpu, show_size};

/// The table of two readings of all replicas. CPU is what was used between the two, in cores.
pub fn stats(
    views: &[WorkloadView],
    before: &BTreeMap<String, UsageBody>,
    now: &BTreeMap<String, UsageBody>,
) -> String {
    let replicas = views.iter().flat_map(|view| view.replicas.iter().map(move |it| (view, it)));
    let rows: Vec<Vec<String>> = replicas
        .filter_map(|(view, replica)| {
            let usage = now.get(&replica.replica)?;
            let earlier = before.get(&replica.replica).filter(|it| it.node == usage.node);
            let limit = view.limit.map_or((view.memory, view.cpu), |it| (it.memory, it.cpu));
            let percent = usage.memory.saturating_mul(100) / limit.0.max(1);
            Some(vec![
                replica.replica.clone(),
                replica.node_name.clone().unwrap_or_default(),
                earlier.and_then(|it| cores(it, usage)).unwrap_or_else(|| "-".into()),
                if limit.1 < NO_CPU_LIMIT { show_cpu(limit.1) } else { "-".into() },
                show_size(usage.memory),
                show_size(limit.0),
                format!("{percent} %"),
                usage.requests.to_string(),
                both(usage.network_in, usage.network_out),
                both(usage.disk_read, usage.disk_written),
            ])
        })
        .collect();
    if rows.is_empty() {
        let held = views.iter().flat_map(|view| &view.replicas).any(|it| it.node.is_some());
        return match held {
            true => {
                "No replica can be read now: its node or its container engine does not answer.\n"
            }
            false => "Nothing runs.\n",
        }
        .into();
    }
    let heads = [
        "REPLICA",
        "NODE",
        ">CPU",
        ">OF",
        ">MEMORY",
        ">OF",
        ">",
        ">REQUESTS",
        "NET I/O",
        "BLOCK I/O",
    ];
    table(&heads, &rows)
}

/// Bytes since the start in both directions, as docker shows them: in, and out.
fn both(input: Option<u64>, output: Option<u64>) -> String {
    match (input, output) {
        (Some(input), Some(output)) => format!("{} / {}", show_size(input), show_size(output)),
        _ => "--".into(),
    }
}

/// The cores that were used between two readings; none if the clock or the count went back.
fn cores(before: &UsageBody, now: &UsageBody) -> Option<String> {
    let passed = now.at_ms.checked_sub(before.at_ms).filter(|millis| *millis > 0)?;
    let used = now.cpu_ms.checked_sub(before.cpu_ms)?;
    let thousandths = used.saturating_mul(1_000) / passed;
    Some(show_cpu(u32::try_from(thousandths).unwrap_or(u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fakes::{replica_view, workload_view};

    fn reading(node: &str, at_ms: u64, cpu_ms: u64) -> UsageBody {
        UsageBody {
            node: node.into(),
            at_ms,
            memory: 16 << 20,
            cpu_ms,
            throttled_ms: 0,
            requests: 2,
            network_in: None,
            network_out: None,
            disk_read: None,
            disk_written: None,
        }
    }

    /// An engine may count the one and not the other.
    #[test]
    fn stats_show_the_bytes_that_the_engine_counts() {
        let views = [workload_view("web", vec![replica_view("web/0", "healthy", Some("n1"))])];
        let counted = |at_ms| UsageBody {
            network_in: Some(1536),
            network_out: Some(0),
            ..reading("a", at_ms, 0)
        };
        let of = |at_ms| BTreeMap::from([("web/0".to_owned(), counted(at_ms))]);
        let shown = stats(&views, &of(0), &of(1_000));
        assert!(shown.trim_end().ends_with("1.5 KiB / 0 B  --"), "{shown}");
    }

    /// The use of CPU is that of the second between the readings; of a replica that moved meanwhile
    /// it is not known.
    #[test]
    fn stats_show_the_use_between_two_readings() {
        let replicas = ["web/0", "web/1", "web/2"];
        let replicas = replicas.map(|name| replica_view(name, "healthy", Some("n1"))).to_vec();
        let views = [workload_view("web", replicas)];
        let before = [("web/0", "a"), ("web/1", "a")];
        let before = before.map(|(name, node)| (name.to_owned(), reading(node, 1_000, 500)));
        let now = [("web/0", "a"), ("web/1", "b")];
        let now = now.map(|(name, node)| (name.to_owned(), reading(node, 3_000, 600)));
        assert_eq!(
            stats(&views, &before.into(), &now.into()),
            "REPLICA  NODE   CPU   OF  MEMORY      OF        REQUESTS  NET I/O  BLOCK I/O\n\
             web/0    n1    0.05  0.1  16 MiB  64 MiB  25 %         2  --       --\n\
             web/1    n1       -  0.1  16 MiB  64 MiB  25 %         2  --       --\n"
        );
        assert_eq!(stats(&[], &BTreeMap::new(), &BTreeMap::new()), "Nothing runs.\n");
    }
}
