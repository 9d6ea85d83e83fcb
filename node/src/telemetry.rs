//! Metrics for machines, and the log on standard error.

use std::fmt::Write;

use shoal_protocol::model::view::StatusView;
use tracing_subscriber::EnvFilter;

/// The variable that sets the log level, or filters as `tracing` knows them
/// (`info,shoal::network=debug`).
pub const LOG_VARIABLE: &str = "SHOAL_LOG";

/// The default filter: events of this node, and warnings of others. gossipsub warns of ordinary
/// events, such as a message that arrives a second time.
const DEFAULT: &str = "warn,libp2p_gossipsub=error,shoal=info";

/// Sends this process's log to standard error, by default with warnings and events of the node.
/// Does nothing when the host program has set up a log of its own.
pub fn log_to_stderr() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let set = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .try_init();
    // An error means that a log is set up already, which then counts.
    drop(set);
}

/// The node's metrics in the text format of Prometheus.
pub fn metrics(status: &StatusView) -> String {
    let mut text = String::new();
    let gauges: [(&str, &str, u64); 8] = [
        ("ready", "Whether this node knows enough to own workloads.", u64::from(status.ready)),
        (
            "read_only",
            "Whether this node takes no writes because its disk takes none.",
            u64::from(status.read_only.is_some()),
        ),
        ("nodes", "Members of the cluster.", status.nodes as u64),
        ("nodes_up", "Members held to be up.", status.nodes_up as u64),
        ("links", "Links to other nodes.", status.links as u64),
        ("workloads", "Desired workloads.", status.workloads as u64),
        ("replicas", "Desired replicas.", status.replicas),
        ("replicas_healthy", "Replicas healthy.", status.healthy),
    ];
    for (name, help, value) in gauges {
        metric(&mut text, name, help, "gauge", value);
    }
    for (name, value) in &status.counters {
        // Counter names are the program's own; characters that Prometheus does not allow become
        // underscores.
        let name: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        metric(
            &mut text,
            &format!("{name}_total"),
            "Since the start of this node.",
            "counter",
            *value,
        );
    }
    text
}

fn metric(text: &mut String, name: &str, help: &str, kind: &str, value: u64) {
    writeln!(text, "# HELP shoal_{name} {help}\n# TYPE shoal_{name} {kind}\nshoal_{name} {value}")
        .expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Characters that Prometheus does not allow in names are replaced.
    #[test]
    fn metrics_are_in_the_prometheus_text_format() {
        let status = StatusView {
            cluster: String::new(),
            node: String::new(),
            name: "n1".into(),
            ready: true,
            nodes_up: 2,
            nodes: 3,
            links: 1,
            workloads: 1,
            replicas: 2,
            healthy: 1,
            read_only: None,
            warnings: vec![],
            counters: [("net-bytes.sent".to_owned(), 7)].into(),
            roots: [].into(),
        };
        let text = metrics(&status);
        assert!(text.contains("# TYPE shoal_nodes_up gauge\nshoal_nodes_up 2\n"), "{text}");
        assert!(
            text.ends_with(
                "# TYPE shoal_net_bytes_sent_total counter\nshoal_net_bytes_sent_total 7\n"
            ),
            "{text}"
        );
        assert!(text.lines().all(|line| line.starts_with("# ") || line.split(' ').count() == 2));
    }
}
