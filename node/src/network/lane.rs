//! The queue of frames for one of a link's two streams, bounded in number and bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Queued frames. For a peer that is this far behind another lost one does not matter: important
/// messages are repeated, or repaired by anti-entropy.
const MAX_FRAMES: usize = 256;
/// Queued bytes, which bounds the memory for many slow peers. One frame always fits.
const MAX_BYTES: usize = 1024 * 1024;
/// Bytes written at once: small messages share a packet, large ones go alone, so that the other
/// lane is written between them.
const MAX_WRITE: usize = 16 * 1024;

/// Bytes of the length before each frame.
pub(super) const HEADER: usize = 4;

#[derive(Debug, Default)]
pub(super) struct LaneQueue {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    frames: VecDeque<Vec<u8>>,
    bytes: usize,
    closed: bool,
}

impl LaneQueue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a frame; false when the queue is full or closed.
    pub(super) fn push(&self, frame: Vec<u8>) -> bool {
        let mut waiting = self.lock();
        let full = waiting.frames.len() == MAX_FRAMES
            || (waiting.bytes + frame.len() > MAX_BYTES && !waiting.frames.is_empty());
        if waiting.closed || full {
            return false;
        }
        waiting.bytes += frame.len();
        waiting.frames.push_back(frame);
        drop(waiting);
        self.wake.notify_one();
        true
    }

    /// Accepts no more frames. Queued ones are still written.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.wake.notify_one();
    }

    /// Waits for a frame, writes the next frames into `out`, each after its length, and returns how
    /// many. None when closed and empty.
    pub(super) async fn take(&self, out: &mut Vec<u8>) -> Option<usize> {
        out.clear();
        loop {
            let woken = self.wake.notified();
            {
                let mut waiting = self.lock();
                let mut taken = 0;
                while let Some(frame) = waiting.frames.front() {
                    if !out.is_empty() && out.len() + HEADER + frame.len() > MAX_WRITE {
                        break;
                    }
                    let length = u32::try_from(frame.len()).expect("frames are far below 4 GiB");
                    out.extend_from_slice(&length.to_be_bytes());
                    out.extend_from_slice(frame);
                    let frame = waiting.frames.pop_front().expect("it was just looked at");
                    waiting.bytes -= frame.len();
                    taken += 1;
                }
                if taken > 0 {
                    return Some(taken);
                }
                if waiting.closed {
                    return None;
                }
            }
            woken.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small messages share packets; a large one must not delay the other lane further.
    #[tokio::test]
    async fn small_frames_share_a_write_large_ones_do_not() {
        let queue = LaneQueue::default();
        assert!(
            queue.push(vec![1; 10])
                && queue.push(vec![2; 20])
                && queue.push(vec![3; 40_000])
                && queue.push(vec![4])
        );
        let mut out = Vec::new();
        assert_eq!(queue.take(&mut out).await, Some(2));
        assert_eq!(out.len(), 10 + 20 + 2 * HEADER);
        assert_eq!(&out[..5], [0, 0, 0, 10, 1]);
        assert_eq!((queue.take(&mut out).await, out.len()), (Some(1), 40_000 + HEADER));
        queue.close();
        assert!(!queue.push(vec![5]), "closed");
        assert_eq!((queue.take(&mut out).await, queue.take(&mut out).await), (Some(1), None));
    }

    /// The bounds hold in number and in bytes, and one frame always fits.
    #[test]
    fn full_queue_refuses_frames() {
        let queue = LaneQueue::default();
        assert_eq!((0..MAX_FRAMES + 5).filter(|_| queue.push(vec![0; 8])).count(), MAX_FRAMES);
        let queue = LaneQueue::default();
        let frame = MAX_BYTES / 4;
        assert_eq!((0..9).filter(|_| queue.push(vec![0; frame])).count(), 4);
        let queue = LaneQueue::default();
        assert!(queue.push(vec![0; MAX_BYTES + 1]), "one frame always fits");
    }
}
