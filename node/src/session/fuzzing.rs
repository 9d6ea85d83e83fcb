//! Target: the frames of a session, of an operator's computer or of a replica's node.

use futures::FutureExt;
use shoal_protocol::fuzzing::Target;
use shoal_protocol::model::access::{Access, Action, Exec, RawAccess};
use shoal_protocol::model::{Chain, ClusterId, KeyPair, NodeId, Place, Signed, codec};
use tokio::io::{join, sink};

use super::{Frame, Frames};
use crate::api::ApiError;

/// The bytes that the other end of a session writes.
pub const TARGET: Target = Target { name: "session", run, seeds, most: 4_096 };

fn run(data: &[u8]) {
    let bytes = std::io::Cursor::new(data.to_vec());
    let mut frames = Frames::over(join(bytes, sink()));
    for _ in 0..=data.len() / 4 {
        match frames.receiver.next().now_or_never().expect("no byte is to come") {
            Ok(Frame::Failed(failed)) => _ = ApiError::from(failed).to_string(),
            Ok(Frame::Open(raw)) => {
                _ = (raw.access.peek(), raw.access.check(&CLUSTER), raw.chain);
            }
            Ok(frame) => assert!(codec::encode(&frame).len() <= data.len() + 64),
            Err(_) => return,
        }
    }
    panic!("more frames than bytes");
}

const CLUSTER: ClusterId = ClusterId([3; 32]);

fn seeds() -> Vec<Vec<u8>> {
    let access = Access {
        workload: "shop/web".parse().expect("two labels"),
        place: Place::Ordinal(1),
        node: NodeId([4; 32]),
        nonce: [5; 32],
        action: Action::Exec(Exec {
            command: vec!["sh".into(), "-c".into(), "ls".into()],
            env: vec!["A=b".into()],
            terminal: Some((80, 24)),
            ..Exec::default()
        }),
    };
    let access = Signed::sign(access, &KeyPair::from_seed(&[1; 32]), &CLUSTER).wire();
    let of_operator = [
        Frame::Open(RawAccess { access, chain: Chain::default() }),
        Frame::Resize { columns: 80, rows: 24 },
        Frame::Data(codec::Bytes(b"exit\n".to_vec())),
        Frame::End,
    ];
    let refused = ApiError::invalid("no").hint("do");
    let of_node = [
        Frame::Challenge { node: NodeId([4; 32]), nonce: [5; 32] },
        Frame::Opened,
        Frame::Alive,
        Frame::ErrorData(codec::Bytes(vec![1; 40])),
        Frame::Exit(Some(-1)),
        Frame::Failed(refused.into()),
    ];
    vec![framed(&of_operator), framed(&of_node)]
}

fn framed(frames: &[Frame]) -> Vec<u8> {
    let frame = |frame: &Frame| {
        let bytes = codec::encode(frame);
        let length = u32::try_from(bytes.len()).expect("a few bytes").to_be_bytes();
        [&length[..], &bytes].concat()
    };
    frames.iter().flat_map(frame).collect()
}
