//! The statement of a node about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::codec::{self, Malformed};
use super::id::NodeId;
use super::resources::Amounts;
use super::sign::Signable;
use super::spec::{Allowed, Facts, kept, kept_amounts};
use super::volume::KeptVolume;

/// Addresses in one record.
pub const MAX_ADDRESSES: usize = 16;
/// Members without a way in one record: 32 bytes each, in a record that everybody keeps. A node
/// with more of them is as good as cut off.
pub const MAX_NO_WAY: usize = 16;

/// The public half of the key to which secrets are sealed for a node (X25519).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SealingKey(pub [u8; 32]);

/// The statement of a node about itself; the signer is the node. The greater `(counter, hash)`
/// counts. On the wire its form stands in front, and behind it all that older programs do not read
/// (see `Later`); a newer program may append fields. Layout 1, as it lies in state folders and
/// travels from older programs, is the same without the two.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Grows with each issue.
    pub counter: u64,
    /// Grows with each start of the daemon, and when others held it dead.
    pub incarnation: u64,
    /// The name of the device, for people.
    pub name: String,
    /// Where it can be dialled, as multiaddrs.
    pub addresses: Vec<String>,
    /// Its static facts.
    pub facts: Facts,
    /// The version of its program.
    pub version: String,
    /// Its digests agreed with those it can reach: it may own workloads, so it has a place on the
    /// ring.
    pub ready: bool,
    /// It has said goodbye and wants no work.
    pub leaving: bool,
    /// Members that are up and that it could not dial for a while, nor they it; by id, at most
    /// [`MAX_NO_WAY`].
    pub no_way_to: Vec<NodeId>,
}

impl Signable for NodeRecord {
    const DOMAIN: &'static str = "shoal/node/2";

    fn write(&self) -> Vec<u8> {
        let mut raw = codec::encode(&(FORM, self));
        let Facts { allowed, volumes, .. } = &self.facts;
        let later = Later { allowed: allowed.clone(), volumes: volumes.clone() };
        let sealing = self.facts.sealing;
        if later != Later::default() || sealing.is_some() {
            raw.extend(codec::encode(&later));
        }
        if let Some(key) = sealing {
            raw.extend(codec::encode(&key));
            // Behind the key, which a record without one cannot skip: every node that publishes
            // facts has a key.
            let offers = &self.facts.offers;
            if !self.facts.published.is_empty() || !offers.is_empty() {
                raw.extend(codec::encode(&self.facts.published));
            }
            if !offers.is_empty() {
                raw.extend(codec::encode(offers));
            }
        }
        raw
    }

    fn read(raw: &[u8]) -> Result<NodeRecord, Malformed> {
        match codec::decode_prefix(raw)? {
            Header { form: ..=FORM, .. } => {
                let ((_, mut record), rest): ((u16, NodeRecord), _) = codec::decode_rest(raw)?;
                if !rest.is_empty() {
                    let (Later { allowed, volumes }, rest) = codec::decode_rest(rest)?;
                    (record.facts.allowed, record.facts.volumes) = (allowed, volumes);
                    if !rest.is_empty() {
                        let (key, rest) = codec::decode_rest(rest)?;
                        record.facts.sealing = Some(key);
                        // What stands here in another form is of a newer program.
                        let published: Result<(BTreeMap<String, String>, &[u8]), _> =
                            codec::decode_rest(rest);
                        let (published, rest) = published.unwrap_or_default();
                        record.facts.published = kept(published);
                        let offers: Amounts = codec::decode_prefix(rest).unwrap_or_default();
                        record.facts.offers = kept_amounts(offers);
                    }
                }
                Ok(record)
            }
            // Of a form that only newer programs read: a member that runs nothing this one knows.
            Header { counter, incarnation, .. } => Ok(NodeRecord {
                counter,
                incarnation,
                name: String::new(),
                addresses: Vec::new(),
                facts: Facts::default(),
                version: String::new(),
                ready: false,
                leaving: false,
                no_way_to: Vec::new(),
            }),
        }
    }
}

/// The form of a record that this program writes. A greater number is a form that this program
/// cannot read beyond its [`Header`].
const FORM: u16 = 2;

/// The facts that came after form 2 was frozen: they stand behind the record, where programs that
/// do not know them ignore them. None of them means the default of each. New ones are appended: the
/// first of those is the node's sealing key, which may be missing; the second is the map of the
/// facts that it publishes by name; the third is what it offers beside memory and CPU.
#[derive(PartialEq, Default, Serialize, Deserialize)]
struct Later {
    allowed: Allowed,
    volumes: Vec<KeptVolume>,
}

/// The beginning of a record in every form.
#[derive(Deserialize)]
struct Header {
    form: u16,
    counter: u64,
    incarnation: u64,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::model::{ProgramKind, Resources};

    fn record() -> NodeRecord {
        NodeRecord {
            counter: 4,
            incarnation: 2,
            name: "n1".into(),
            addresses: vec!["/ip4/10.0.0.1/tcp/1".into()],
            facts: Facts {
                arch: "x86_64".into(),
                runtimes: [ProgramKind::Wasm, ProgramKind::Other(77)].into(),
                labels: BTreeMap::new(),
                capacity: Resources { memory: 1, cpu: 2 },
                ..Facts::default()
            },
            version: "9.0.0".into(),
            ready: true,
            leaving: false,
            no_way_to: Vec::new(),
        }
    }

    /// The later facts of a node travel behind what older programs read, which is as it was.
    #[test]
    fn later_facts_stand_behind_what_older_programs_read() {
        let mut allowing = record();
        allowing.facts.allowed.0.insert("device=/dev/ttyUSB*".parse().unwrap());
        allowing.facts.volumes.push(KeptVolume {
            workload: "shop/db".parse().unwrap(),
            place: "0".into(),
            name: "data".parse().unwrap(),
            counter: 7,
        });
        let (before, after) = (record().write(), allowing.write());
        assert!(after.starts_with(&before) && after.len() > before.len());
        assert_eq!(NodeRecord::read(&after), Ok(allowing.clone()));
        assert!(NodeRecord::read(&after[..after.len() - 1]).is_err(), "cut off");
        allowing.facts.sealing = Some(SealingKey([7; 32]));
        let sealing = allowing.write();
        assert!(sealing.starts_with(&after) && sealing.len() == after.len() + 32);
        assert_eq!(NodeRecord::read(&sealing), Ok(allowing.clone()));
        let raw = [sealing.clone(), codec::encode(&"more")].concat();
        assert_eq!(NodeRecord::read(&raw), Ok(allowing.clone()));
        assert!(NodeRecord::read(&sealing[..sealing.len() - 1]).is_err(), "cut off");
        allowing.facts.published = [("os".to_owned(), "linux".to_owned())].into();
        let publishing = allowing.write();
        assert!(publishing.starts_with(&sealing));
        assert_eq!(NodeRecord::read(&publishing), Ok(allowing.clone()));
        allowing.facts.offers.set("camera", 2);
        let offering = allowing.write();
        assert!(offering.starts_with(&publishing));
        assert_eq!(NodeRecord::read(&offering), Ok(allowing.clone()));
        allowing.facts.published.clear();
        assert_eq!(NodeRecord::read(&allowing.write()), Ok(allowing));
    }

    /// Every node keeps the record of every node: one must not fill the others' memory.
    #[test]
    fn published_facts_of_a_record_are_bounded() {
        let mut record = record();
        record.facts.sealing = Some(SealingKey([7; 32]));
        let many = |n: u32| (format!("fact{n:03}"), "x".to_owned());
        record.facts.published = (0..500).map(many).collect();
        record.facts.published.insert("long".into(), "x".repeat(5_000));
        let read = NodeRecord::read(&record.write()).unwrap();
        assert_eq!(read.facts.published.len(), crate::model::spec::MAX_PUBLISHED);
        assert!(!read.facts.published.contains_key("long"));
    }

    /// A newer node offers a runtime that this program does not know, and says more than it reads.
    #[test]
    fn record_of_a_newer_program_is_read_as_far_as_known() {
        assert_eq!(NodeRecord::read(&record().write()), Ok(record()));
        let unknown = codec::encode(&(FORM + 1, 8u64, 3u64, "anything"));
        let read = NodeRecord::read(&unknown).unwrap();
        assert_eq!((read.counter, read.incarnation, read.ready), (8, 3, false));
    }
}
