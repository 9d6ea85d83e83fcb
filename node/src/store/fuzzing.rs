//! Target: the rows of a database that another program, or a dying disk, has written.

use shoal_protocol::fuzzing::{Choices, Target};
use shoal_protocol::model::ruling::JobResult;
use shoal_protocol::model::{
    ClusterId, Digest, Facts, KeyPair, NodeId, NodeRecord, Ruling, RulingBody, Signed, Slot,
};
use shoal_protocol::node::{Record, Saved};

use super::row::{self, RowKey};

/// Pairs of a key and a value. The last bit of the first byte says whether the checksum is right.
pub const TARGET: Target = Target { name: "rows", run, seeds, most: 4_096 };

fn run(data: &[u8]) {
    let mut choices = Choices::of(data);
    let is_right = choices.byte() & 1 == 0;
    let key = RowKey(choices.piece().to_vec());
    let mut value = choices.rest().to_vec();
    if is_right {
        value.extend(row::checksum(&key, &value));
    }
    let mut saved = Saved::default();
    match row::load(key, &value, &mut saved) {
        Ok(()) => {
            saved.changes.iter().for_each(|it| _ = it.change.peek());
            saved.slots.iter().for_each(|(_, it)| _ = it.peek());
            saved.nodes.iter().for_each(|it| _ = it.peek());
            saved.rulings.iter().for_each(|it| _ = it.peek());
        }
        Err(bad) => assert!(bad.to_string().len() < 1_024, "{bad}"),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let (keys, cluster) = (KeyPair::from_seed(&[1; 32]), ClusterId([2; 32]));
    let node = NodeId(keys.public().0);
    let record = NodeRecord {
        counter: 1,
        incarnation: 2,
        name: "till-1".into(),
        addresses: vec!["/ip4/10.0.0.5/tcp/7700".into()],
        facts: Facts { arch: "aarch64".into(), ..Facts::default() },
        version: "0.1.0".into(),
        ready: true,
        leaving: false,
        no_way_to: vec![node],
    };
    let slot = Slot { slot: 3, counter: 3, claims: Vec::new(), newer: Vec::new() };
    let ruling = Ruling {
        uid: Digest([4; 32]),
        generation: Digest([5; 32]),
        tick: 1,
        sequence: 1,
        body: RulingBody::JobResult(JobResult::failed(-1)),
    };
    let records = [
        Record::Incarnation(7),
        Record::Slot { node, slot: Signed::sign(slot, &keys, &cluster).wire() },
        Record::Node { node, record: Signed::sign(record, &keys, &cluster).wire() },
        Record::Ruling {
            key: Digest([6; 32]),
            ruling: Signed::sign(ruling, &keys, &cluster).wire(),
        },
    ];
    let mut seeds: Vec<Vec<u8>> = records.iter().filter_map(seed).collect();
    // Two changes of a key, each behind its length.
    let changes = [1, 0, 0, 0, 2, 1, 2, 0, 0, 0, 1, 9];
    let key = [&[2u8][..], &[8; 32]].concat();
    seeds.push([&[0, 33][..], &key, &changes].concat());
    seeds
}

/// A row without its checksum, behind its key.
fn seed(record: &Record) -> Option<Vec<u8>> {
    let key = row::key(record);
    let mut value = row::value(&key, record)?;
    value.truncate(value.len() - row::CHECK);
    let length = u8::try_from(key.0.len()).expect("some 70 bytes");
    Some([&[0, length][..], &key.0, &value].concat())
}
