//! `shoal quota ls`.

use shoal_protocol::model::view::QuotaView;

use super::table;
use crate::manifest::quantity::show_size;

/// A line per namespace: what its workloads want of what they may have.
pub fn quotas(views: &[QuotaView]) -> String {
    let rows: Vec<Vec<String>> = views.iter().map(row).collect();
    table::table(&["NAMESPACE", "REPLICAS", "MEMORY", "CPU"], &rows)
}

fn row(it: &QuotaView) -> Vec<String> {
    let of = |wanted: String, limit: Option<String>| match limit {
        Some(limit) => format!("{wanted} / {limit}"),
        None => format!("{wanted} / -"),
    };
    let cores = |thousandths: u64| format!("{}.{:03}", thousandths / 1_000, thousandths % 1_000);
    vec![
        it.namespace.clone(),
        of(it.wanted_replicas.to_string(), it.replicas.map(|it| it.to_string())),
        of(show_size(it.wanted_memory), it.memory.map(show_size)),
        of(cores(it.wanted_cpu), it.cpu.map(cores)),
    ]
}
