//! Requests at a steady pace, as a user's clients would send them during a fault.

use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::http::{Request, ask};

/// How long a client waits for an answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);
/// The most requests under way; beyond it a tick passes without a request. Far above the number
/// that a sane delay causes.
const MAX_UNDER_WAY: usize = 256;

/// A request and its end.
#[derive(Clone, Debug)]
pub struct Sample {
    /// The address to which it was sent.
    pub asked: SocketAddr,
    /// The time at which it was sent.
    pub sent: Instant,
    /// The time at which the answer was complete, or the failure known.
    pub ended: Instant,
    /// The HTTP status, or the error.
    pub answer: Result<u16, String>,
    /// The node that served it, by the answer's header.
    pub served_by: Option<String>,
    /// The body of the answer.
    pub text: String,
}

impl Sample {
    /// Whether the workload answered.
    pub fn good(&self) -> bool {
        self.answer == Ok(200)
    }
}

/// Sends a GET for `/` of `host` to the HTTP port of a node.
pub fn ask_once(asked: SocketAddr, host: &str) -> Sample {
    let sent = Instant::now();
    let exchange = || -> std::io::Result<(u16, Option<String>, String)> {
        let stream = TcpStream::connect_timeout(&asked, CLIENT_TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(CLIENT_TIMEOUT))?;
        let answer = ask(stream, &Request { method: "GET", target: "/", host, body: &[] })?;
        let (status, node) = (answer.status, answer.header("x-shoal-node").map(str::to_owned));
        Ok((status, node, answer.text()?))
    };
    let (answer, served_by, text) = match exchange() {
        Ok((status, node, text)) => (Ok(status), node, text),
        Err(error) => (Err(error.to_string()), None, String::new()),
    };
    Sample { asked, sent, ended: Instant::now(), answer, served_by, text }
}

/// Clients that send one request a tick, whether or not earlier ones have been answered.
pub struct Traffic {
    stopped: Arc<AtomicBool>,
    targets: Arc<Mutex<Vec<SocketAddr>>>,
    samples: Receiver<Sample>,
    clock: Option<JoinHandle<()>>,
}

impl Traffic {
    /// Starts to send requests for `host` to `targets` in turn, one each `pace`.
    pub fn start(targets: Vec<SocketAddr>, host: &str, pace: Duration) -> Self {
        let (sender, samples) = channel();
        let stopped = Arc::new(AtomicBool::new(false));
        let targets = Arc::new(Mutex::new(targets));
        let clock = {
            let (stopped, targets, host) = (stopped.clone(), targets.clone(), host.to_owned());
            std::thread::spawn(move || tick(&stopped, &targets, &host, pace, &sender))
        };
        Traffic { stopped, targets, samples, clock: Some(clock) }
    }

    /// Replaces the targets.
    pub fn aim(&self, targets: Vec<SocketAddr>) {
        *self.targets.lock().unwrap_or_else(PoisonError::into_inner) = targets;
    }

    /// Waits for the first sample that is as `wanted`; returns it and the samples before it.
    pub fn until(
        &self,
        what: &str,
        wanted: impl Fn(&Sample) -> bool,
    ) -> Result<(Sample, Vec<Sample>)> {
        let deadline = Instant::now() + super::TIMEOUT;
        let mut before = Vec::new();
        while let Ok(sample) =
            self.samples.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if wanted(&sample) {
                return Ok((sample, before));
            }
            before.push(sample);
        }
        let last = before.last().map_or("no answer at all".to_owned(), |last: &Sample| {
            format!("{:?} {}", last.answer, last.text.trim())
        });
        bail!("waited for {what}, in vain; the last of {} answers: {last}", before.len())
    }

    /// Stops sending, waits for all answers, and returns the samples that `until` has not returned.
    pub fn stop(mut self) -> Vec<Sample> {
        self.halt();
        self.samples.iter().collect()
    }

    fn halt(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        if let Some(clock) = self.clock.take() {
            // The thread does not panic; if it did, there would only be fewer samples.
            let _ = clock.join();
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.halt();
    }
}

fn tick(
    stopped: &AtomicBool,
    targets: &Mutex<Vec<SocketAddr>>,
    host: &str,
    pace: Duration,
    sender: &Sender<Sample>,
) {
    let under_way = Arc::new(());
    let mut next = Instant::now();
    for turn in 0usize.. {
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        if stopped.load(Ordering::Relaxed) {
            return;
        }
        // Ticks that a busy machine misses are not made up for.
        next = (next + pace).max(Instant::now());
        let target = {
            let targets = targets.lock().unwrap_or_else(PoisonError::into_inner);
            if targets.is_empty() { continue } else { targets[turn % targets.len()] }
        };
        if Arc::strong_count(&under_way) > MAX_UNDER_WAY {
            continue;
        }
        let (sender, host, guard) = (sender.clone(), host.to_owned(), under_way.clone());
        // Each request has a thread: a slow answer must not delay the next request.
        let client = std::thread::Builder::new().stack_size(256 * 1024).spawn(move || {
            let _guard = guard;
            // An error means that the run is over.
            let _ = sender.send(ask_once(target, &host));
        });
        if client.is_err() {
            continue;
        }
    }
}
