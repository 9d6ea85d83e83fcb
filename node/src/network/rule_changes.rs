//! Tells when the rules of the device's firewall change, whoever changes them.

use std::time::Duration;

use futures::FutureExt;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, TokioSocket};
use tokio::time::{Instant, sleep_until};

/// Time from a change to a look: a firewall that reloads makes many.
const LOOK_AFTER: Duration = Duration::from_millis(500);
/// Time between two looks where the kernel does not tell of changes.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// The kernel's number of netlink for its firewall.
const NETFILTER: isize = 12;
/// The group that is told of changes of rules, as a bit: `NFNLGRP_NFTABLES` is 7.
const CHANGES: u32 = 1 << 6;
/// Bytes of a message that are read; only that there is one counts.
const MESSAGE: usize = 4 * 1024;

/// Changes of the device's rules, as the kernel tells them.
pub struct RuleChanges {
    socket: Option<TokioSocket>,
    look_at: Option<Instant>,
}

impl RuleChanges {
    /// Listens from now on.
    pub fn new() -> RuleChanges {
        let socket = TokioSocket::new(NETFILTER).and_then(|mut socket| {
            socket.socket_mut().bind(&rtnetlink::sys::SocketAddr::new(0, CHANGES))?;
            Ok(socket)
        });
        RuleChanges { socket: socket.ok(), look_at: None }
    }

    /// Returns when it is time to look whether own rules are still there. Cancellation loses
    /// nothing.
    pub async fn look_is_due(&mut self) {
        let mut buffer = vec![0; MESSAGE];
        let at = match (self.look_at, &self.socket) {
            (Some(at), _) => at,
            (None, None) => Instant::now() + LOOK_EVERY,
            (None, Some(socket)) => {
                // An error: some were lost.
                let _ = socket.recv(&mut &mut buffer[..]).await;
                Instant::now() + LOOK_AFTER
            }
        };
        self.look_at = Some(at);
        sleep_until(at).await;
        self.look_at = None;
        if let Some(socket) = &self.socket {
            while let Some(Ok(())) = socket.recv(&mut &mut buffer[..]).now_or_never() {}
        }
    }
}
