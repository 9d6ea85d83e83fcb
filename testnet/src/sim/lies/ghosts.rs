//! Admissions of devices that nobody let in.

use rand_chacha::rand_core::RngCore;
use shoal_protocol::membership::{Message as Word, Seen, Vote};
use shoal_protocol::model::{
    Chain, ChangeBody, Clock, Grant, Key, KeyPair, Namespaces, NodeId, NodeRecord, PublicKey,
    RawChange, Role, Signed, Value,
};
use shoal_protocol::node::Message;
use shoal_protocol::trust;

use crate::sim::liar::Spent;
use crate::sim::network::below;
use crate::sim::world::{World, facts};

/// Ghosts of one liar at most.
const MAX_GHOSTS: usize = 24;

impl World {
    /// Admissions without an invite, with the ticket of another device, and with an invite that is
    /// used up; then the ghosts say something themselves.
    pub(super) fn lie_about_members(&mut self, device: usize) {
        for _ in 0..3 {
            if self.liar_of(device).ghosts.len() >= MAX_GHOSTS {
                break;
            }
            let mut seed = [0; 32];
            self.rng.fill_bytes(&mut seed);
            let keys = KeyPair::from_seed(&seed);
            let ghost = NodeId(keys.public().0);
            let kind = below(&mut self.rng, 5);
            let Some((chain, serial)) = self.false_chain(device, ghost, kind) else { continue };
            self.watch.ghosts.insert(ghost);
            let change = self.false_admission(device, ghost, chain, serial);
            self.liar_of(device).ghosts.push(keys);
            self.say_everywhere(device, Message::Changed { change, holder: None });
        }
        let ghosts = self.liar_of(device).ghosts.clone();
        if let Some(keys) = self.draw_one(&ghosts) {
            self.let_ghost_speak(device, &keys);
        }
    }

    /// A chain that gives the device no right to admit the ghost, and a serial for it.
    fn false_chain(&self, device: usize, ghost: NodeId, kind: u64) -> Option<(Chain, u64)> {
        let it = &self.devices[device];
        let own = it.node.as_ref()?.admission()?;
        let serial = own.change.peek().ok()?.serial + 1;
        let grant = |subject: PublicKey| Grant {
            subject,
            name: "ticket".into(),
            role: Role::Admits(ghost),
            namespaces: Namespaces::All,
            serial,
            expires: None,
        };
        let me = it.id.into();
        let chain = match kind {
            0 => Chain::default(),
            // It signs its ticket itself.
            1 => Chain::default().with(self.forge(device, grant(me))),
            2 => self.invite.chain.with(self.forge(device, grant(me))),
            // With its own ticket.
            3 => own.chain,
            _ => {
                let Spent { keys, chain, serial } = it.liar.as_ref()?.spent.clone()?;
                let ticket = trust::ticket(&self.genesis, &keys, me, ghost, serial);
                return Some((chain.with(ticket), serial));
            }
        };
        Some((chain, serial))
    }

    fn false_admission(
        &self,
        device: usize,
        ghost: NodeId,
        chain: Chain,
        serial: u64,
    ) -> RawChange {
        let writer = trust::admission_writer(&self.devices[device].id.into(), &ghost);
        let body = ChangeBody {
            key: Key::Member(ghost),
            writer,
            serial,
            clock: Clock::from([(writer, serial)]),
            uid: None,
            value: Value::Member { salt: trust::admission_salt(&self.genesis, &ghost) },
        };
        RawChange { change: self.forge(device, body), chain }
    }

    /// A record and a vote of a ghost.
    fn let_ghost_speak(&mut self, device: usize, keys: &KeyPair) {
        let cluster = self.genesis.cluster();
        let record = NodeRecord {
            counter: 1,
            incarnation: 1,
            name: "ghost".into(),
            addresses: vec![self.address_of(device)],
            facts: facts(),
            version: "0".into(),
            ready: true,
            leaving: false,
            no_way_to: Vec::new(),
        };
        let record = Signed::sign(record, keys, &cluster).wire();
        self.say_everywhere(device, Message::Membership(Word::Record(record)));
        let honest = self.honest();
        let Some(other) = self.draw_one(&honest) else { return };
        let (subject, incarnation) = (self.devices[other].id, self.devices[other].disk.incarnation);
        let vote = Vote { subject, incarnation, seen: Seen::Refused };
        let vote = Signed::sign(vote, keys, &cluster).wire();
        self.say_everywhere(device, Message::Membership(Word::Vote(vote)));
    }
}
