//! An administrator revokes devices.

use std::time::Duration;

use shoal_protocol::model::{Chain, Key, KeyPair, NodeId, RawChange, WallClock};
use shoal_protocol::node::{Admittance, Command, Reply};
use shoal_protocol::trust;

use rand_chacha::rand_core::RngCore;

use super::clock::EPOCH;
use super::liar::Spent;
use super::simulation::Simulation;
use super::world::World;

/// How often an administrator tries all devices until one takes a revocation, a second apart.
const TRIES: u32 = 60;

impl Simulation {
    /// Revokes a device through the first other one that accepts it. None may run, or be a member
    /// yet.
    pub(super) fn revoke(&mut self, device: usize) -> Result<bool, String> {
        let (node, last) = (self.world.devices[device].id, self.world.last_honoured(device));
        for via in self.world.honest() {
            if via != device && self.operator.revoke(&mut self.world, via, node, last)? {
                self.world.log(device, format!("is revoked through n{via}"));
                self.world.devices[device].is_revoked = true;
                self.drop_lost_promises();
                return Ok(true);
            }
        }
        self.world.log(device, "is not revoked: no device takes it now");
        Ok(false)
    }

    /// Revokes every liar, and every device whose revocation was lost with a disk.
    pub(super) fn revoke_liars(&mut self) -> Result<(), String> {
        for device in 0..self.world.devices.len() {
            let it = &self.world.devices[device];
            let mut is_due = it.liar.is_some() || it.is_revoked;
            for _ in 0..TRIES {
                is_due &= !self.world.is_revoked_everywhere(device);
                if !is_due || self.revoke(device)? {
                    break;
                }
                self.world.run_for(Duration::from_secs(1))?;
            }
        }
        Ok(())
    }

    /// Gives a liar an invite for one device, which it has used itself: a member has admitted it
    /// once more by it.
    pub(super) fn spend_invite(&mut self, device: usize) -> Result<(), String> {
        let liar = self.world.devices[device].liar.as_ref();
        if liar.is_some_and(|liar| liar.spent.is_some()) {
            return Ok(());
        }
        let mut seed = [0; 32];
        self.world.rng.fill_bytes(&mut seed);
        let Admittance { keys, chain } = self.world.make_invite(KeyPair::from_seed(&seed));
        let it = &self.world.devices[device];
        let own = it.node.as_ref().and_then(|node| node.admission()?.change.peek().ok());
        let Some(serial) = own.map(|own| own.serial + 1) else { return Ok(()) };
        let node = it.id;
        for by in self.world.honest() {
            let change = self.world.admit_again(by, node, &(keys.clone(), chain.clone()), serial);
            let hash = change.change.hash();
            let reply = self.operator.ask(&mut self.world, by, Command::Submit { change })?;
            if matches!(reply, Some(Reply::Accepted { .. })) {
                self.world.watch.spent = Some((Key::Member(node), hash));
                let spent = Spent { keys, chain, serial: serial + 1 };
                if let Some(liar) = &mut self.world.devices[device].liar {
                    liar.spent = Some(spent);
                }
                return Ok(());
            }
        }
        Ok(())
    }
}

impl World {
    /// The serial up to which the statements of a device are honoured after its revocation. What it
    /// admitted before it lied stays, whatever its clock said.
    fn last_honoured(&self, device: usize) -> u64 {
        let me = self.devices[device].id;
        let disks = self.devices.iter().map(|it| &it.disk);
        let admissions = disks
            .flat_map(|disk| disk.desired.values().flatten())
            .filter(|raw| raw.change.by().0 == me.0);
        let serials = admissions.filter_map(|raw| {
            let body = raw.change.peek().ok()?;
            let Key::Member(node) = body.key else { return None };
            self.ids.contains_key(&node).then_some(body.serial)
        });
        serials.fold(trust::serial_at(WallClock(EPOCH + self.now / 1000)), u64::max)
    }

    fn is_revoked_everywhere(&self, device: usize) -> bool {
        let key = self.devices[device].id.into();
        self.honest().into_iter().filter_map(|it| self.node(it)).all(|node| node.is_revoked(&key))
    }

    /// The admission of a member once more, by another one.
    fn admit_again(
        &self,
        by: usize,
        node: NodeId,
        (invite, chain): &(KeyPair, Chain),
        serial: u64,
    ) -> RawChange {
        let keys = &self.devices[by].identity.keys;
        let ticket = trust::ticket(&self.genesis, invite, keys.public(), node, serial);
        let change = trust::admit(&self.genesis, keys, &chain.with(ticket), node, serial);
        change.expect("a good admission").raw()
    }
}
