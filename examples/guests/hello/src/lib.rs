//! Answers HTTP with its name, its replica, its node and the path. Logs a line for each request.
//!
//! Each request gets a fresh instance, so a counter in memory would always say 1: state between
//! requests must be kept elsewhere.

use std::env;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Hello;

wasip2::http::proxy::export!(Hello);

impl Guest for Hello {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_else(|| "/".to_owned());
        let name = env::var("NAME").unwrap_or_else(|_| "world".to_owned());
        let replica = env::var("SHOAL_REPLICA").unwrap_or_else(|_| "?".to_owned());
        let node = env::var("SHOAL_NODE").unwrap_or_else(|_| "?".to_owned());
        println!("{path} answered by {replica}");

        let headers = Fields::new();
        // An answer without the header is still an answer.
        let _ = headers.append("content-type", b"text/plain; charset=utf-8");
        let response = OutgoingResponse::new(headers);
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(out, Ok(response));
        let text = format!("hello, {name}\nreplica {replica}\nnode {node}\npath {path}\n");
        if let Ok(stream) = body.write() {
            // An error means that the client is gone.
            let _ = stream.blocking_write_and_flush(text.as_bytes());
        }
        let _ = OutgoingBody::finish(body, None);
    }
}
