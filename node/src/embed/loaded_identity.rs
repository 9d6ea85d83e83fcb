//! The node's identity: read from its state folder, or created on the first start.
//!
//! A first start writes several files in an order that can be interrupted anywhere and continued by
//! the next start: the founding or the invite, the operator's files, the store, the identity; then
//! the founding is deleted. A node with an identity has all the others.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use shoal_protocol::model::{Key, RawChange};
use shoal_protocol::node::{Record, Saved};
use shoal_protocol::trust::Invite;

use super::StartError;
use crate::driver;
use crate::identity::Identity;
use crate::publish::{FileError, Founding, Operator, files};
use crate::store::Store;

/// Keeps a founding until it is complete.
const FOUNDING_FILE: &str = "founding.json";
/// Keeps the invite until the node is a member.
const INVITE_FILE: &str = "invite";
/// The first operator's name in its grant.
const FIRST_OPERATOR: &str = "founder";

/// A node's identity and its saved state.
pub(super) struct LoadedIdentity {
    pub identity: Identity,
    pub store: Store,
    pub saved: Saved,
    /// The invite with which it joins; none for a member.
    pub invite: Option<Invite>,
    /// Whether this start created the cluster.
    pub founded: bool,
    /// The cluster's first operator, when this start created the cluster.
    pub operator: Option<Operator>,
}

/// Reads or creates the node in `state`. `operators` gets the operator's key when a cluster is
/// created. Blocks.
pub(super) fn load_or_create(
    state: &Path,
    operators: &Path,
    join: Option<&Invite>,
) -> Result<LoadedIdentity, StartError> {
    let founding_file = state.join(FOUNDING_FILE);
    if let Some(identity) = Identity::load(state)? {
        if let Some(invite) = join {
            identity.check_cluster(invite.genesis().cluster())?;
        }
        let (store, mut saved) = Store::open(state, identity.cluster(), identity.node())?;
        store.draw_incarnation(&mut saved)?;
        delete(&founding_file)?;
        let invite = match is_member(&identity, &saved) {
            true => {
                forget_invite(state)?;
                None
            }
            false => remembered(state, join)?,
        };
        let founded = false;
        return Ok(LoadedIdentity { identity, store, saved, invite, founded, operator: None });
    }
    if let Some(invite) = join {
        let identity = Identity::draw(invite.genesis())?;
        let store = Store::create(state, identity.cluster(), identity.node())?;
        let mut saved = Saved::default();
        store.draw_incarnation(&mut saved)?;
        let invite = remembered(state, Some(invite))?;
        identity.create(state)?;
        let founded = false;
        return Ok(LoadedIdentity { identity, store, saved, invite, founded, operator: None });
    }
    let (founding, operator) = found_cluster(&founding_file, operators)?;
    let identity = Identity::found(founding.genesis())?;
    let store = Store::create(state, identity.cluster(), identity.node())?;
    let mut saved = Saved::default();
    let now = driver::wall();
    let (member, entered) = (Key::Member(identity.node()), Key::Operator(operator.keys().public()));
    for (key, change) in [
        (member, founding.admit(identity.node(), now)?),
        (entered, founding.enter(&operator, now)?),
    ] {
        store.put(Record::Desired { key: key.hash(), changes: vec![change.clone()] })?;
        saved.changes.push(change);
    }
    store.draw_incarnation(&mut saved)?;
    identity.create(state)?;
    delete(&founding_file)?;
    let (founded, operator) = (true, Some(operator));
    Ok(LoadedIdentity { identity, store, saved, invite: None, founded, operator })
}

/// Whether the node was admitted, as far as its disk knows.
fn is_member(identity: &Identity, saved: &Saved) -> bool {
    let key = Key::Member(identity.node());
    let is_own = |raw: &RawChange| raw.change.peek().is_ok_and(|body| body.key == key);
    saved.changes.iter().any(is_own)
}

/// The file that keeps the invite.
pub(super) fn invite_file(state: &Path) -> PathBuf {
    state.join(INVITE_FILE)
}

/// The node is a member: its invite may admit others, and has no business on its disk.
pub(super) fn forget_invite(state: &Path) -> Result<(), StartError> {
    delete(&invite_file(state))
}

/// The invite to join with: the given one, which is kept for the next start, or the kept one.
fn remembered(state: &Path, given: Option<&Invite>) -> Result<Option<Invite>, StartError> {
    let file = invite_file(state);
    match given {
        Some(invite) => {
            files::write(&file, format!("{invite}\n").as_bytes())?;
            Ok(Some(invite.clone()))
        }
        // A file that was altered is as good as none: the node says that it is no member.
        None => Ok(files::read(&file)?.and_then(|text| text.parse().ok())),
    }
}

fn found_cluster(file: &Path, operators: &Path) -> Result<(Founding, Operator), StartError> {
    let founding = match Founding::load(file)? {
        Some(begun) => begun,
        None => {
            // Before anything is written: the folder may hold another cluster's key.
            Founding::check_free(operators)?;
            let founding = Founding::draw()?;
            founding.save(file)?;
            founding
        }
    };
    let operator = founding.establish(operators, FIRST_OPERATOR)?;
    Ok((founding, operator))
}

fn delete(file: &Path) -> Result<(), StartError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(FileError::new(file, "deleted", error).into())
        }
        _ => Ok(()),
    }
}
