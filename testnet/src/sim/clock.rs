//! A device's clocks: they may jump, run fast or slow, or know nothing of the year.

use shoal_protocol::model::{Time, WallClock};

/// 2026-01-01, in milliseconds: what honest clocks say at the world's zero.
pub const EPOCH: u64 = 1_767_225_600_000;
/// The pace of an honest clock: so many thousandths of a second a millisecond.
pub const HONEST: u64 = 1000;

/// What a device holds the time for.
#[derive(Clone, Debug)]
pub struct Clock {
    /// The moment of the world at which the rest was true, microseconds.
    at: u64,
    /// The daemon's `Time` then, microseconds.
    running: u64,
    /// What a person would have read then, milliseconds.
    wall: u64,
    /// Above [`HONEST`] it runs fast, timers included.
    pace: u64,
}

impl Default for Clock {
    fn default() -> Self {
        Clock { at: 0, running: 0, wall: EPOCH, pace: HONEST }
    }
}

impl Clock {
    /// The daemon starts: its `Time` begins anew.
    pub fn restart(&mut self, now: u64) {
        self.go_on(now);
        self.running = 0;
    }

    /// The daemon's `Time`.
    pub fn running(&self, now: u64) -> Time {
        Time::from_micros(self.running + self.passed(now))
    }

    /// When in the world the daemon's `Time` will be `due`.
    pub fn moment_of(&self, due: Time) -> u64 {
        let ahead = due.as_micros().saturating_sub(self.running);
        self.at + (ahead * HONEST).div_ceil(self.pace)
    }

    /// What a person would read.
    pub fn wall(&self, now: u64) -> WallClock {
        WallClock(self.wall + self.passed(now) / 1000)
    }

    /// The wall clock is set: back, for a negative number of milliseconds.
    pub fn jump(&mut self, now: u64, by: i64) {
        self.go_on(now);
        self.wall = self.wall.saturating_add_signed(by);
    }

    /// The wall clock has forgotten the year, as one without a battery does.
    pub fn forget(&mut self, now: u64) {
        self.go_on(now);
        self.wall = 0;
    }

    /// Whether it keeps pace; what year it says is another matter.
    pub fn is_honest(&self) -> bool {
        self.pace == HONEST
    }

    /// From now on it runs at this pace.
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
