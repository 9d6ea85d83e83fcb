//! The main loop: takes the next event, handles it, and checks the invariants.

use std::time::Duration;

use super::event::Event;
use super::world::World;

/// Events at one instant at most; more means that a node never stops asking.
const MAX_STEPS_AT_ONCE: u64 = 20_000;

impl World {
    /// Runs the world until `until` (microseconds), and checks the invariants after each step.
    pub fn run_until(&mut self, until: u64) -> Result<(), String> {
        while let Some(at) = self.queue.next_at().filter(|at| *at <= until) {
            let event = self.queue.pop().expect("it was just seen");
            self.steps_now = if at == self.now { self.steps_now + 1 } else { 0 };
            if self.steps_now > MAX_STEPS_AT_ONCE.max(100 * self.devices.len() as u64) {
                let steps = self.steps_now;
                return Err(format!(
                    "time stands still: {steps} steps without end\n{}",
                    self.report()
                ));
            }
            self.sample_health(at);
            self.now = at;
            let is_wake = matches!(event, Event::Wake { .. });
            if let Some(device) = event.device().filter(|_| !is_wake) {
                let inbox = &mut self.devices[device].inbox;
                if inbox.busy_until > at || !inbox.is_empty() {
                    inbox.defer(event);
                    continue;
                }
            }
            self.steps += 1;
            if let Some(device) = self.handle(event) {
                self.stay_busy(device);
                self.after_step(device)?;
            }
        }
        self.now = until;
        Ok(())
    }

    /// Runs the world for a while.
    pub fn run_for(&mut self, after: Duration) -> Result<(), String> {
        self.run_until(self.now + after.as_micros() as u64)
    }

    /// Runs the world until `done`; an error if that takes longer than `within`. `done` is checked
    /// every 10 ms, less often in a large world, where a check is expensive.
    pub fn run_till(
        &mut self,
        within: Duration,
        what: &str,
        done: impl Fn(&World) -> bool,
    ) -> Result<(), String> {
        let end = self.now + within.as_micros() as u64;
        let pause = 10_000 * (self.devices.len() as u64).div_ceil(20);
        while !done(self) {
            if self.now >= end {
                return Err(format!("not within {within:?}: {what}\n{}", self.report()));
            }
            self.run_until(self.now + pause)?;
        }
        Ok(())
    }
}
