//! The driver's loop.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::model::Time;
use shoal_protocol::node::{Input, Node};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

use crate::network::Inbox;
use crate::store::StoreAnswer;

use super::clock::{self, Alarm};
use super::effects::Effects;
use super::handle::{Ends, Notice, Request};

/// A timer that rings this late is ordinary on a busy device. The core is told of longer delays, so
/// that it does not blame other nodes.
const LATE: Duration = Duration::from_millis(50);
/// The core gets the wall clock at most this often, and only when the loop wakes anyway.
const WALL_CLOCK_EVERY: Duration = Duration::from_secs(10);
/// How long the disk may take to write what is left when the node stops.
const LAST_WRITES: Duration = Duration::from_secs(3);

/// Inputs of each kind, besides the urgent ones, that one turn of the loop takes, so that no kind
/// starves.
const PER_TURN: usize = 16;

/// Why the driver ended.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum DriverError {
    #[error("the network's task ended: this is a fault of shoal's, start the daemon again")]
    NetworkGone,
    #[error("the system's timer failed: {0}")]
    Timer(#[from] io::Error),
}

/// The event that woke the loop.
enum Woken {
    Timer,
    Store(StoreAnswer),
    Urgent(Input),
    /// From the gossip or the bulk inbox.
    Later(Input),
    Notice(Notice),
    Request(Request),
    /// [`LAST_WRITES`] is over, and not all is on disk.
    WritesLate,
}

/// The node is stopping: the loop runs until the network has stopped, so that requests under way
/// can end.
struct Leaving {
    /// The caller of the stop, until all pending writes are on disk.
    caller: Option<oneshot::Sender<()>>,
    last_writes: Pin<Box<Sleep>>,
}

pub(super) struct Driver {
    node: Node,
    // Declared before `effects`: dropping that joins the store's thread, which must not block on
    // this channel.
    answers: mpsc::Receiver<StoreAnswer>,
    effects: Effects,
    ends: Ends,
    inbox: Inbox,
    alarm: Alarm,
    wall_clock_at: Time,
    /// The version of the routes that were published last.
    routes: Option<u64>,
    leaving: Option<Leaving>,
}

impl Driver {
    pub(super) fn new(
        node: Node,
        effects: Effects,
        answers: mpsc::Receiver<StoreAnswer>,
        ends: Ends,
        inbox: Inbox,
        alarm: Alarm,
        now: Time,
    ) -> Self {
        Driver {
            node,
            answers,
            effects,
            ends,
            inbox,
            alarm,
            wall_clock_at: now,
            routes: None,
            leaving: None,
        }
    }

    /// Runs until it was asked to stop and the network has stopped.
    pub(super) async fn run(mut self) -> Result<(), DriverError> {
        self.run_effects();
        loop {
            self.publish();
            let due = self.node.poll_timeout().map(|(at, _)| at);
            self.alarm.set(due)?;
            let Some(woken) = self.wait().await? else { break };
            self.note_clocks(due);
            self.turn(woken);
            self.answer_stop(false);
        }
        if self.leaving.is_none() {
            return Err(DriverError::NetworkGone);
        }
        self.close().await;
        Ok(())
    }

    /// Waits for the next event; `None` when the network has stopped.
    async fn wait(&mut self) -> Result<Option<Woken>, DriverError> {
        let Driver { alarm, answers, inbox, ends, leaving, .. } = self;
        let last_writes = async {
            match leaving.as_mut().filter(|leaving| leaving.caller.is_some()) {
                Some(leaving) => leaving.last_writes.as_mut().await,
                None => std::future::pending().await,
            }
        };
        // In order of urgency. No kind starves, because `turn` polls all of them.
        let woken = tokio::select! {
            biased;
            rung = alarm.rings() => {
                rung?;
                Some(Woken::Timer)
            }
            Some(answer) = answers.recv() => Some(Woken::Store(answer)),
            input = inbox.urgent.recv() => input.map(Woken::Urgent),
            Some(request) = ends.requests.recv() => Some(Woken::Request(request)),
            Some(notice) = ends.notices.recv() => Some(Woken::Notice(notice)),
            input = inbox.gossip.recv() => input.map(Woken::Later),
            input = inbox.bulk.recv() => input.map(Woken::Later),
            () = last_writes => Some(Woken::WritesLate),
        };
        Ok(woken)
    }

    /// Tells the core how late it is called before any other input, so that it does not take its
    /// own delay for that of another node.
    fn note_clocks(&mut self, due: Option<Time>) {
        let now = clock::now();
        let late = due.map_or(Duration::ZERO, |due| now.since(due));
        if late > LATE {
            self.handle(Input::Lag(late));
        }
        if now.since(self.wall_clock_at) >= WALL_CLOCK_EVERY {
            self.wall_clock_at = now;
            self.handle(Input::WallClock(clock::wall()));
        }
    }

    /// Handles what woke the loop, all urgent inputs, some of the others, and the timers that are
    /// due.
    fn turn(&mut self, woken: Woken) {
        match woken {
            // Timers that are due are handled below.
            Woken::Timer => {}
            Woken::Store(answer) => self.on_store(answer),
            Woken::Urgent(input) => self.handle(input),
            Woken::Later(input) => self.handle_later(input),
            Woken::Notice(notice) => self.handle(notice.into()),
            Woken::Request(request) => self.on_request(request),
            Woken::WritesLate => {
                tracing::warn!(
                    "the disk is slow; what it has not written by now was not acknowledged either"
                );
                self.answer_stop(true);
            }
        }
        self.handle_urgent();
        for _ in 0..PER_TURN {
            let mut idle = true;
            if let Ok(answer) = self.answers.try_recv() {
                idle = false;
                self.on_store(answer);
            }
            if let Ok(request) = self.ends.requests.try_recv() {
                idle = false;
                self.on_request(request);
            }
            if let Ok(notice) = self.ends.notices.try_recv() {
                idle = false;
                self.handle(notice.into());
            }
            for input in
                [self.inbox.gossip.try_recv(), self.inbox.bulk.try_recv()].into_iter().flatten()
            {
                idle = false;
                self.handle_later(input);
            }
            if idle {
                break;
            }
        }
        let now = clock::now();
        if self.node.poll_timeout().is_some_and(|(at, _)| at <= now) {
            self.node.handle_timeout(now);
            self.run_effects();
        }
    }

    /// Handles the inputs that are in the urgent inbox when this begins.
    fn handle_urgent(&mut self) {
        for _ in 0..self.inbox.urgent.len() {
            let Ok(input) = self.inbox.urgent.try_recv() else { return };
            self.handle(input);
        }
    }

    /// Handles gossip or bulk after the urgent inbox, which may hold the link-up of the peer that
    /// sent it.
    fn handle_later(&mut self, input: Input) {
        self.handle_urgent();
        self.handle(input);
    }

    fn handle(&mut self, input: Input) {
        let from = match &input {
            Input::Message { from, .. } | Input::Gossip { from, .. } => Some(*from),
            _ => None,
        };
        self.node.handle(clock::now(), input);
        while let Some(mut change) = self.node.poll_history() {
            if change.through.is_none() {
                change.heard_from = from.map(|from| self.node.node_name(&from));
            }
            self.ends.history.note(change);
        }
        self.run_effects();
    }

    /// Runs the node's effects until it has no more.
    fn run_effects(&mut self) {
        loop {
            self.effects.take(&mut self.node);
            match self.effects.next_input() {
                Some(input) => self.node.handle(clock::now(), input),
                None => return,
            }
        }
    }

    fn on_store(&mut self, answer: StoreAnswer) {
        if let Some((input, took)) = self.effects.on_store(answer) {
            if took > LATE {
                // A flash that stalls delays the whole device, so other nodes may look late for the
                // same reason.
                self.handle(Input::Lag(took));
            }
            self.handle(input);
        }
    }

    fn on_request(&mut self, request: Request) {
        match request {
            Request::Command { command, reply } => {
                if let Some(request) = self.effects.expect(reply) {
                    self.handle(Input::Command { request, command: *command });
                }
            }
            Request::Query(look) => look(&self.node),
            Request::Stop { back_in, done } => {
                let last_writes = Box::pin(tokio::time::sleep(LAST_WRITES));
                self.leaving = Some(Leaving { caller: Some(done), last_writes });
                self.handle(Input::Goodbye { back_in });
            }
        }
    }

    /// Answers the caller of the stop once all writes are on disk, or `anyway`.
    fn answer_stop(&mut self, anyway: bool) {
        if (anyway || self.effects.is_flushed())
            && let Some(caller) = self.leaving.as_mut().and_then(|leaving| leaving.caller.take())
        {
            // The caller may have given up.
            let _ = caller.send(());
        }
    }

    /// Publishes changed routes and the version of the views, once a turn.
    fn publish(&mut self) {
        let (version, routes) = self.node.routes();
        if self.routes != Some(version) {
            self.routes = Some(version);
            self.ends.routes.send_replace(Arc::new(routes.clone()));
        }
        let views = self.node.views_version();
        self.ends.changes.send_if_modified(|seen| std::mem::replace(seen, views) != views);
    }

    /// Waits for the last writes.
    async fn close(self) {
        let Driver { answers, effects, .. } = self;
        // The store's thread must not block on answers that are not taken any more.
        drop(answers);
        // Closing waits for the disk.
        if tokio::task::spawn_blocking(move || drop(effects)).await.is_err() {
            tracing::error!("the store could not be closed");
        }
    }
}

impl From<Notice> for Input {
    fn from(notice: Notice) -> Input {
        match notice {
            Notice::Report(report) => Input::Report(report),
            Notice::Measured(loads) => Input::Measured(loads),
            Notice::Wished(name) => Input::Wished(name),
            Notice::Facts(facts) => Input::Facts(facts),
            Notice::FactsNoted { is_warning, message } => Input::FactsNoted { is_warning, message },
            Notice::Received { artifact, from, took } => Input::Received { artifact, from, took },
            Notice::Fetched { digest, outcome } => Input::Fetched { digest, outcome },
        }
    }
}
