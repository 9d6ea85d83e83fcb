//! A device's clocks: they can jump, run fast or slow, or lose the date.

use shoal_protocol::model::{Time, WallClock};

/// 2026-01-01 in milliseconds: the wall clock of a right clock at the world's time zero.
pub const EPOCH: u64 = 1_767_225_600_000;
/// The rate of a right clock, in thousandths of real time.
pub const HONEST: u64 = 1000;

/// Both clocks of a device: the daemon's `Time` and the wall clock.
#[derive(Clone, Debug)]
pub struct Clock {
    /// World time at which `running` and `wall` were true, microseconds.
    at: u64,
    /// The daemon's `Time` at `at`, microseconds.
    running: u64,
    /// The wall clock at `at`, milliseconds.
    wall: u64,
    /// The rate in thousandths: above [`HONEST`] it runs fast, timers included.
    pace: u64,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { at: 0, running: 0, wall: EPOCH, pace: HONEST }
    }
}

impl Clock {
    /// Restarts the daemon's `Time` at zero.
    pub fn restart(&mut self, now: u64) {
        self.go_on(now);
        self.running = 0;
    }

    /// The daemon's `Time` at world time `now`.
    pub fn running(&self, now: u64) -> Time {
        Time::from_micros(self.running + self.passed(now))
    }

    /// The world time at which the daemon's `Time` is `due`.
    pub fn moment_of(&self, due: Time) -> u64 {
        let ahead = due.as_micros().saturating_sub(self.running);
        self.at + (ahead * HONEST).div_ceil(self.pace)
    }

    /// The wall clock at world time `now`.
    pub fn wall(&self, now: u64) -> WallClock {
        WallClock(self.wall + self.passed(now) / 1000)
    }

    /// Sets the wall clock by `by` milliseconds; a negative number sets it back.
    pub fn jump(&mut self, now: u64, by: i64) {
        self.go_on(now);
        self.wall = self.wall.saturating_add_signed(by);
    }

    /// Resets the wall clock to 1970, like a device without a clock battery.
    pub fn forget(&mut self, now: u64) {
        self.go_on(now);
        self.wall = 0;
    }

    /// Whether the clock runs at the right rate. The date may still be wrong.
    pub fn is_honest(&self) -> bool {
        self.pace == HONEST
    }

    /// Changes the rate from `now` on.
    pub fn set_pace(&mut self, now: u64, pace: u64) {
        self.go_on(now);
        self.pace = pace.max(1);
    }

    fn go_on(&mut self, now: u64) {
        let passed = self.passed(now);
        self.running += passed;
        self.wall += passed / 1000;
        self.at = now;
    }

    fn passed(&self, now: u64) -> u64 {
        (now - self.at) * self.pace / HONEST
    }
}
