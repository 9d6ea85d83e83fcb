//! The CPU limit.
//!
//! A replica earns its thousandths of a core as CPU time at all times, and may save up one second's
//! worth, at least [`MIN_BURST`], so that a small share still answers short requests at full speed.
//! The CPU time of its guests is taken off. While the balance is negative, none of its guests is
//! polled. One tick a thread bounds the overdraft, since the ticker makes guests yield.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustix::thread::ClockId;
use tokio::time::{Instant, Sleep, sleep_until};

use super::fault::RequestFault;
use super::ticker::Ticker;

/// The least CPU time a replica may save up: enough for some twenty requests of a plain component,
/// also in debug builds.
const MIN_BURST: Duration = Duration::from_millis(100);

/// The CPU limit and CPU time of one replica.
pub(super) struct Share {
    /// Thousandths of a core.
    millicores: u32,
    account: Mutex<Account>,
}

struct Account {
    /// Nanoseconds of CPU time; below zero when overdrawn.
    balance: i64,
    at: Instant,
    spent: Duration,
    throttled: Duration,
}

impl Share {
    pub fn new(millicores: u32) -> Self {
        let mut share = Share {
            millicores: millicores.max(1),
            account: Mutex::new(Account {
                balance: 0,
                at: Instant::now(),
                spent: Duration::ZERO,
                throttled: Duration::ZERO,
            }),
        };
        let burst = share.burst();
        share.account.get_mut().unwrap_or_else(PoisonError::into_inner).balance = burst;
        share
    }

    /// CPU time that was used, and time for which the limit held guests back.
    pub fn used(&self) -> (Duration, Duration) {
        let account = self.lock();
        (account.spent, account.throttled)
    }

    fn burst(&self) -> i64 {
        let second = i64::from(self.millicores) * 1_000_000;
        second.max(nanos(MIN_BURST))
    }

    /// The time at which the account will no longer be overdrawn; `None` when it is not.
    fn solvent_at(&self) -> Option<Instant> {
        let mut account = self.lock();
        self.earn(&mut account);
        let debt = u64::try_from(-account.balance).ok().filter(|debt| *debt > 0)?;
        let wait = Duration::from_nanos(debt.saturating_mul(1000) / u64::from(self.millicores));
        // Timers have milliseconds: round up, or the guest would be woken in vain.
        Some(account.at + wait + Duration::from_millis(1))
    }

    fn spend(&self, cpu: Duration) {
        let mut account = self.lock();
        self.earn(&mut account);
        account.balance = account.balance.saturating_sub(nanos(cpu));
        account.spent += cpu;
    }

    fn earn(&self, account: &mut Account) {
        let now = Instant::now();
        let earned = nanos(now.saturating_duration_since(account.at))
            .saturating_mul(i64::from(self.millicores))
            / 1000;
        account.balance = account.balance.saturating_add(earned).min(self.burst());
        account.at = now;
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// CPU time and waiting of one request, charged to its replica's account.
pub(super) struct Meter {
    share: Arc<Share>,
    ticker: Arc<Ticker>,
    /// CPU time that this request alone may use.
    most: Duration,
    own: Mutex<Own>,
}

#[derive(Default)]
struct Own {
    spent: Duration,
    throttled: Duration,
}

impl Meter {
    pub fn new(share: &Arc<Share>, ticker: &Arc<Ticker>, most: Duration) -> Self {
        Meter { share: share.clone(), ticker: ticker.clone(), most, own: Mutex::default() }
    }

    /// Polls a guest within its replica's share, until this request has used too much.
    pub fn run<F: Future>(&self, guest: F) -> Metered<'_, F> {
        Metered { meter: self, guest: Box::pin(guest), pause: None }
    }

    /// How long this request was held back by its replica's CPU limit.
    pub fn throttled(&self) -> Duration {
        self.own().throttled
    }

    /// The fault of a guest that gave no answer within `limit`.
    pub fn too_slow(&self, limit: Duration) -> RequestFault {
        RequestFault::too_slow(limit, self.throttled(), self.share.millicores)
    }

    /// Charges the CPU time of one poll; returns whether the request has used too much.
    fn spend(&self, cpu: Duration) -> bool {
        self.share.spend(cpu);
        let mut own = self.own();
        own.spent += cpu;
        own.spent > self.most
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A guest that is polled within its limits.
pub(super) struct Metered<'a, F> {
    meter: &'a Meter,
    guest: Pin<Box<F>>,
    pause: Option<Pause<'a>>,
}

/// A time without CPU; counted on drop, also when the guest is dropped before its end.
struct Pause<'a> {
    meter: &'a Meter,
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        let waited = self.since.elapsed();
        self.meter.share.lock().throttled += waited;
        self.meter.own().throttled += waited;
    }
}

impl<F> Metered<'_, F> {
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.timer.as_mut().poll(cx));
                self.pause = None;
            }
            match self.meter.share.solvent_at() {
                Some(at) => {
                    let timer = Box::pin(sleep_until(at));
                    self.pause = Some(Pause { meter: self.meter, since: Instant::now(), timer });
                }
                None => return Poll::Ready(()),
            }
        }
    }
}

impl<F: Future> Future for Metered<'_, F> {
    type Output = Result<F::Output, RequestFault>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(self.poll_pause(cx));
        let meter = self.meter;
        let before = thread_time();
        let polled = {
            let _computing = meter.ticker.computing();
            self.guest.as_mut().poll(cx)
        };
        let too_much = meter.spend(thread_time().saturating_sub(before));
        match polled {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending if too_much => Poll::Ready(Err(RequestFault::too_much_cpu(meter.most))),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// CPU time of this thread: time in which another process has the core does not count.
fn thread_time() -> Duration {
    let time = rustix::time::clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn unused_share_is_bounded_and_overdraft_is_waited_for() {
        let share = Share::new(200);
        assert_eq!(share.solvent_at(), None);
        tokio::time::advance(Duration::from_secs(3600)).await;
        share.spend(Duration::from_millis(200));
        assert_eq!(share.solvent_at(), None, "one second's worth was saved, an hour's was not");
        share.spend(Duration::from_millis(20));
        let wait = share.solvent_at().expect("overdrawn by 20 ms") - Instant::now();
        assert_eq!(wait, Duration::from_millis(101), "20 ms at a fifth of a core");
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(share.solvent_at(), None);
        assert_eq!(share.used().0, Duration::from_millis(220));
    }

    #[test]
    fn smallest_share_still_answers_a_short_request() {
        let share = Share::new(0);
        share.spend(MIN_BURST / 2);
        assert_eq!(share.solvent_at(), None);
    }
}
