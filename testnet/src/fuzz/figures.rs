//! The figures of a run of libFuzzer, for people and for programs.

use serde::Serialize;

/// The end of a run of one target.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Figures {
    bench: &'static str,
    /// The target's name.
    #[serde(rename = "case")]
    pub target: String,
    /// Inputs that were tried.
    pub executions: u64,
    per_second: u64,
    /// Places in the compiled code that were reached.
    edges: u64,
    /// Inputs that each reach something of their own.
    corpus: u64,
    peak_rss_mb: u64,
    pub crashes: u64,
}

impl Figures {
    pub const HEAD: &str =
        "target         executions     a second      edges     corpus    peak MB  crashes";

    /// Reads the log of a run.
    pub fn read(target: &str, log: &str, ended_well: bool) -> Figures {
        let stat = |name: &str| {
            let line = log.lines().rev().find_map(|line| line.trim().strip_prefix(name));
            line.and_then(|rest| rest.trim().parse().ok()).unwrap_or_default()
        };
        // `#4096 NEW    cov: 10 ft: 12 corp: 3/9b lim: 4 exec/s: 512 rss: 40Mb ..`
        let progress = |name: &str| {
            let mut lines = log.lines().rev().filter(|line| line.starts_with('#'));
            lines.find_map(|line| {
                let rest = line.split_once(name)?.1;
                rest.trim_start().split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
            })
        };
        Figures {
            bench: "fuzz",
            target: target.to_owned(),
            executions: stat("stat::number_of_executed_units:"),
            per_second: stat("stat::average_exec_per_sec:"),
            edges: progress("cov:").unwrap_or_default(),
            corpus: progress("corp:").unwrap_or_default(),
            peak_rss_mb: stat("stat::peak_rss_mb:"),
            crashes: u64::from(!ended_well),
        }
    }

    pub fn row(&self) -> String {
        let Figures { target, executions, per_second, edges, corpus, peak_rss_mb, crashes, .. } =
            self;
        format!(
            "{target:<12} {executions:>12} {per_second:>12} {edges:>10} {corpus:>10} \
             {peak_rss_mb:>10} {crashes:>8}"
        )
    }

    /// A line for programs.
    pub fn json(&self) -> String {
        serde_json::to_string(self).expect("words and numbers are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_the_log_of_a_run() {
        let log = "INFO: seed corpus: files: 5\n\
            #6\tINITED cov: 73 ft: 74 corp: 3/30b exec/s: 0 rss: 40Mb\n\
            #4096\tNEW    cov: 110 ft: 112 corp: 7/9b lim: 4 exec/s: 512 rss: 40Mb\n\
            #9000\tDONE   cov: 120 ft: 130 corp: 8/99b lim: 4 exec/s: 512 rss: 41Mb\n\
            stat::number_of_executed_units: 9001\nstat::average_exec_per_sec:     450\n\
            stat::peak_rss_mb:              41\n";
        let figures = Figures::read("wire", log, true);
        assert_eq!(
            figures.json(),
            concat!(
                r#"{"bench":"fuzz","case":"wire","executions":9001,"per_second":450,"#,
                r#""edges":120,"corpus":8,"peak_rss_mb":41,"crashes":0}"#
            )
        );
        assert_eq!(figures.row().len(), Figures::HEAD.len());
        assert_eq!(Figures::read("wire", "panicked", false).crashes, 1);
    }
}
