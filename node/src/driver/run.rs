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
use crate::store::StoreAnswer;

use super::clock::{self, Alarm};
use super::handle::{Ends, Happened, Request};
use super::hands::Hands;

/// Being called this much later than asked is ordinary on a busy device; more is told to the core,
/// before it blames others.
const LATE: Duration = Duration::from_millis(50);
/// The device's clock is told no more often than that, and only when something happens anyway: at
/// rest nobody needs it.
const WALL_CLOCK_EVERY: Duration = Duration::from_secs(10);
/// How long the disk may take to write what is left when the node stops.
const LAST_WRITES: Duration = Duration::from_secs(3);

/// How many of each kind besides the urgent are taken in a turn, so that none starves.
const A_TURN: usize = 16;

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
    Store(StoreAnswer),
    Urgent(Input),
    /// Gossip and bulk.
    Later(Input),
    Happened(Happened),
    Request(Request),
    /// The disk takes long with what is left to write.
    Impatient,
}

/// The node has said goodbye: it goes on until the network is stopped, so that requests under way
/// can end.
struct Leaving {
    /// Who asked, until all that was to be written is written.
    asker: Option<oneshot::Sender<()>>,
    patience: Pin<Box<Sleep>>,
}

pub(super) struct Driver {
    node: Node,
    // Before `hands`, whose store waits for its thread when it is dropped, which must not wait for
    // these to be taken.
    answers: mpsc::Receiver<StoreAnswer>,
    hands: Hands,
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
        hands: Hands,
        answers: mpsc::Receiver<StoreAnswer>,
        ends: Ends,
        inbox: Inbox,
        alarm: Alarm,
        now: Time,
    ) -> Self {
        Driver {
            node,
            answers,
            hands,
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
        self.settle();
        loop {
            self.publish();
            let due = self.node.poll_timeout().map(|(at, _)| at);
            self.alarm.set(due)?;
            let Some(woken) = self.wait().await? else { break };
            self.note_clocks(due);
            self.turn(woken);
            self.tell_asker(false);
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
        let patience = async {
            match leaving.as_mut().filter(|leaving| leaving.asker.is_some()) {
                Some(leaving) => leaving.patience.as_mut().await,
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
            Some(happened) = ends.happened.recv() => Some(Woken::Happened(happened)),
            input = inbox.gossip.recv() => input.map(Woken::Later),
            input = inbox.bulk.recv() => input.map(Woken::Later),
            () = patience => Some(Woken::Impatient),
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
            Woken::Happened(happened) => self.handle(happened.into()),
            Woken::Request(request) => self.on_request(request),
            Woken::Impatient => {
                tracing::warn!(
                    "the disk is slow; what it has not written by now was not acknowledged either"
                );
                self.tell_asker(true);
            }
        }
        self.handle_urgent();
        for _ in 0..A_TURN {
            let mut idle = true;
            if let Ok(answer) = self.answers.try_recv() {
                idle = false;
                self.on_store(answer);
            }
            if let Ok(request) = self.ends.requests.try_recv() {
                idle = false;
                self.on_request(request);
            }
            if let Ok(happened) = self.ends.happened.try_recv() {
                idle = false;
                self.handle(happened.into());
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
            self.settle();
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
        self.settle();
    }

    /// Carries out what the node asks for, until it asks for nothing more.
    fn settle(&mut self) {
        loop {
            self.hands.take(&mut self.node);
            match self.hands.back() {
                Some(input) => self.node.handle(clock::now(), input),
                None => return,
            }
        }
    }

    fn on_store(&mut self, answer: StoreAnswer) {
        if let Some((input, took)) = self.hands.on_store(answer) {
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
                if let Some(request) = self.hands.expect(reply) {
                    self.handle(Input::Command { request, command: *command });
                }
            }
            Request::Query(look) => look(&self.node),
            Request::Stop { back_in, done } => {
                let patience = Box::pin(tokio::time::sleep(LAST_WRITES));
                self.leaving = Some(Leaving { asker: Some(done), patience });
                self.handle(Input::Goodbye { back_in });
            }
        }
    }

    /// Tells who asked for a stop that all is written, once it is, or that it waited long enough.
    fn tell_asker(&mut self, anyway: bool) {
        if (anyway || self.hands.is_settled())
            && let Some(asker) = self.leaving.as_mut().and_then(|leaving| leaving.asker.take())
        {
            // The asker may have given up.
            let _ = asker.send(());
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
        let Driver { answers, hands, .. } = self;
        // The store's thread must not wait for somebody to take its last answers.
        drop(answers);
        // Closing waits for the disk.
        if tokio::task::spawn_blocking(move || drop(hands)).await.is_err() {
            tracing::error!("the store could not be closed");
        }
    }
}

impl From<Happened> for Input {
    fn from(happened: Happened) -> Input {
        match happened {
            Happened::Report(report) => Input::Report(report),
            Happened::Facts(facts) => Input::Facts(facts),
            Happened::Fetched { digest, outcome } => Input::Fetched { digest, outcome },
        }
    }
}
