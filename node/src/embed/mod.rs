//! A node inside a program: the same that `shoal up` runs, for programs that embed it.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let builder = shoal::Node::builder().state("/var/lib/gateway/shoal").name("gateway-7");
//! let node = builder.start().await?;
//! node.publish(shoal::Workload::wasm("hello", "hello.wasm")?.replicas(2)).await?;
//! let ten_minutes = std::time::Duration::from_secs(600);
//! println!("join with: {}", node.invite(1, ten_minutes).await?);
//! node.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! **Call [`init`] first thing in `main`**: components are compiled in a child process, which is
//! the same program started anew.

mod address;
mod builder;
mod error;
mod loaded_identity;
mod node;
mod ports;
mod running;

use std::io;
use std::time::Duration;

pub use builder::Builder;
pub use error::StartError;
pub use node::{Node, NodeDoor};

/// How soon a node that stops by a signal expects to be back. A service manager restarts in a
/// second or two; for longer absences its replicas move.
pub const BACK_IN: Duration = Duration::from_secs(10);

/// Threads of the event loop. Guests compute on threads of their own; what is left is small, and
/// each thread costs memory.
const THREADS: usize = 2;
/// Threads for blocking file work, started when there is some.
const BLOCKING: usize = 8;
/// Stacks are touched to some tens of KiB; the rest is address space.
const STACK: usize = 1024 * 1024;

/// Call it first thing in `main`. In a process that was started to compile a component it does that
/// and does not return.
pub fn init() {
    shoal_runtimes::wasm::compiler_entry();
}

/// An event loop that is sparing with memory. Any other multi-threaded tokio runtime will do.
pub fn event_loop() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(BLOCKING)
        .thread_keep_alive(Duration::from_secs(2))
        .thread_stack_size(STACK)
        .thread_name("shoal")
        .enable_all()
        .build()
}
