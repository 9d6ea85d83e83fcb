//! The device's clocks, and an alarm that also rings when the device wakes from suspend.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use shoal_protocol::model::{Time, WallClock};
use tokio::io::unix::AsyncFd;

/// Microseconds since boot, suspend included.
pub(super) fn now() -> Time {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) =
        (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    Time::from_micros(seconds.saturating_mul(1_000_000).saturating_add(nanos / 1_000))
}

/// The device's wall clock; zero before 1970.
pub fn wall() -> WallClock {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallClock(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Rings once at a time of [`now`]'s clock.
///
/// Not a timer of tokio: that does not count suspend, so that a device that slept for an hour would
/// act an hour late, and it rings on whole milliseconds.
#[derive(Debug)]
pub(super) struct Alarm {
    timer: AsyncFd<OwnedFd>,
    set: Option<Time>,
}

impl Alarm {
    #[expect(
        deprecated,
        reason = "its successor is an unsafe fn that asks for a descriptor of its own: an OwnedFd \
            is one"
    )]
    pub(super) fn new() -> io::Result<Self> {
        let timer = timerfd_create(
            TimerfdClockId::Boottime,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        Ok(Alarm { timer: AsyncFd::new(timer)?, set: None })
    }

    /// Sets the time; a past one rings at once, `None` switches the alarm off.
    pub(super) fn set(&mut self, at: Option<Time>) -> io::Result<()> {
        if at == self.set {
            return Ok(());
        }
        // The system takes zero for "off".
        let micros = at.map_or(0, |at| at.as_micros().max(1));
        let value = Timespec {
            tv_sec: i64::try_from(micros / 1_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(micros % 1_000_000 * 1_000).unwrap_or(0),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &once)?;
        self.set = at;
        Ok(())
    }

    /// Waits until the alarm rings. Set it again afterwards.
    pub(super) async fn rings(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.timer.readable().await?;
            match ready.try_io(|timer| Ok(rustix::io::read(timer, &mut [0; 8])?)) {
                Ok(rung) => {
                    self.set = None;
                    return rung.map(drop);
                }
                // The alarm was set again between the two calls.
                Err(_) => continue,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The core acts on these times: a ring before its time would make it spin.
    #[tokio::test]
    async fn alarm_rings_on_time_or_at_once_if_past() {
        let mut alarm = Alarm::new().unwrap();
        let at = now() + Duration::from_millis(20);
        alarm.set(Some(at)).unwrap();
        alarm.rings().await.unwrap();
        assert!(now() >= at);
        alarm.set(Some(at)).unwrap();
        alarm.rings().await.unwrap();
        alarm.set(Some(Time::ZERO)).unwrap();
        alarm.rings().await.unwrap();
    }

    /// The loop sets the alarm anew before each wait, to any time or to none.
    #[tokio::test]
    async fn alarm_can_be_moved_and_switched_off() {
        let mut alarm = Alarm::new().unwrap();
        let far = now() + Duration::from_secs(3_600);
        alarm.set(Some(far)).unwrap();
        alarm.set(Some(now() + Duration::from_millis(5))).unwrap();
        alarm.rings().await.unwrap();
        alarm.set(Some(now() + Duration::from_millis(5))).unwrap();
        alarm.set(None).unwrap();
        let waited = tokio::time::timeout(Duration::from_millis(50), alarm.rings()).await;
        assert!(waited.is_err(), "it was switched off");
    }
}
