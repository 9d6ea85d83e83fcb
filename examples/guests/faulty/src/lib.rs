//! Misbehaves on request, for tests: each path is a fault that must harm only its own request.

use std::hint::black_box;
use std::thread::sleep;
use std::time::Duration;
use std::{env, process};

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingRequest, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::StreamError;

struct Faulty;

wasip2::http::proxy::export!(Faulty);

impl Guest for Faulty {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_default();
        let (path, argument) = path.split_once('?').unwrap_or((&path, ""));
        match path {
            // Never ends, never waits.
            "/loop" => loop {
                black_box(());
            },
            // Takes `argument` MiB, or all memory, and answers how much it got.
            "/eat" => answer(out, &eat(argument.parse().unwrap_or(usize::MAX))),
            // Takes all memory, and keeps it while it answers with `argument` KiB.
            "/hold" => {
                eat(usize::MAX);
                big(out, argument.parse().unwrap_or(0));
            }
            // As `/eat`, but aborts when memory is refused, as most programs do.
            "/gorge" => {
                black_box(vec![1u8; argument.parse::<usize>().unwrap_or(1 << 10) << 20]);
                answer(out, "had enough");
            }
            "/panic" => panic!("on purpose"),
            "/trap" => std::arch::wasm32::unreachable(),
            "/overflow" => answer(out, &descend(1).to_string()),
            "/exit" => process::exit(1),
            // Ends without an answer.
            "/silent" => {}
            // Answers after `argument` milliseconds.
            "/slow" => {
                sleep(Duration::from_millis(argument.parse().unwrap_or(0)));
                answer(out, "at last");
            }
            // Answers the length of the request's body; panics when the body breaks off.
            "/count" => answer(out, &count(&request).to_string()),
            // Answers with `argument` KiB.
            "/big" => big(out, argument.parse().unwrap_or(0)),
            // Fails in the middle of its answer.
            "/half" => {
                let body = begin(out);
                if let Ok(stream) = body.write() {
                    let _ = stream.blocking_write_and_flush(b"half of it");
                }
                std::arch::wasm32::unreachable()
            }
            // Tries everything that must be closed to a guest, and answers what was open.
            "/escape" => answer(out, &escape()),
            // Logs `argument` lines.
            "/chatter" => {
                for n in 0..argument.parse().unwrap_or(0u32) {
                    println!("line {n}");
                }
                answer(out, "said");
            }
            "/env" => {
                let all: Vec<_> =
                    env::vars().map(|(name, value)| format!("{name}={value}")).collect();
                answer(out, &all.join("\n"));
            }
            _ => answer(out, "ok"),
        }
    }
}

fn begin(out: ResponseOutparam) -> OutgoingBody {
    let response = OutgoingResponse::new(Fields::new());
    let body = response.body().expect("a new response has a body");
    ResponseOutparam::set(out, Ok(response));
    body
}

fn answer(out: ResponseOutparam, text: &str) {
    let body = begin(out);
    if let Ok(stream) = body.write() {
        for chunk in text.as_bytes().chunks(4096) {
            if stream.blocking_write_and_flush(chunk).is_err() {
                return; // the client is gone
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

fn big(out: ResponseOutparam, kib: usize) {
    let body = begin(out);
    if let Ok(stream) = body.write() {
        for _ in 0..kib {
            if stream.blocking_write_and_flush(&[b'x'; 1024]).is_err() {
                return; // the client is gone
            }
        }
    }
    let _ = OutgoingBody::finish(body, None);
}

fn count(request: &IncomingRequest) -> u64 {
    let body = request.consume().expect("the body of a request can be taken once");
    let stream = body.stream().expect("the stream of a body can be taken once");
    let mut bytes = 0;
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(read) => bytes += read.len() as u64,
            Err(StreamError::Closed) => return bytes,
            Err(StreamError::LastOperationFailed(error)) => panic!("{}", error.to_debug_string()),
        }
    }
}

/// Asks for memory page by page, and goes on when it is refused.
fn eat(mib: usize) -> String {
    let mut pages = 0;
    while pages < mib.saturating_mul(16) {
        if std::arch::wasm32::memory_grow::<0>(1) == usize::MAX {
            break;
        }
        pages += 1;
    }
    format!("{pages} pages")
}

fn descend(depth: u64) -> u64 {
    let frame = black_box([depth; 64]);
    if depth == u64::MAX { 0 } else { descend(depth + 1) + frame[63] }
}

fn escape() -> String {
    let file = std::fs::read_to_string("/etc/passwd").is_ok();
    let folder = std::fs::read_dir("/").is_ok();
    let write = std::fs::write("/tmp/escaped", "x").is_ok();
    let connect = std::net::TcpStream::connect("127.0.0.1:1").map_err(|error| error.kind());
    let listen = std::net::TcpListener::bind("127.0.0.1:0").is_ok();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").is_ok();
    let arguments = env::args().count();
    format!(
        "file {file}, folder {folder}, write {write}, connect {connect:?}, listen {listen}, \
         udp {udp}, arguments {arguments}, http {}",
        fetch()
    )
}

/// Tries an HTTP request of its own.
fn fetch() -> String {
    let request = OutgoingRequest::new(Fields::new());
    let _ = request.set_authority(Some("127.0.0.1:1"));
    let _ = request.set_path_with_query(Some("/"));
    let future = match outgoing_handler::handle(request, None) {
        Ok(future) => future,
        Err(code) => return format!("refused {code:?}"),
    };
    future.subscribe().block();
    match future.get() {
        Some(Ok(Ok(_))) => "answered".to_owned(),
        Some(Ok(Err(code))) => format!("refused {code:?}"),
        _ => "nothing".to_owned(),
    }
}
