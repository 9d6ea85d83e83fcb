//! Detects whether sent bytes arrive: by the peer's acknowledgements, which tell a stall from
//! slowness.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::network::tcp::SMALL_SEGMENT;

/// Bytes since a connection's start, as this process wrote and read them.
#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) written: AtomicU64,
    pub(super) read: AtomicU64,
    /// Written bytes that the peer's kernel acknowledged, as of the last sample.
    pub(super) acknowledged: AtomicU64,
}

impl Flow {
    /// Bytes that arrived in either direction.
    pub(super) fn moved(&self) -> u64 {
        self.read.load(Relaxed) + self.acknowledged.load(Relaxed)
    }
}

/// The kernel's send queue of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Backlog {
    /// Written bytes that the peer's kernel has not acknowledged.
    pub(super) unacknowledged: u64,
    /// The sent part of these. Zero when the peer does not read and its window is closed.
    pub(super) in_flight: u64,
}

/// Detects a stall from samples about a second apart.
#[derive(Debug)]
pub(super) struct Progress {
    acknowledged: u64,
    /// Since when bytes are in flight and none is acknowledged.
    waiting: Option<Instant>,
}

impl Progress {
    pub(super) fn new() -> Self {
        Progress { acknowledged: 0, waiting: None }
    }

    /// How long no sent byte has arrived; none while bytes arrive, or none is in flight.
    pub(super) fn sample(
        &mut self,
        now: Instant,
        flow: &Flow,
        backlog: Backlog,
    ) -> Option<Duration> {
        let acknowledged = flow.written.load(Relaxed).saturating_sub(backlog.unacknowledged);
        flow.acknowledged.store(acknowledged, Relaxed);
        if acknowledged != self.acknowledged || backlog.in_flight == 0 {
            self.acknowledged = acknowledged;
            self.waiting = None;
        }
        if backlog.in_flight == 0 {
            return None;
        }
        let since = *self.waiting.get_or_insert(now);
        Some(now.saturating_duration_since(since)).filter(|waited| !waited.is_zero())
    }
}

/// A second handle of a connection's socket, for its state and its options. The connection closes
/// when both are dropped.
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn of(stream: &tokio::net::TcpStream) -> io::Result<Self> {
        Ok(Socket(stream.as_fd().try_clone_to_owned()?))
    }

    /// None where the system does not report it; then no stall is detected.
    pub(super) fn backlog(&self) -> Option<Backlog> {
        let unacknowledged = kernel::unacknowledged(&self.0)?;
        let unsent = kernel::unsent(&self.0)?;
        Some(Backlog { unacknowledged, in_flight: unacknowledged.saturating_sub(unsent) })
    }

    /// Whether packets are longer than [`SMALL_SEGMENT`].
    pub(super) fn is_full_sized(&self) -> bool {
        SockRef::from(&self.0).tcp_mss().is_ok_and(|segment| segment > SMALL_SEGMENT)
    }

    /// Makes the close a reset: no queued bytes are sent, and the peer gets the end at once, in a
    /// small packet.
    pub(super) fn reset_on_close(&self) {
        // If this fails the kernel goes on retrying for minutes, which does no harm.
        let _ = SockRef::from(&self.0).set_linger(Some(Duration::ZERO));
    }
}

#[cfg(all(
    target_os = "linux",
    any(
        target_arch = "x86_64",
        target_arch = "x86",
        target_arch = "aarch64",
        target_arch = "arm",
        target_arch = "riscv64"
    )
))]
mod kernel {
    use std::ffi::c_int;
    use std::os::fd::OwnedFd;

    use rustix::ioctl::{Getter, Opcode, ioctl};

    /// `SIOCOUTQ` of these architectures: bytes that the peer has not acknowledged.
    const OUTQ: Opcode = 0x5411;
    /// `SIOCOUTQNSD`: bytes that were not sent yet.
    const OUTQ_NOT_SENT: Opcode = 0x894b;

    pub(super) fn unacknowledged(socket: &OwnedFd) -> Option<u64> {
        #[expect(unsafe_code, reason = "no library of ours knows SIOCOUTQ")]
        // SAFETY: on a TCP socket SIOCOUTQ writes one int, which `Getter` has room for.
        let bytes = unsafe { ioctl(socket, Getter::<OUTQ, c_int>::new()) };
        bytes.ok().and_then(|bytes| u64::try_from(bytes).ok())
    }

    pub(super) fn unsent(socket: &OwnedFd) -> Option<u64> {
        #[expect(unsafe_code, reason = "no library of ours knows SIOCOUTQNSD")]
        // SAFETY: on a TCP socket SIOCOUTQNSD writes one int, which `Getter` has room for.
        let bytes = unsafe { ioctl(socket, Getter::<OUTQ_NOT_SENT, c_int>::new()) };
        bytes.ok().and_then(|bytes| u64::try_from(bytes).ok())
    }
}

#[cfg(not(all(
    target_os = "linux",
    any(
        target_arch = "x86_64",
        target_arch = "x86",
        target_arch = "aarch64",
        target_arch = "arm",
        target_arch = "riscv64"
    )
)))]
mod kernel {
    use std::os::fd::OwnedFd;

    pub(super) fn unacknowledged(_: &OwnedFd) -> Option<u64> {
        None
    }

    pub(super) fn unsent(_: &OwnedFd) -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// 5 MB at 20 KB/s take four minutes, and some bytes arrive each second.
    #[test]
    fn a_slow_steady_transfer_is_no_stall() {
        let (mut progress, flow, start) = (Progress::new(), Flow::default(), Instant::now());
        flow.written.store(5_000_000, Relaxed);
        for second in 0..250u32 {
            let unacknowledged = 5_000_000 - u64::from(second) * 20_000;
            let backlog = Backlog { unacknowledged, in_flight: unacknowledged.min(30_000) };
            let waited = progress.sample(start + SECOND * second, &flow, backlog);
            assert_eq!(waited, None, "after {second} s");
        }
        assert_eq!(flow.moved(), 249 * 20_000);
    }

    /// Bytes are in flight and none is acknowledged: the waiting time grows until one is.
    #[test]
    fn sent_bytes_never_acknowledged_are_a_stall() {
        let (mut progress, flow, start) = (Progress::new(), Flow::default(), Instant::now());
        flow.written.store(100_300, Relaxed);
        let stuck = Backlog { unacknowledged: 100_000, in_flight: 14_600 };
        assert_eq!(progress.sample(start, &flow, stuck), None, "300 bytes have arrived");
        assert_eq!(progress.sample(start + SECOND * 5, &flow, stuck), Some(SECOND * 5));
        // More is written, and nothing arrives.
        flow.written.store(200_300, Relaxed);
        let more = Backlog { unacknowledged: 200_000, in_flight: 14_600 };
        assert_eq!(progress.sample(start + SECOND * 6, &flow, more), Some(SECOND * 6));
        let moving = Backlog { unacknowledged: 190_000, in_flight: 14_600 };
        assert_eq!(progress.sample(start + SECOND * 7, &flow, moving), None);
    }

    /// A peer that hangs or reads slowly closes its window: all sent bytes have arrived.
    #[test]
    fn peer_that_does_not_read_is_no_stall() {
        let (mut progress, flow, start) = (Progress::new(), Flow::default(), Instant::now());
        flow.written.store(100_000, Relaxed);
        let closed = Backlog { unacknowledged: 60_000, in_flight: 0 };
        for second in 0..60 {
            assert_eq!(progress.sample(start + SECOND * second, &flow, closed), None);
        }
    }

    /// Real sockets: the kernel reports the backlog, and the dialler's segment size at both ends.
    #[tokio::test]
    async fn kernel_reports_unacknowledged_bytes() {
        use tokio::io::AsyncWriteExt;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut full = crate::network::tcp::connect(address, None).await.unwrap();
        let _taken = listener.accept().await.unwrap();
        let socket = Socket::of(&full).unwrap();
        assert_eq!(socket.backlog(), Some(Backlog::default()));
        // The peer does not read, so at some time no write fits any more.
        while tokio::time::timeout(Duration::from_millis(200), full.write_all(&[0; 65_536]))
            .await
            .is_ok()
        {}
        assert!(socket.backlog().unwrap().unacknowledged > 0);
        assert!(socket.is_full_sized());
        let small = crate::network::tcp::connect(address, Some(SMALL_SEGMENT)).await.unwrap();
        let (taken, _) = listener.accept().await.unwrap();
        assert!(!Socket::of(&small).unwrap().is_full_sized());
        assert!(
            !Socket::of(&taken).unwrap().is_full_sized(),
            "the dialler's limit is for both ways"
        );
    }
}
