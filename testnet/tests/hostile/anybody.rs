//! Anybody: TCP connections, without a key and without the cluster's id.

use anyhow::{Result, ensure};
use shoal_testnet::hostile::{Flood, Target, connect, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Duration, sleep};

use super::scene::{Scene, outside};

/// Connections at a time of the flood, against each node.
const FLOOD: usize = 1000;

/// Bytes that are no handshake, a handshake that stops, and lengths that no handshake has: each of
/// them is hung up on.
#[test]
fn broken_handshakes_are_hung_up_on() {
    Scene::run(false, |scene| {
        let before = scene.count("net_connections_refused")?;
        let targets = scene.targets.clone();
        let tried = scene.during("broken handshakes", async move {
            let mut all = tokio::task::JoinSet::new();
            for target in targets {
                for (number, bytes) in openings().into_iter().enumerate() {
                    all.spawn(is_hung_up_on(target, number as u8 + 2, bytes));
                }
                all.spawn(drip(target));
            }
            let tried = all.len() as u64;
            for ended in all.join_all().await {
                ended?;
            }
            Ok(tried)
        })?;
        // Carriers and operators that do not go on are counted by others.
        let refused = scene.count("net_connections_refused")? - before;
        ensure!(refused >= tried / 2, "{refused} of {tried} were counted");

        let targets = scene.targets.clone();
        let (rest, attacker) = (FLOOD * scene.targets.len(), scene.attacker.clone());
        scene.during("a flood from one address", async move {
            let flood = Flood::start(&attacker, targets, FLOOD, 1)?;
            // Most of them are hung up on at once, and come again.
            while flood.made() < 2 * rest {
                sleep(Duration::from_millis(20)).await;
            }
            Ok(())
        })?;
        let evicted = scene.count("net_handshakes_strangers_share")?
            + scene.count("net_handshakes_strangers_silent")?
            + scene.count("net_handshakes_strangers_full")?;
        ensure!(evicted > 0, "nobody made room");
        Ok(())
    });
}

/// First bytes after which nothing follows.
fn openings() -> Vec<Vec<u8>> {
    let header = b"\x13/multistream/1.0.0\n".to_vec();
    let noise = [header.as_slice(), b"\x07/noise\n"].concat();
    vec![
        Vec::new(),
        b"GET / HTTP/1.1\r\nHost: shoal\r\n\r\n".to_vec(),
        vec![0xff; 4096],
        header.clone(),
        // A line of 256 MiB.
        vec![0xff, 0xff, 0xff, 0x7f],
        [header.as_slice(), &[0xff; 64]].concat(),
        noise.clone(),
        // A handshake message of 64 KiB, of which one byte comes.
        [noise.as_slice(), &[0xff, 0xff, 1]].concat(),
        [noise.as_slice(), &[0, 32], &[7; 32]].concat(),
        b"\0".to_vec(),
        b"\0nothing!".to_vec(),
        b"\0carrier1".to_vec(),
        [b"\0carrier1".as_slice(), &[0xff; 600]].concat(),
        b"\0operate1".to_vec(),
        [b"\0operate1".as_slice(), &[0xff; 600]].concat(),
    ]
}

async fn is_hung_up_on(target: Target, last: u8, bytes: Vec<u8>) -> Result<()> {
    let mut stream = connect(outside(last), target.address).await?;
    // A node that hangs up at once refuses the rest.
    let _ = stream.write_all(&bytes).await;
    let end = async { while stream.read(&mut [0; 1024]).await.is_ok_and(|read| read > 0) {} };
    within(&format!("an end after {:?}", &bytes[..bytes.len().min(24)]), end).await
}

/// A byte now and then does not keep a place.
async fn drip(target: Target) -> Result<()> {
    let mut stream = connect(outside(99), target.address).await?;
    let drip = async {
        for byte in b"\x13/multistream/1.0.0\n\x07/noise\n".iter().cycle() {
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    within("an end of a drip", drip).await
}
