//! The keys with which an operator leaves a program that gets every key: Ctrl-P Ctrl-Q, as docker
//! has them.

use tokio::sync::{mpsc, oneshot};

const CTRL_P: u8 = 0x10;
const CTRL_Q: u8 = 0x11;
/// Pieces of input between the terminal and the session.
const WAITING: usize = 8;

/// Looks for the keys in a stream of them.
#[derive(Default)]
struct Keys {
    /// The last key was the first of the two: it is kept back until the next one.
    is_begun: bool,
}

impl Keys {
    /// The keys for the program, and whether the operator leaves behind them.
    fn take(&mut self, keys: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(keys.len() + 1);
        for key in keys {
            match (self.is_begun, *key) {
                (true, CTRL_Q) => return (out, true),
                (true, CTRL_P) => out.push(CTRL_P),
                (true, key) => {
                    out.extend([CTRL_P, key]);
                    self.is_begun = false;
                }
                (false, CTRL_P) => self.is_begun = true,
                (false, key) => out.push(key),
            }
        }
        (out, false)
    }
}

/// Input for a program, and the moment at which the operator leaves it. Keys are looked for only
/// with `keys`. The end of the input ends nothing: the program's own stays open.
pub fn watched(
    mut input: mpsc::Receiver<Vec<u8>>,
    keys: bool,
) -> (mpsc::Receiver<Vec<u8>>, oneshot::Receiver<()>) {
    let (sender, watched) = mpsc::channel(WAITING);
    let (leave, left) = oneshot::channel();
    tokio::spawn(async move {
        let mut watch = Keys::default();
        while let Some(piece) = input.recv().await {
            let (piece, leaves) = if keys { watch.take(&piece) } else { (piece, false) };
            if leaves {
                let _ = leave.send(());
                return;
            }
            if sender.send(piece).await.is_err() {
                return;
            }
        }
        // Kept, so that no end of the input is told.
        sender.closed().await;
    });
    (watched, left)
}

/// Returns when the operator leaves; never when the input ends before.
pub async fn asked(left: &mut oneshot::Receiver<()>) {
    if left.await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two keys may come in pieces of their own; either alone is the program's.
    #[test]
    fn both_keys_in_a_row_leave() {
        let mut keys = Keys::default();
        assert_eq!(keys.take(b"ls"), (b"ls".to_vec(), false));
        assert_eq!(keys.take(&[CTRL_Q, b'a', CTRL_P]), (vec![CTRL_Q, b'a'], false));
        assert_eq!(keys.take(b"b"), (vec![CTRL_P, b'b'], false));
        assert_eq!(keys.take(&[CTRL_P, CTRL_P]), (vec![CTRL_P], false));
        assert_eq!(keys.take(&[CTRL_Q, b'c']), (vec![], true));
    }
}
