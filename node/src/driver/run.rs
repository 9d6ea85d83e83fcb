//! The loop.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use shoal_protocol::model::Time;
use shoal_protocol::node::{Input, Node};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Sleep;

use crate::network::Inbox;
use crate::store::Answer;

use super::clock::{self, Alarm};
use super::effects::Effects;
use super::handle::{Ends, Notice, Request};

/// Being called this much later than asked is ordinary on a busy device; more is told to the core,
/// before it blames others.
const LATE: Duration = Duration::from_millis(50);
/// The device's clock is told no more often than that, and only when something happens anyway: at
/// rest nobody needs it.
const WALL_CLOCK_EVERY: Duration = Duration::from_secs(10);
/// How long the disk may take to write what is left when the node stops.
const LAST_WRITES: Duration = Duration::from_secs(3);

/// How many of each kind besides the urgent are taken in a turn, so that none starves.
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

/// What woke the loop.
enum Woken {
    Timer,
    Store(Answer),
    Urgent(Input),
    /// Gossip and bulk.
    Later(Input),
    Notice(Notice),
    Request(Request),
    /// The disk takes long with what is left to write.
    WritesLate,
}

/// The node has said goodbye: it goes on until the network is stopped, so that requests under way
/// can end.
struct Leaving {
    /// Who asked, until all that was to be written is written.
    caller: Option<oneshot::Sender<()>>,
    last_writes: Pin<Box<Sleep>>,
}

pub(super) struct Driver {
    node: Node,
    // Before `effects`, whose store waits for its thread when it is dropped, which must not wait for
    // these to be taken.
    answers: mpsc::Receiver<Answer>,
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
        answers: mpsc::Receiver<Answer>,
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

    /// What comes next; none when the network has stopped.
    async fn wait(&mut self) -> Result<Option<Woken>, DriverError> {
        let Driver { alarm, answers, inbox, ends, leaving, .. } = self;
        let last_writes = async {
            match leaving.as_mut().filter(|leaving| leaving.caller.is_some()) {
                Some(leaving) => leaving.last_writes.as_mut().await,
                None => std::future::pending().await,
            }
        };
        // In this order because others wait for what comes first. Nothing starves: `turn` looks at
        // all of them.
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

    /// Tells the core how late it is called, before anything else: it must not take its own absence
    /// for somebody else's.
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

    /// Takes what woke the loop, all that is urgent, some of everything else, and what is due.
    fn turn(&mut self, woken: Woken) {
        match woken {
            // What is due is looked at below.
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

    /// All that was urgent when this began.
    fn handle_urgent(&mut self) {
        for _ in 0..self.inbox.urgent.len() {
            let Ok(input) = self.inbox.urgent.try_recv() else { return };
            self.handle(input);
        }
    }

    /// Gossip or bulk. The news of the link it came by may still lie in the urgent inbox, and comes
    /// first.
    fn handle_later(&mut self, input: Input) {
        self.handle_urgent();
        self.handle(input);
    }

    fn handle(&mut self, input: Input) {
        self.node.handle(clock::now(), input);
        self.run_effects();
    }

    /// Carries out what the node asks for, until it asks for nothing more.
    fn run_effects(&mut self) {
        loop {
            self.effects.take(&mut self.node);
            match self.effects.next_input() {
                Some(input) => self.node.handle(clock::now(), input),
                None => return,
            }
        }
    }

    fn on_store(&mut self, answer: Answer) {
        if let Some((input, took)) = self.effects.on_store(answer) {
            if took > LATE {
                // A flash that stalls stalls the whole device: others may look late for the same
                // reason.
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

    /// Tells who asked for a stop that all is written, once it is, or that it waited long enough.
    fn answer_stop(&mut self, anyway: bool) {
        if (anyway || self.effects.is_flushed())
            && let Some(caller) = self.leaving.as_mut().and_then(|leaving| leaving.caller.take())
        {
            // The caller may have given up.
            let _ = caller.send(());
        }
    }

    /// Shows what changed, once a turn.
    fn publish(&mut self) {
        let (version, routes) = self.node.routes();
        if self.routes != Some(version) {
            self.routes = Some(version);
            self.ends.routes.send_replace(Arc::new(routes.clone()));
        }
        let views = self.node.views_version();
        self.ends.changes.send_if_modified(|seen| std::mem::replace(seen, views) != views);
    }

    /// Writes what is left.
    async fn close(self) {
        let Driver { answers, effects, .. } = self;
        // The store's thread must not wait for somebody to take its last answers.
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
            Notice::Facts(facts) => Input::Facts(facts),
            Notice::Fetched { digest, outcome } => Input::Fetched { digest, outcome },
        }
    }
}
