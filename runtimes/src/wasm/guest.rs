//! The world a guest sees: its environment, clocks, random bytes and HTTP, and nothing of the
//! host's.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use super::memory::{Memory, Reserved};
use crate::logs::{Lines, Log, LogStream};
use crate::model::{Launch, Payload};

/// Handles to host resources that one guest may have at a time. Each costs the host some hundred
/// bytes.
const MAX_RESOURCES: usize = 4096;
/// Bytes a guest may pass in one call, nested lists included.
const MAX_CALL_BYTES: usize = 8 << 20;
/// Random bytes a guest may draw in one call.
const MAX_RANDOM: u64 = 1 << 20;
/// Bytes of an answer that wait for the client, two such chunks at most.
const ANSWER_CHUNK: usize = 64 << 10;

/// The same for a guest with files, each of which is an open file of this process.
const MAX_FILES: usize = 128;

/// A folder of this node that a guest sees.
pub(super) struct Mounted {
    /// The folder.
    pub folder: PathBuf,
    /// The path at which the guest finds it.
    pub path: String,
    /// The guest cannot change it.
    pub read_only: bool,
}

/// The data of one guest's store.
pub(super) struct Guest {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
    hooks: Hooks,
    pub memory: Memory,
}

impl Guest {
    /// A store for one request, or for a command, with the memory that was reserved for it.
    pub fn store(
        engine: &Engine,
        launch: &Launch,
        mounts: &[Mounted],
        memory: Reserved,
        log: &Log,
    ) -> wasmtime::Result<Store<Guest>> {
        let mut wasi = WasiCtxBuilder::new();
        // Nothing is inherited. Sockets need all three switches: two of them are on by default.
        wasi.allow_tcp(false).allow_udp(false).allow_ip_name_lookup(false);
        wasi.max_random_size(MAX_RANDOM);
        // Standard input is empty.
        wasi.arg(&launch.workload);
        if let Payload::Command(command) = &launch.payload {
            wasi.args(&command.args);
        }
        for (name, value) in launch.whole_env() {
            wasi.env(name, value);
        }
        for Mounted { folder, path, read_only } in mounts {
            let rights = if *read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
            wasi.preopened_dir(folder, path, rights)?;
        }
        wasi.stdout(Output::new(log, LogStream::Out)).stderr(Output::new(log, LogStream::Err));
        let mut table = ResourceTable::new();
        table.set_max_capacity(if mounts.is_empty() { MAX_RESOURCES } else { MAX_FILES });
        let hooks = Hooks { log: log.clone() };
        let guest = Guest {
            wasi: wasi.build(),
            http: WasiHttpCtx::new(),
            table,
            hooks,
            memory: Memory::new(memory),
        };
        let mut store = Store::try_new(engine, guest)?;
        store.limiter(|guest| &mut guest.memory);
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        store.set_hostcall_fuel(MAX_CALL_BYTES);
        Ok(store)
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: &mut self.hooks }
    }
}

/// Denies the guest's own requests: a spec cannot say yet what a guest may reach.
struct Hooks {
    log: Log,
}

type Io = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Io,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Io), Error>> + Send> {
        let text = format!(
            "a request to {} was denied: guests have no network of their own",
            request.uri()
        );
        self.log.say(LogStream::System, &text);
        Box::new(std::future::ready(Err(Error::HttpRequestDenied)))
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        ANSWER_CHUNK
    }
}

/// A guest's standard output or error, which goes to its log.
#[derive(Clone)]
struct Output {
    lines: Arc<Mutex<Lines>>,
}

impl Output {
    fn new(log: &Log, stream: LogStream) -> Self {
        Output { lines: Arc::new(Mutex::new(log.lines(stream))) }
    }

    fn say(&self, bytes: &[u8]) {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).write(bytes);
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.say(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(ANSWER_CHUNK)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.say(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
