//! Another member's view, copied from this node's, for the simulator: see
//! [`crate::node::Node::like`].

use crate::model::{Bucket, KeyPair, NodeId, Out, Time};

use super::members::{Liveness, MOVES, Member, RECORDS};
use super::message::Message;
use super::records::Own;
use super::{Config, Cx, Membership};

impl Membership {
    /// The membership of another member that has heard of all that this node has heard of, and
    /// dials its neighbours now. None if this node lacks its record of `incarnation`, or if the
    /// state of some member is unknown.
    #[expect(clippy::too_many_arguments, reason = "as many as a membership is made of")]
    pub fn simulator_clone(
        &self,
        now: Time,
        config: Config,
        me: NodeId,
        keys: KeyPair,
        incarnation: u64,
        seed: [u8; 32],
        out: &mut Out<Message>,
    ) -> Option<Self> {
        let (mine, salt) = (self.members.get(&me)?, self.salt?);
        let record = mine.record.clone().filter(|record| record.incarnation == incarnation)?;
        if !self.settled() || !matches!(mine.liveness, Liveness::Up) {
            return None;
        }
        let mut membership =
            Membership::new(now, config, me, keys, self.cluster, incarnation, seed);
        membership.salt = Some(mine.salt);
        membership.own = Own::with_record(record);
        membership.members = self.members.without(&me);
        let incarnation = self.own.incarnation();
        let record = self.own.record().cloned();
        membership.members.insert(
            self.me,
            Member {
                salt,
                incarnation,
                record,
                was_gossiped: true,
                sighted: Box::default(),
                liveness: Liveness::Up,
                up_since: now,
                votes_from: now,
                moves: Bucket::new(MOVES.0, MOVES.1),
                records: Bucket::new(RECORDS.0, RECORDS.1),
                goodbye: None,
            },
        );
        (membership.circle, membership.keys_in_sync) =
            (self.circle.clone(), self.keys_in_sync.clone());
        (membership.up, membership.view) = (self.up, self.view);
        membership.unsettled_topology = true;
        membership.finish(Cx::new(now, out));
        Some(membership)
    }
}
