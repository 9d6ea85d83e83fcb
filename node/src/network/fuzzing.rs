//! Targets: the frames of a link, the packets of the local network.

use std::sync::atomic::AtomicU32;

use futures::FutureExt;
use shoal_protocol::fuzzing::Target;
use shoal_protocol::model::{Digest, NodeId};
use shoal_protocol::node::{Input, Message};
use shoal_protocol::wire;
use tokio::sync::mpsc;

use super::counters::NetCounters;
use super::roster::Members;
use super::{link, mdns, names};

/// The bytes that a peer writes on a stream of messages.
pub const LINK: Target = Target { name: "link", run: run_link, seeds: link_seeds, most: 4_096 };
/// The packets that anybody in the local network sends, and the addresses of nodes as text.
pub const MDNS: Target =
    Target { name: "mdns", run: run_mdns, seeds: mdns::fuzzing::seeds, most: 1_500 };

const PEER: NodeId = NodeId([5; 32]);
/// A message has five bytes at least, so there are never more.
const INBOX: usize = LINK.most / 5 + 16;

fn run_link(data: &[u8]) {
    let (inbox, mut inputs) = mpsc::channel(INBOX);
    let (counters, garbage) = (NetCounters::default(), AtomicU32::new(0));
    let (greetings, (roster, members)) = (AtomicU32::new(0), Members::new());
    // As a member, which may say everything.
    roster.send_replace([PEER].into_iter().collect());
    let reader = link::Reader {
        peer: PEER,
        inbox,
        counters: &counters,
        garbage: &garbage,
        greetings: &greetings,
        members: &members,
    };
    let ended = reader.run(data).now_or_never();
    assert!(ended.is_some(), "it waits for more than the stream has");
    while let Ok(input) = inputs.try_recv() {
        if let Input::Message { message, .. } = input {
            let bytes = wire::encode(&message);
            assert!(bytes.len() <= wire::MAX_MESSAGE, "it grew: {} bytes", bytes.len());
        }
    }
}

fn link_seeds() -> Vec<Vec<u8>> {
    let digest = Digest([6; 32]);
    let messages =
        [Message::AskHolder { digest }, Message::Have { node: PEER, digest }].map(|message| {
            let frame = wire::encode(&message);
            let length = u32::try_from(frame.len()).expect("a few bytes").to_be_bytes();
            [&length[..], &frame].concat()
        });
    let newer = vec![0, 0, 0, 3, wire::VERSION, 200, 1];
    vec![messages.concat(), [newer.clone(), messages.concat(), newer].concat()]
}

fn run_mdns(data: &[u8]) {
    mdns::fuzzing::run(data);
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(address) = names::parse(text)
    {
        let shown = names::show(&address);
        assert_eq!(names::socket(&address), names::parse(&shown).as_ref().and_then(names::socket));
    }
}
