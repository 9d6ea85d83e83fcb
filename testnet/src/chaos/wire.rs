//! A cable on which packets are late and lost, for kernels without netem: two TAP interfaces, and between them we carry
//! each frame ourselves.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use rustix::ioctl::{Setter, ioctl, opcode};

use super::net::Weather;

/// Frames on the way at a time, each at most [`FRAME`] bytes: what netem would hold. Beyond, they are lost.
const ON_THE_WAY: usize = 1000;
/// More than an Ethernet frame of the usual size.
const FRAME: usize = 2048;

/// The wire, as long as its interfaces are there. Delete these before it is dropped: that is what ends its threads.
pub(super) struct Wire {
    threads: Vec<JoinHandle<()>>,
}

impl Wire {
    /// Makes both interfaces, down, in the calling thread's namespace. What enters `near` meets the weather and leaves at
    /// `far`; the other way it passes at once.
    pub(super) fn new(near: &str, far: &str, weather: Weather, seed: u64) -> Result<Self> {
        let (near, far) = (tap(near)?, tap(far)?);
        let copy = |file: &File| file.try_clone().context("cannot share a TAP interface");
        let calm = Weather { delay: Duration::ZERO, lost_per_mille: 0 };
        let there = carry(copy(&near)?, copy(&far)?, weather, seed);
        let back = carry(far, near, calm, seed);
        Ok(Wire { threads: there.into_iter().chain(back).collect() })
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for thread in self.threads.drain(..) {
            // None of them panics; if one did, there is nothing to wait for.
            let _ = thread.join();
        }
    }
}

/// Two threads: one takes frames in, the other lets each out when its time has come.
fn carry(from: File, to: File, weather: Weather, seed: u64) -> [JoinHandle<()>; 2] {
    let (sender, receiver) = sync_channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let taking = std::thread::spawn(move || take(from, weather, &mut ChaCha8Rng::seed_from_u64(seed), &sender));
    let letting = std::thread::spawn(move || {
        let mut to = to;
        for (due, frame) in receiver {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            // An interface that is down takes none: as with a cable, it is lost.
            let _ = to.write(&frame);
        }
    });
    [taking, letting]
}

fn take(mut from: File, weather: Weather, chance: &mut ChaCha8Rng, sender: &SyncSender<(Instant, Vec<u8>)>) {
    let mut frame = vec![0; FRAME];
    // An error means that the interface is gone.
    while let Ok(length) = from.read(&mut frame) {
        if chance.next_u32() % 1000 < u32::from(weather.lost_per_mille) {
            continue;
        }
        let (due, frame) = (Instant::now() + weather.delay, frame[..length].to_vec());
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
/// Frames come as they are, without four bytes about them.
const IFF_NO_PI: u16 = 0x1000;

/// A new TAP interface; it is there as long as the file is open.
fn tap(name: &str) -> Result<File> {
    const PATH: &str = "/dev/net/tun";
    let file = File::options().read(true).write(true).open(PATH).with_context(|| {
        format!("cannot open {PATH}: without netem, late and lost packets need the kernel's TUN driver (modprobe tun)")
    })?;
    ensure!(name.len() < 16, "{name} is too long for a network interface");
    let mut request = Request { name: [0; 16], flags: IFF_TAP | IFF_NO_PI, _rest: [0; 22] };
    request.name[..name.len()].copy_from_slice(name.as_bytes());
    #[expect(unsafe_code, reason = "no library of ours knows TUNSETIFF")]
    // SAFETY: the opcode is TUNSETIFF, `_IOW('T', 202, int)`, which reads a `struct ifreq`; `Request` has its layout and
    // size (40 bytes on every 64-bit target; 32 are read elsewhere).
    unsafe { ioctl(file.as_fd(), Setter::<{ opcode::write::<std::ffi::c_int>(b'T', 202) }, Request>::new(request)) }
        .with_context(|| format!("cannot make the TAP interface {name}"))?;
    Ok(file)
}
