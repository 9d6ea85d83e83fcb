//! A cable that delays and loses packets: two TAP interfaces, between which threads copy each
//! frame. For kernels without netem, and for losses that netem cannot make.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rustix::ioctl::{Setter, ioctl, opcode};

use super::net::Weather;

/// The most frames in flight, each of at most [`FRAME`] bytes: as many as netem holds. Further
/// frames are lost.
const MAX_IN_FLIGHT: usize = 1000;
/// Bytes of a buffer, more than an Ethernet frame of the usual size.
const FRAME: usize = 2048;

/// A wire between two interfaces. Delete these before it is dropped, since that ends its threads.
pub(super) struct Wire {
    threads: Vec<JoinHandle<()>>,
}

impl Wire {
    /// Makes both interfaces, down, in the calling thread's namespace. Frames from `near` to `far`
    /// are delayed and lost as `weather` says; frames the other way pass at once.
    pub(super) fn new(near: &str, far: &str, weather: Weather, seed: u64) -> Result<Self> {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let there = move |_: &[u8]| {
            let is_lost = chance.next_u32() % 1000 < u32::from(weather.lost_per_mille);
            (!is_lost).then_some(weather.delay)
        };
        Self::between(near, far, there, |_: &[u8]| Some(Duration::ZERO))
    }

    /// As [`Wire::new`], but only frames that the black hole drops are lost, both ways.
    pub(super) fn with_hole(near: &str, far: &str, hole: &Arc<BlackHole>) -> Result<Self> {
        let rule =
            |hole: Arc<BlackHole>| move |frame: &[u8]| hole.passes(frame).then_some(Duration::ZERO);
        Self::between(near, far, rule(hole.clone()), rule(hole.clone()))
    }

    fn between(near: &str, far: &str, there: impl FrameRule, back: impl FrameRule) -> Result<Self> {
        let (near, far) = (tap(near)?, tap(far)?);
        let copy = |file: &File| file.try_clone().context("cannot share a TAP interface");
        let there = carry(copy(&near)?, copy(&far)?, there);
        let back = carry(far, near, back);
        Ok(Wire { threads: there.into_iter().chain(back).collect() })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for thread in self.threads.drain(..) {
            // The threads do not panic; if one did, it has ended as well.
            let _ = thread.join();
        }
    }
}

/// A path between two addresses that silently loses long packets.
#[derive(Debug)]
pub(super) struct BlackHole {
    between: [Ipv4Addr; 2],
    /// Bytes of the longest IP packet that passes.
    longest: usize,
    lost: AtomicU64,
    passed: AtomicU64,
}

impl BlackHole {
    pub(super) fn new(between: [Ipv4Addr; 2], longest: usize) -> Arc<Self> {
        Arc::new(BlackHole { between, longest, lost: AtomicU64::new(0), passed: AtomicU64::new(0) })
    }

    /// Packets that were lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Bytes that passed between the two so far.
    pub(super) fn passed(&self) -> u64 {
        self.passed.load(Relaxed)
    }

    fn passes(&self, frame: &[u8]) -> bool {
        const HEADER: usize = 14;
        let packet = frame.get(HEADER..).unwrap_or_default();
        let address =
            |at: usize| <[u8; 4]>::try_from(packet.get(at..at + 4)?).ok().map(Ipv4Addr::from);
        let is_ipv4 = frame.get(12..HEADER) == Some(&[8, 0]);
        let ends = (address(12), address(16));
        let [one, other] = self.between.map(Some);
        if !is_ipv4 || (ends != (one, other) && ends != (other, one)) {
            return true;
        }
        let passes = packet.len() <= self.longest;
        if passes {
            self.passed.fetch_add(packet.len() as u64, Relaxed);
        } else {
            self.lost.fetch_add(1, Relaxed);
        }
        passes
    }
}

/// The delay of a frame; none when it is lost.
trait FrameRule: FnMut(&[u8]) -> Option<Duration> + Send + 'static {}

impl<T: FnMut(&[u8]) -> Option<Duration> + Send + 'static> FrameRule for T {}

/// Starts two threads: one reads frames, the other writes each when its delay is over.
fn carry(from: File, to: File, rule: impl FrameRule) -> [JoinHandle<()>; 2] {
    let (sender, receiver) = sync_channel::<(Instant, Vec<u8>)>(MAX_IN_FLIGHT);
    let taking = std::thread::spawn(move || take(from, rule, &sender));
    let letting = std::thread::spawn(move || {
        let mut to = to;
        for (due, frame) in receiver {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // An interface that is down takes no frame: it is lost, as on a cable.
            let _ = to.write(&frame);
        }
    });
    [taking, letting]
}

fn take(mut from: File, mut rule: impl FrameRule, sender: &SyncSender<(Instant, Vec<u8>)>) {
    let mut frame = vec![0; FRAME];
    // An error means that the interface is gone.
    while let Ok(length) = from.read(&mut frame) {
        let Some(delay) = rule(&frame[..length]) else { continue };
        let (due, frame) = (Instant::now() + delay, frame[..length].to_vec());
        if let Err(std::sync::mpsc::TrySendError::Disconnected(_)) = sender.try_send((due, frame)) {
            return;
        }
    }
}

/// The kernel's `struct ifreq`, as TUNSETIFF reads it.
#[repr(C)]
struct Request {
    name: [u8; 16],
    flags: u16,
    _rest: [u8; 22],
}

const IFF_TAP: u16 = 2;
/// Frames come without a header of four bytes.
const IFF_NO_PI: u16 = 0x1000;

/// Makes a TAP interface, which exists as long as the file is open.
fn tap(name: &str) -> Result<File> {
    const PATH: &str = "/dev/net/tun";
    let file = File::options().read(true).write(true).open(PATH).with_context(|| {
        format!(
            "cannot open {PATH}: without netem, late and lost packets need the kernel's TUN \
            driver (modprobe tun)"
        )
    })?;
    ensure!(name.len() < 16, "{name} is too long for a network interface");
    let mut request = Request { name: [0; 16], flags: IFF_TAP | IFF_NO_PI, _rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    #[expect(unsafe_code, reason = "no library of ours knows TUNSETIFF")]
    // SAFETY: the opcode is TUNSETIFF, `_IOW('T', 202, int)`, which reads a `struct ifreq`;
    // `Request` has its layout and size (40 bytes on every 64-bit target; 32 are read elsewhere).
    unsafe {
        ioctl(
            file.as_fd(),
            Setter::<{ opcode::write::<std::ffi::c_int>(b'T', 202) }, Request>::new(request),
        )
    }
    .with_context(|| format!("cannot make the TAP interface {name}"))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: [u8; 2], from: [u8; 4], to: [u8; 4], bytes: usize) -> Vec<u8> {
        let mut frame = vec![0; 14 + bytes];
        frame[12..14].copy_from_slice(&kind);
        frame[14 + 12..14 + 16].copy_from_slice(&from);
        frame[14 + 16..14 + 20].copy_from_slice(&to);
        frame
    }

    #[test]
    fn black_hole_drops_long_packets_of_its_path_only() {
        let (one, other, third) = ([198, 18, 7, 11], [198, 18, 7, 12], [198, 18, 7, 13]);
        let hole = BlackHole::new([one.into(), other.into()], 1_000);
        assert!(hole.passes(&frame([8, 0], one, other, 1_000)));
        assert!(!hole.passes(&frame([8, 0], one, other, 1_001)));
        assert!(!hole.passes(&frame([8, 0], other, one, 1_500)));
        assert!(hole.passes(&frame([8, 0], one, third, 1_500)));
        assert!(hole.passes(&frame([8, 6], one, other, 1_500)), "no IPv4");
        assert!(hole.passes(&[0; 10]));
        assert_eq!((hole.lost(), hole.passed()), (2, 1_000));
    }
}
