//! The frames of pieces, as either end reads them.

use futures::FutureExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shoal_protocol::model::{Digest, codec};
use tokio::io::{join, sink};

use super::wire::{Answer, Ask, BLOCK, Frames};
use crate::network::MeshStream;

/// The bytes are those of an asking node.
pub fn asks(bytes: &[u8]) {
    all::<Ask>(bytes);
}

/// The bytes are those of a node that was asked.
pub fn answers(bytes: &[u8]) {
    for answer in all::<Answer>(bytes) {
        match answer {
            Answer::Here(named) => assert!(named.len() <= BLOCK + 1_024, "{}", named.len()),
            Answer::Block { bytes, .. } => assert!(bytes.0.len() <= BLOCK + 1_024),
            Answer::All | Answer::Taken(_) | Answer::Missing | Answer::Busy => {}
        }
    }
}

fn all<T: DeserializeOwned>(bytes: &[u8]) -> Vec<T> {
    let stream = MeshStream::new(join(std::io::Cursor::new(bytes.to_vec()), sink()));
    let (mut frames, mut read) = (Frames::new(stream), Vec::new());
    while let Ok(Some(frame)) = frames.next::<T>().now_or_never().expect("no byte is to come") {
        read.push(frame);
        assert!(read.len() <= bytes.len() / 4, "more frames than bytes");
    }
    read
}

/// Asks, and answers.
pub fn seeds() -> [Vec<u8>; 2] {
    let asks = [
        Ask::Open { digest: Digest([6; 32]), size: 9 << 20 },
        Ask::Get { index: 3, insist: false },
        Ask::Get { index: u32::MAX, insist: true },
    ];
    let answers = [
        Answer::All,
        Answer::Here(vec![0, 1, 70_000]),
        Answer::Block { index: 3, bytes: codec::Bytes(vec![9; 100]) },
        Answer::Taken(4),
        Answer::Missing,
        Answer::Busy,
    ];
    [asks.iter().flat_map(framed).collect(), answers.iter().flat_map(framed).collect()]
}

fn framed(frame: &impl Serialize) -> Vec<u8> {
    let bytes = codec::encode(frame);
    let length = u32::try_from(bytes.len()).expect("a few bytes").to_be_bytes();
    [&length[..], &bytes].concat()
}
