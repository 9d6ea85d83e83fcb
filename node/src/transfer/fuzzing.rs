//! Target: what another node writes on a stream of an artifact, whole or in pieces.

use futures::FutureExt;
use shoal_protocol::fuzzing::Target;

use super::exchange::{ArtifactAnswer, ArtifactRequest};
use super::pieces;

/// The first byte says which end reads, and of which stream.
pub const TARGET: Target = Target { name: "pieces", run, seeds, most: 80 * 1024 };

fn run(data: &[u8]) {
    let Some((kind, mut bytes)) = data.split_first() else { return };
    match kind % 4 {
        0 => {
            let request = ArtifactRequest::read(&mut bytes).now_or_never();
            assert_eq!(request.expect("no byte is to come").is_ok(), data.len() > 40);
        }
        1 => _ = ArtifactAnswer::read(&mut bytes).now_or_never().expect("no byte is to come"),
        2 => pieces::fuzzing::asks(bytes),
        _ => pieces::fuzzing::answers(bytes),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let with = |kind: u8, bytes: Vec<u8>| [vec![kind], bytes].concat();
    let [asks, answers] = pieces::fuzzing::seeds();
    vec![
        with(0, vec![7; 40]),
        with(1, [vec![0], 9u64.to_be_bytes().to_vec()].concat()),
        with(1, vec![2; 9]),
        with(2, asks),
        with(3, answers),
    ]
}
