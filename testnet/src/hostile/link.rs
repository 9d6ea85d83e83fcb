//! A link: the two lanes of a connection, and the greetings with which a member is let in.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use shoal_protocol::model::spec::Facts;
use shoal_protocol::model::{Chain, Digest, Key, Lane, NodeRecord, RawChange, Signed};
use shoal_protocol::node::Message;
use shoal_protocol::{membership, wire};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::gossip::{self, Gossip};
use super::{Attacker, Connection, Stream, Target, within};

/// Messages of the node that wait to be looked at. Beyond, they are dropped.
const MAX_HEARD: usize = 16 * 1024;
/// How often a member shows that it lives.
const BEAT: Duration = Duration::from_millis(300);
/// Above every incarnation that a daemon of a test had. It grows with each link, as with each
/// start: a member that was called down counts again.
static INCARNATION: AtomicU64 = AtomicU64::new(1000);
/// The pause before a link is tried again.
const AGAIN: Duration = Duration::from_millis(20);

/// A link to a node, as far as the node takes it for one.
pub struct Link {
    /// The connection beneath it.
    pub connection: Connection,
    attacker: Attacker,
    urgent: Writer,
    bulk: Writer,
    heard: mpsc::Receiver<Message>,
    /// End with the link.
    tasks: JoinSet<()>,
}

type Writer = Arc<Mutex<WriteHalf<Stream>>>;

impl Link {
    /// Connects and makes the lanes, without a word.
    pub async fn open(attacker: &Attacker, target: &Target) -> Result<Link> {
        within("a link", Self::opened(attacker, target)).await?
    }

    async fn opened(attacker: &Attacker, target: &Target) -> Result<Link> {
        let mut connection = Connection::dial(attacker, target).await?;
        let (hears, heard) = mpsc::channel(MAX_HEARD);
        let names = [attacker.protocol("urgent/1"), attacker.protocol("bulk/1")];
        // The lower id opens the lanes.
        let lanes = if attacker.node() < target.node {
            [connection.select(&names[0]).await?, connection.select(&names[1]).await?]
        } else {
            let mut lanes = [None, None];
            while lanes.iter().any(Option::is_none) {
                let arrived = connection.arrived.recv().await;
                let (name, stream) = arrived.context("the node hung up before the lanes")?;
                match names.iter().position(|own| *own == name) {
                    Some(lane) => lanes[lane] = Some(stream),
                    None => _ = tokio::spawn(gossip::hear(stream, hears.clone())),
                }
            }
            lanes.map(|lane| lane.expect("both have come"))
        };
        let [urgent, bulk] = lanes.map(AsyncReadExt::split);
        let (urgent_out, bulk_out) = (Arc::new(Mutex::new(urgent.1)), Arc::new(Mutex::new(bulk.1)));
        let mut tasks = JoinSet::new();
        for lane in [urgent.0, bulk.0] {
            tasks.spawn(hear(lane, urgent_out.clone(), hears.clone()));
        }
        // Later streams are gossip.
        let (ended, mut arrived) = mpsc::channel(1);
        drop(ended);
        std::mem::swap(&mut arrived, &mut connection.arrived);
        tasks.spawn(async move {
            while let Some((_, stream)) = arrived.recv().await {
                tokio::spawn(gossip::hear(stream, hears.clone()));
            }
        });
        let attacker = attacker.clone();
        Ok(Link { connection, attacker, urgent: urgent_out, bulk: bulk_out, heard, tasks })
    }

    /// As [`Link::open`], again and again: a node that has not noticed yet that the last link is
    /// gone keeps that one.
    pub async fn open_anew(attacker: &Attacker, target: &Target) -> Result<Link> {
        let tried = async {
            loop {
                match Self::opened(attacker, target).await {
                    Ok(link) => return link,
                    Err(_) => sleep(AGAIN).await,
                }
            }
        };
        within("a new link", tried).await
    }

    /// A link on which the node takes the attacker for the member that it was.
    pub async fn as_member(attacker: &Attacker, target: &Target) -> Result<Link> {
        let mut link = Self::open_anew(attacker, target).await?;
        let lineage = link.lineage().await?;
        link.greet(lineage).await?;
        Ok(link)
    }

    /// Greets as a member, with the admission that shows it, and lives on as one.
    pub async fn greet(&mut self, lineage: Vec<RawChange>) -> Result<()> {
        let revocations = Digest([0; 32]);
        self.send(Lane::Urgent, &Message::Greet { lineage, revocations }).await?;
        // No node holds revocations with that digest, so it says what it knows, and asks.
        self.answer_revocations().await?;
        let incarnation = INCARNATION.fetch_add(1, Ordering::Relaxed);
        let record = Some(self.record(incarnation, Vec::new()).wire());
        let hello = membership::Message::Hello { record, settled: true };
        self.send(Lane::Urgent, &Message::Membership(hello)).await?;
        self.tasks.spawn(live(self.urgent.clone()));
        Ok(())
    }

    /// The member's own admission. A member that asks to be admitted gets it once more.
    pub async fn lineage(&mut self) -> Result<Vec<RawChange>> {
        let record = self.record(1, Vec::new()).wire();
        self.send(Lane::Urgent, &Message::Join { record, chain: Chain::default() }).await?;
        loop {
            match self.next().await?.context("it was hung up on")? {
                Message::Admitted { changes } => {
                    let own = Key::Member(self.attacker.node());
                    let is_own =
                        |raw: &RawChange| raw.change.peek().is_ok_and(|body| body.key == own);
                    return Ok(changes.into_iter().filter(is_own).collect());
                }
                Message::NotAdmitted { why, .. } => bail!("it is not let in: {why}"),
                _ => {}
            }
        }
    }

    async fn answer_revocations(&mut self) -> Result<()> {
        loop {
            match self.next().await?.context("it was hung up on")? {
                // The door was opened by the admission already.
                Message::Greet { .. } => {
                    let answer = false;
                    let none = Message::Revocations { changes: Vec::new(), more: false, answer };
                    return self.send(Lane::Urgent, &none).await;
                }
                Message::NotAdmitted { why, .. } => bail!("it is not let in: {why}"),
                _ => {}
            }
        }
    }

    /// A record of the attacker with this counter.
    pub fn record(&self, counter: u64, addresses: Vec<String>) -> Signed<NodeRecord> {
        let record = NodeRecord {
            counter,
            incarnation: counter,
            name: "stolen".into(),
            addresses,
            facts: Facts { arch: "x86_64".into(), ..Facts::default() },
            version: "9.0.0".into(),
            ready: false,
            leaving: false,
            no_way_to: Vec::new(),
        };
        Signed::sign(record, &self.attacker.keys, &self.attacker.cluster())
    }

    /// Sends a message.
    pub async fn send(&mut self, lane: Lane, message: &Message) -> Result<()> {
        self.send_frame(lane, &wire::encode(message)).await
    }

    /// Sends a frame of any content.
    pub async fn send_frame(&mut self, lane: Lane, frame: &[u8]) -> Result<()> {
        let length = u32::try_from(frame.len()).context("a frame of 4 GiB")?;
        self.send_bytes(lane, &[&length.to_be_bytes(), frame].concat()).await
    }

    /// Sends bytes, framed or not.
    pub async fn send_bytes(&mut self, lane: Lane, bytes: &[u8]) -> Result<()> {
        let stream = match lane {
            Lane::Urgent => &self.urgent,
            Lane::Bulk => &self.bulk,
        };
        Ok(within("bytes to a node", write(stream, bytes)).await??)
    }

    /// The next message of the node, also by gossip; none when it has hung up.
    pub async fn next(&mut self) -> Result<Option<Message>> {
        within("a message of the node", self.heard.recv()).await
    }

    /// The messages that have come until now.
    pub fn heard(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.heard.try_recv().ok()).collect()
    }

    /// A stream of gossip beside the lanes.
    pub async fn gossip(&self) -> Result<Gossip> {
        Ok(within("gossip", Gossip::open(&self.attacker, &self.connection)).await??)
    }
}

/// Passes on what the node says, and answers when it asks for a sign of life.
async fn hear(mut lane: ReadHalf<Stream>, urgent: Writer, heard: mpsc::Sender<Message>) {
    while let Ok(frame) = read_frame(&mut lane).await {
        let Ok(message) = wire::decode(&frame) else { continue };
        if let Message::Membership(membership::Message::Probe { seq, .. }) = message {
            let answer = membership::Message::Answer { seq, lag_ms: 0 };
            let _ = write(&urgent, &framed(&Message::Membership(answer))).await;
        }
        let _ = heard.try_send(message);
    }
}

/// Sends beats until the link ends.
async fn live(urgent: Writer) {
    let beat = membership::Message::Beat { lag_ms: 0, view: 0 };
    let beat = framed(&Message::Membership(beat));
    while write(&urgent, &beat).await.is_ok() {
        sleep(BEAT).await;
    }
}

async fn write(lane: &Writer, bytes: &[u8]) -> io::Result<()> {
    let mut lane = lane.lock().await;
    lane.write_all(bytes).await?;
    lane.flush().await
}

fn framed(message: &Message) -> Vec<u8> {
    let frame = wire::encode(message);
    let length = u32::try_from(frame.len()).expect("a message is shorter than 4 GiB");
    [&length.to_be_bytes(), frame.as_slice()].concat()
}

async fn read_frame(lane: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut header = [0; 4];
    lane.read_exact(&mut header).await?;
    let length = usize::try_from(u32::from_be_bytes(header)).map_err(io::Error::other)?;
    if length > wire::MAX_MESSAGE {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut frame = vec![0; length];
    lane.read_exact(&mut frame).await?;
    Ok(frame)
}
