//! The measured quantities, for the table, the lines for programs and the plots.

use std::fmt::Write as _;

use super::measure::Figures;

/// A measured quantity.
pub struct Quantity {
    /// The name in lines for programs.
    pub name: &'static str,
    pub title: &'static str,
    pub unit: &'static str,
    /// Decimals in the table.
    pub decimals: usize,
}

const fn quantity(
    name: &'static str,
    title: &'static str,
    unit: &'static str,
    decimals: usize,
) -> Quantity {
    Quantity { name, title, unit, decimals }
}

/// All quantities, in the order of the table.
pub const QUANTITIES: &[Quantity] = &[
    quantity("rest_messages", "at rest, sent a node", "messages/s", 1),
    quantity("rest_bytes", "at rest, sent a node", "B/s", 0),
    quantity("rest_busiest", "at rest, the busiest node", "B/s", 0),
    quantity("churn_messages", "a node goes and returns every 2 s, sent a node", "messages/s", 1),
    quantity("churn_bytes", "a node goes and returns every 2 s, sent a node", "B/s", 0),
    quantity("news_50", "a change is at half of the nodes", "ms", 2),
    quantity("news_99", "a change is at 99 of 100 nodes", "ms", 2),
    quantity("news_100", "a change is at all nodes", "ms", 2),
    quantity("hops_50", "hops to half of the nodes", "", 0),
    quantity("hops_99", "hops to 99 of 100 nodes", "", 0),
    quantity("hops_100", "hops to all nodes", "", 0),
    quantity("news_copies", "copies of a change sent a node", "", 1),
    quantity("placement_messages", "auction messages a placement", "", 0),
    quantity("placement_time", "published until healthy", "ms", 0),
    quantity("kill_detected", "daemon killed: the first knows", "ms", 1),
    quantity("kill_known", "daemon killed: 99 of 100 know", "ms", 1),
    quantity("kill_failover", "daemon killed: all it ran is healthy elsewhere", "ms", 0),
    quantity("kill_return", "daemon started again: 99 of 100 know", "ms", 0),
    quantity("cut_detected", "device unplugged: the first knows", "ms", 0),
    quantity("cut_known", "device unplugged: 99 of 100 know", "ms", 0),
    quantity("cut_failover", "device unplugged: all it ran is healthy elsewhere", "ms", 0),
    quantity("cut_return", "device switched on again: 99 of 100 know", "ms", 0),
    quantity("keys_moved", "keys that move when a node goes, of one node's fair share", "", 2),
    quantity("balance", "keys of the busiest owner, of the average", "", 2),
    quantity("memory_alone", "memory of one node's core on a device", "KiB", 0),
    quantity("memory_shared", "memory of one node in the simulator", "KiB", 0),
];

/// A value as the table shows it.
fn shown(value: Option<f64>, decimals: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.decimals$}"))
}

/// The value of a quantity among some figures.
pub fn value(figures: &Figures, name: &str) -> Option<f64> {
    figures.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

/// The line of a size for programs.
pub fn json(nodes: usize, figures: &Figures) -> String {
    let values: serde_json::Map<String, serde_json::Value> = figures
        .iter()
        .map(|(name, value)| {
            ((*name).to_owned(), serde_json::json!((value * 1000.0).round() / 1000.0))
        })
        .collect();
    serde_json::json!({ "bench": "scale", "nodes": nodes, "figures": values }).to_string()
}

/// Parses a line that [`json`] made; none for any other line.
pub fn of_json(line: &str) -> Option<(usize, Figures)> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let values = line.get("figures")?;
    let known = QUANTITIES.iter().filter_map(|it| Some((it.name, values.get(it.name)?.as_f64()?)));
    Some((usize::try_from(line.get("nodes")?.as_u64()?).ok()?, known.collect()))
}

/// The table in Markdown: a row a quantity, a column a size.
pub fn table(all: &[(usize, Figures)]) -> String {
    let mut text = String::from("| nodes |  |");
    for (nodes, _) in all {
        let _ = write!(text, " {nodes} |");
    }
    text.push_str("\n| --- | --- |");
    all.iter().for_each(|_| text.push_str(" ---: |"));
    text.push('\n');
    for quantity in QUANTITIES {
        let _ = write!(text, "| {} | {} |", quantity.title, quantity.unit);
        for (_, figures) in all {
            let _ = write!(text, " {} |", shown(value(figures, quantity.name), quantity.decimals));
        }
        text.push('\n');
    }
    text
}

/// The table of repair: its bytes for each byte that was lacking.
pub fn differences(entries: usize, all: &[(usize, f64)]) -> String {
    let mut text = format!(
        "| entries of {entries} that differ | bytes of repair for each byte that was lacking |\n| \
            ---: | ---: |\n"
    );
    for (news, ratio) in all {
        let _ = writeln!(text, "| {news} | {ratio:.2} |");
    }
    text
}

/// The same as lines for programs.
pub fn differences_json(entries: usize, all: &[(usize, f64)]) -> String {
    let line = |(news, ratio): &(usize, f64)| {
        let ratio = (ratio * 1000.0).round() / 1000.0;
        let line = serde_json::json!({
            "bench": "scale-repair", "entries": entries, "differ": news, "ratio": ratio,
        });
        format!("{line}\n")
    };
    all.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmeasured_quantity_is_a_dash_in_the_table() {
        let all = vec![
            (10, vec![("rest_bytes", 64.97)]),
            (30, vec![("rest_bytes", 80.2), ("balance", 1.1)]),
        ];
        let table = table(&all);
        assert!(table.contains("| at rest, sent a node | B/s | 65 | 80 |"), "{table}");
        assert!(
            table.contains("| keys of the busiest owner, of the average |  | - | 1.10 |"),
            "{table}"
        );
        assert_eq!(table.lines().count(), QUANTITIES.len() + 2);
        assert_eq!(of_json(&json(30, &all[1].1)), Some(all[1].clone()));
        assert_eq!(
            json(30, &all[1].1),
            r#"{"bench":"scale","figures":{"balance":1.1,"rest_bytes":80.2},"nodes":30}"#
        );
    }
}
