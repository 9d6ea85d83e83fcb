//! A command: one instance that runs from the replica's start to its end.
//!
//! It has no request, so no time bounds it, and its CPU time is bounded over time only. It cannot
//! be told to end, so a stop cuts it off at once.

use std::sync::Arc;

use wasmtime_wasi::I32Exit;

use super::fault::{Blame, RequestFault, mib};
use super::guest::Guest;
use super::host::Program;
use super::replica::Replica;
use super::share::Meter;
use crate::error::PrepareError;
use crate::logs::{LogStream, STARTED};

/// The code of a program that trapped, as a shell has it for one that aborted.
const ABORTED: i32 = 134;

/// How a command ended.
enum End {
    /// By itself, with this code.
    Exited(i32),
    /// It was ordered to end.
    Cut,
    /// It could not be run, or not be run on.
    Failed { reason: String, retryable: bool },
}

impl From<RequestFault> for End {
    fn from(fault: RequestFault) -> End {
        match fault.blame {
            Blame::Nobody => End::Cut,
            Blame::Guest | Blame::Client | Blame::NoRoom => {
                End::Failed { reason: fault.reason, retryable: true }
            }
        }
    }
}

/// Runs the replica's command to its end, and reports that.
pub(super) async fn run(replica: Arc<Replica>) {
    let program = replica.host.program(replica.component()).await;
    let end = match program {
        Ok(program) => {
            let running = replica.host.guests().spawn(call(replica.clone(), program));
            running.await.unwrap_or_else(|stopped| RequestFault::host(stopped).into())
        }
        Err(error) => refused(&error),
    };
    let Replica { log, status, launch, .. } = &*replica;
    let (reason, retryable) = match end {
        End::Cut => return,
        End::Exited(code) if launch.ends => {
            let lines = log.last_words().await;
            log.say(LogStream::System, &format!("exited with code {code}"));
            log.close().await;
            return status.done(code, lines);
        }
        End::Exited(code) => (format!("exited with code {code}"), true),
        End::Failed { reason, retryable } => (reason, retryable),
    };
    log.say(LogStream::System, &reason);
    log.flush().await;
    status.failed(reason, retryable);
}

fn refused(error: &PrepareError) -> End {
    End::Failed { reason: format!("cannot start: {error}"), retryable: error.retryable() }
}

async fn call(replica: Arc<Replica>, program: Arc<Program>) -> End {
    let Replica { host, launch, memory, mounts, log, status, .. } = &*replica;
    let Some(pre) = &program.command else {
        let reason = "cannot start: this component is no command".to_owned();
        return End::Failed { reason, retryable: false };
    };
    let mut store = match Guest::store(&host.engine, launch, mounts, memory.nothing(), log) {
        Ok(store) => store,
        Err(error) => return RequestFault::host(error).into(),
    };
    let meter = Meter::new(&replica.share, &host.ticker, std::time::Duration::MAX);
    let ended = {
        let guest = async {
            let command = pre.instantiate_async(&mut store).await?;
            log.say(LogStream::System, STARTED);
            status.running(None);
            command.wasi_cli_run().call_run(&mut store).await
        };
        tokio::select! {
            biased;
            () = replica.cut.cancelled() => return End::Cut,
            ended = meter.run(guest) => ended,
        }
    };
    let error = match ended {
        Err(fault) => return fault.into(),
        Ok(Ok(Ok(()))) => return End::Exited(0),
        Ok(Ok(Err(()))) => return End::Exited(1),
        Ok(Err(error)) => error,
    };
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return End::Exited(*code);
    }
    // Few guests survive refused memory: Rust's abort.
    if store.data().memory.wanted().is_some() {
        let reason = format!("exceeded its memory limit of {}", mib(launch.memory));
        return End::Failed { reason, retryable: true };
    }
    let reason = RequestFault::from_engine(&error).reason;
    // A panic is the program's own end, as an abort is that of a process.
    if error.is::<wasmtime::Trap>() {
        log.say(LogStream::System, &reason);
        return End::Exited(ABORTED);
    }
    End::Failed { reason, retryable: true }
}
