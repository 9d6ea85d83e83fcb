//! The progress of each replica, in lines for people.

use std::collections::BTreeMap;
use std::time::Duration;

use shoal_protocol::model::Spec;
use shoal_protocol::model::view::{ReplacementView, ReplicaView, WorkloadView};
use tokio::time::Instant;

use crate::cli::out::{self, LiveLines};
use crate::cli::render::seconds;

/// Restarts on one node after which a replica counts as failed: the next would most likely fail,
/// too.
pub(super) const FAILED_AFTER: u32 = 3;
/// Replicas shown one by one: more do not fit on a screen. Of more replicas only those that fail
/// are, up to this number; the others are counted by their states.
const SHOWN: usize = 20;
/// Replicas that stop at a time from which on they are only counted.
const MANY_STOPPING: usize = 4;
/// The least time between two lines of counts.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// The progress of each replica.
pub(super) struct Progress {
    generation: String,
    desired: u32,
    /// Its spec says how many it has; else the view does.
    is_counted: bool,
    pub since: Instant,
    rows: BTreeMap<String, Row>,
    /// The last failure of each replica: it may move on, and the reason with it.
    failures: BTreeMap<String, Failure>,
    /// The last lines of the replica that failed last, where an update is rolled back: then its
    /// log is that of the version before.
    log: Vec<String>,
    /// The failure for which they were read.
    logged: Option<(String, u32)>,
    live: LiveLines,
    /// Whether the lines are redrawn in place.
    pub drawn: bool,
    /// Lines of failures among many replicas that were printed.
    told_failures: usize,
    counted: Option<(Instant, String)>,
}

pub(super) struct Row {
    pub view: ReplicaView,
    /// Time from the start until this state was seen.
    pub at: Duration,
}

/// A failure of a replica.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Failure {
    pub reason: String,
    pub node: Option<String>,
}

impl Progress {
    pub fn new(spec: &Spec, drawn: bool) -> Self {
        Progress {
            generation: spec.revision().to_string(),
            desired: spec.replicas(),
            is_counted: spec.fixed_replicas().is_some(),
            since: Instant::now(),
            rows: BTreeMap::new(),
            failures: BTreeMap::new(),
            log: Vec::new(),
            logged: None,
            live: LiveLines::default(),
            drawn,
            told_failures: 0,
            counted: None,
        }
    }

    /// Applies a view; with `print`, prints what is new in it.
    pub fn update(&mut self, view: &WorkloadView, print: bool) {
        if !self.is_counted {
            self.desired = view.desired;
        }
        // A view of the previous spec is no progress.
        if view.generation != self.generation || view.desired != self.desired {
            return;
        }
        let elapsed = self.since.elapsed();
        let news = self.apply(view, elapsed);
        if self.drawn {
            self.draw();
        } else if print {
            self.news_lines(&news, elapsed).iter().for_each(|line| out::complain(line));
        }
    }

    /// Takes over a view. Returns the replicas that changed.
    fn apply(&mut self, view: &WorkloadView, elapsed: Duration) -> Vec<String> {
        let mut best: BTreeMap<&str, &ReplicaView> = BTreeMap::new();
        for replica in &view.replicas {
            let place = best.entry(&replica.replica).or_insert(replica);
            if is_healthy(replica) {
                *place = replica;
            }
        }
        self.rows.retain(|name, _| best.contains_key(name.as_str()));
        let mut news = Vec::new();
        for (name, replica) in best {
            if let (State { word: FAILING, reason: Some(reason) }, node) =
                (state(replica), &replica.node_name)
            {
                let failure = Failure { reason: reason.to_owned(), node: node.clone() };
                self.failures.insert(name.to_owned(), failure);
            }
            let same = self.rows.get(name).is_some_and(|row| {
                state(&row.view) == state(replica) && row.view.node == replica.node
            });
            if !same {
                let row = Row { view: replica.clone(), at: elapsed };
                news.push(name.to_owned());
                self.rows.insert(name.to_owned(), row);
            }
        }
        news
    }

    /// The lines for replicas that changed.
    pub(super) fn news_lines(&mut self, news: &[String], elapsed: Duration) -> Vec<String> {
        let rows = news.iter().filter_map(|name| self.rows.get(name));
        if self.rows.len() <= SHOWN {
            let is_stopping = |row: &&Row| state(&row.view).word == STOPPING;
            let stopping = rows.clone().filter(is_stopping).count();
            if stopping < MANY_STOPPING {
                return rows.map(|row| text(row, elapsed)).collect();
            }
            let others = rows.filter(|row| !is_stopping(row)).map(|row| text(row, elapsed));
            let count = format!("· {stopping} {STOPPING}  {}", seconds(elapsed));
            return others.chain([count]).collect();
        }
        let room = SHOWN.saturating_sub(self.told_failures);
        let fails = rows.filter(|row| state(&row.view).word == FAILING).take(room);
        let mut lines: Vec<String> = fails.map(|row| text(row, elapsed)).collect();
        self.told_failures += lines.len();
        let counts = self.counts();
        let is_due = self.counted.as_ref().is_none_or(|(at, last)| {
            *last != counts && (at.elapsed() >= COUNT_EVERY || self.is_all_healthy())
        });
        if is_due {
            lines.push(format!("{counts}  {}", seconds(elapsed)));
            self.counted = Some((Instant::now(), counts));
        }
        lines
    }

    pub fn draw(&mut self) {
        let elapsed = self.since.elapsed();
        let lines: Vec<String> = if self.rows.len() <= SHOWN {
            self.rows.values().map(|row| text(row, elapsed)).collect()
        } else {
            let fails = self.rows.values().filter(|row| state(&row.view).word == FAILING);
            let fails = fails.take(SHOWN).map(|row| text(row, elapsed));
            fails.chain([format!("{}  {}", self.counts(), seconds(elapsed))]).collect()
        };
        self.live.draw(&lines);
    }

    /// The replicas by state: `· 3 of 100 healthy, 90 starting, 7 missing`.
    fn counts(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for row in self.rows.values() {
            *counts.entry(state(&row.view).word).or_default() += 1;
        }
        let healthy = counts.remove(HEALTHY).unwrap_or(0);
        let others: String =
            counts.iter().map(|(word, count)| format!(", {count} {word}")).collect();
        let mark = if self.is_all_healthy() { "✓" } else { "·" };
        format!("{mark} {healthy} of {} healthy{others}", self.desired)
    }

    fn is_all_healthy(&self) -> bool {
        self.rows.values().all(|row| is_healthy(&row.view))
    }

    /// Whether the wanted replicas run, and no others.
    pub fn runs(&self, view: &WorkloadView) -> bool {
        view.generation == self.generation
            && view.desired == self.desired
            && view.healthy >= view.desired
            // Replicas of a dead node are shown as lost until the node is back; they do not run.
            && view.replicas.iter().all(|replica| is_healthy(replica) || replica.phase == "lost")
    }

    /// A replica that has failed too often in the wanted version, with its number of tries. Those
    /// of a version that is to be replaced do not count.
    pub fn failed<'a>(&self, view: &'a WorkloadView) -> Option<(&'a ReplicaView, u32)> {
        let current = view.generation == self.generation;
        view.replicas.iter().filter(|_| current).find_map(|replica| {
            let (phase, restarts) = match &replica.replacement {
                Some(replacement) => (&replacement.phase, replacement.restarts),
                None if replica.current => (&replica.phase, replica.restarts),
                None => return None,
            };
            (phase == FAILING && restarts >= FAILED_AFTER).then_some((replica, restarts))
        })
    }

    /// A replica that has failed in the wanted version since this was asked last.
    pub fn fails_anew(&mut self, view: &WorkloadView) -> Option<String> {
        let current = view.generation == self.generation;
        let found = view.replicas.iter().filter(|_| current).find_map(|replica| {
            let (phase, restarts) = match &replica.replacement {
                Some(replacement) => (&replacement.phase, replacement.restarts),
                None if replica.current => (&replica.phase, replica.restarts),
                None => return None,
            };
            (phase == FAILING).then(|| (replica.replica.clone(), restarts))
        })?;
        if self.logged.as_ref() == Some(&found) {
            return None;
        }
        self.logged = Some(found.clone());
        Some(found.0)
    }

    /// Keeps the last lines of a replica that failed.
    pub fn note_log(&mut self, lines: Vec<String>) {
        if !lines.is_empty() {
            self.log = lines;
        }
    }

    /// The last lines of the replica that failed last.
    pub fn log_lines(&self) -> &[String] {
        &self.log
    }

    /// Any failure that was seen, with its replica.
    pub fn any_failure(&self) -> Option<(&String, &Failure)> {
        self.failures.iter().next()
    }

    /// The replica that holds the wait up most, with the number of others that are not healthy.
    pub fn worst(&self) -> Option<(&Row, usize)> {
        let open = || self.rows.values().filter(|row| !is_healthy(&row.view));
        let rank = |row: &&Row| match state(&row.view).word {
            FAILING => 0,
            MISSING => 1,
            _ => 2,
        };
        Some((open().min_by_key(rank)?, open().count() - 1))
    }

    /// The last failure of a replica that was seen.
    pub fn last_failure(&self, replica: &str) -> Option<&Failure> {
        self.failures.get(replica)
    }

    #[cfg(test)]
    pub fn lines(&self, elapsed: Duration) -> Vec<String> {
        self.rows.values().map(|row| text(row, elapsed)).collect()
    }

    #[cfg(test)]
    pub fn take(&mut self, view: &WorkloadView) -> Vec<String> {
        let news = self.apply(view, Duration::from_millis(1200));
        self.news_lines(&news, Duration::from_millis(1200))
    }
}

pub(super) const HEALTHY: &str = "healthy";
pub(super) const FAILING: &str = "failing";
pub(super) const MISSING: &str = "missing";
const STOPPING: &str = "stopping";
pub(super) const TO_UPDATE: &str = "to be updated";

pub(super) fn is_healthy(replica: &ReplicaView) -> bool {
    replica.phase == HEALTHY && replica.current
}

/// The state of a replica, as far as the wanted version is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct State<'a> {
    pub word: &'a str,
    pub reason: Option<&'a str>,
}

pub(super) fn state(view: &ReplicaView) -> State<'_> {
    let is_old = !view.current && view.node.is_some();
    match (&view.replacement, view.phase.as_str()) {
        (Some(ReplacementView { phase, reason, .. }), _) => {
            let word = if phase == FAILING { FAILING } else { "updating" };
            State { word, reason: reason.as_deref() }
        }
        // An old version, whatever it does: its holder has not begun with the new one.
        (None, HEALTHY | "starting" | "not-ready" | FAILING) if is_old => {
            State { word: TO_UPDATE, reason: None }
        }
        (None, phase) => State { word: phase, reason: view.reason.as_deref() },
    }
}

fn text(row: &Row, elapsed: Duration) -> String {
    let ReplicaView { replica, node_name, .. } = &row.view;
    let State { word, reason } = state(&row.view);
    let (mark, at) = match word {
        _ if is_healthy(&row.view) => ("✓", row.at),
        FAILING => ("✗", elapsed),
        _ => ("·", elapsed),
    };
    let node = node_name.as_ref().map(|node| format!(" on {node}")).unwrap_or_default();
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{mark} {replica} {word}{node}{reason}  {}", seconds(at))
}
