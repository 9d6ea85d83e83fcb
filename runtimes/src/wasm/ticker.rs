//! The clock that interrupts guests.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread::{self, Thread};
use std::time::Duration;

use wasmtime::Engine;

/// How often running guests are interrupted: they yield to each other, and are checked against
/// their limits, this often.
pub(super) const TICK: Duration = Duration::from_millis(5);
/// Enough for a thread that only sleeps and increments.
const STACK: usize = 64 << 10;

/// Advances the engine's epoch while guests compute, and sleeps when none does, so that an idle
/// machine is not woken.
///
/// Has a thread of its own, since guests that never wait would keep a task from running.
pub(super) struct Ticker {
    shared: Arc<Shared>,
    thread: Thread,
}

#[derive(Default)]
struct Shared {
    computing: AtomicUsize,
    asleep: AtomicBool,
    ended: AtomicBool,
}

/// Marks a guest as computing until it is dropped.
pub(super) struct Computing<'a>(&'a Shared);

impl Ticker {
    pub fn start(engine: &Engine) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (engine, theirs) = (engine.weak(), shared.clone());
        let run = move || {
            while theirs.wait_for_guests() {
                thread::sleep(TICK);
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => return,
                }
            }
        };
        let thread =
            thread::Builder::new().name("wasm-ticker".into()).stack_size(STACK).spawn(run)?;
        Ok(Ticker { shared, thread: thread.thread().clone() })
    }

    /// Wakes the thread when no guest was computing.
    pub fn computing(&self) -> Computing<'_> {
        self.shared.computing.fetch_add(1, SeqCst);
        // Mostly false: the thread goes to sleep at most once a tick, so short requests wake it at
        // most that often.
        if self.shared.asleep.swap(false, SeqCst) {
            self.thread.unpark();
        }
        Computing(&self.shared)
    }
}

impl Shared {
    /// Returns `true` when a guest computes, `false` at the end.
    fn wait_for_guests(&self) -> bool {
        loop {
            if self.ended.load(SeqCst) {
                return false;
            }
            if self.computing.load(SeqCst) > 0 {
                return true;
            }
            // Stored before the second look: a guest that begins in between sees it and wakes this
            // thread.
            self.asleep.store(true, SeqCst);
            if self.computing.load(SeqCst) == 0 {
                thread::park();
            }
            self.asleep.store(false, SeqCst);
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.ended.store(true, SeqCst);
        self.thread.unpark();
    }
}

impl Drop for Computing<'_> {
    fn drop(&mut self) {
        self.0.computing.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use wasmtime::{Instance, Module, Store, Trap};

    use super::*;

    /// `(module (func (export "spin") (loop (br 0))))`
    const SPINS: &[u8] =
        b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x08\x01\x04spin\0\0\
        \x0a\x09\x01\x07\0\x03\x40\x0c\0\x0b\x0b";

    /// A guest that loops is interrupted in each of three rounds, also when another begins or ends
    /// meanwhile.
    #[test]
    fn ticks_while_guests_compute_and_sleeps_otherwise() {
        let engine = Engine::new(wasmtime::Config::new().epoch_interruption(true)).unwrap();
        let module = Module::new(&engine, SPINS).unwrap();
        let ticker = Ticker::start(&engine).unwrap();
        // Two ticks: the first may have been due already.
        let is_interrupted = || {
            let mut store = Store::new(&engine, ());
            store.set_epoch_deadline(2);
            let guest = Instance::new(&mut store, &module, &[]).unwrap();
            let spin = guest.get_typed_func::<(), ()>(&mut store, "spin").unwrap();
            assert_eq!(
                spin.call(&mut store, ()).unwrap_err().downcast::<Trap>().unwrap(),
                Trap::Interrupt
            );
        };
        for _ in 0..3 {
            while !ticker.shared.asleep.load(SeqCst) {
                thread::yield_now();
            }
            let computing = ticker.computing();
            is_interrupted();
            let another = ticker.computing();
            drop(computing);
            is_interrupted();
            drop(another);
        }
    }
}
