//! Plain types that rooms share. No room's logic is here.

pub mod bid;
pub mod bucket;
pub mod change;
pub mod claim;
pub mod cluster;
pub mod codec;
pub mod fill_order;
pub mod id;
pub mod name;
pub mod out;
pub mod queue;
pub mod record;
pub mod replica;
pub mod resources;
pub mod ruling;
pub mod sign;
pub mod spec;
pub mod time;
pub mod view;

pub use bid::{AuctionId, Award, Decline, Price};
pub use bucket::Bucket;
pub use change::{Certificate, Change, ChangeBody, Clock, Key, RawChange, Value};
pub use claim::{Claim, Phase, Slot};
pub use cluster::{NodePolicy, View};
pub use fill_order::fill_order;
pub use id::{ClusterId, Digest, NodeId, PersistId, PublicKey, WriterId};
pub use name::{Label, WorkloadName};
pub use out::{Lane, Out, Outgoing};
pub use queue::Queue;
pub use record::NodeRecord;
pub use replica::{Place, ReplicaId, ReplicaName, Revision, Token};
pub use resources::{ResourceSum, Resources};
pub use ruling::{Ruling, RulingBody, RulingKey, RulingKind};
pub use sign::{KeyPair, Signable, Signed, Unverified};
pub use spec::{Artifact, Facts, ProgramKind, Spec, SpecForm, Unfit};
pub use time::{Time, WallClock};
