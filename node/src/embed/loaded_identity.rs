//! The node's identity: read from its state folder, or created on the first start.
//!
//! A first start writes several files in an order that can be interrupted anywhere and continued by
//! the next start: the founding, the operator's files, the empty store, the identity; then the
//! founding is deleted. A node with an identity has all the others.

use std::fs;
use std::io;
use std::path::Path;

use shoal_protocol::node::Saved;
use shoal_protocol::trust::JoinLine;

use super::StartError;
use crate::identity::Identity;
use crate::publish::{FileError, Founding, Operator};
use crate::store::Store;

/// Keeps a founding until it is complete.
const FOUNDING_FILE: &str = "founding.json";
/// The first operator's name in its certificate.
const FIRST_OPERATOR: &str = "founder";

/// A node's identity and its saved state.
pub(super) struct LoadedIdentity {
    pub identity: Identity,
    pub store: Store,
    pub saved: Saved,
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
    join: Option<&JoinLine>,
) -> Result<LoadedIdentity, StartError> {
    let founding_file = state.join(FOUNDING_FILE);
    if let Some(identity) = Identity::load(state)? {
        if let Some(line) = join {
            identity.check_cluster(line.genesis().cluster())?;
        }
        let (store, mut saved) = Store::open(state, identity.cluster(), identity.node())?;
        store.draw_incarnation(&mut saved)?;
        delete(&founding_file)?;
        return Ok(LoadedIdentity { identity, store, saved, founded: false, operator: None });
    }
    let (identity, operator) = match join {
        Some(line) => (Identity::draw(line.genesis(), line.join_seed)?, None),
        None => {
            let (founding, operator) = found_cluster(&founding_file, operators)?;
            (Identity::found(founding.genesis(), founding.join_seed)?, Some(operator))
        }
    };
    let store = Store::create(state, identity.cluster(), identity.node())?;
    let mut saved = Saved::default();
    store.draw_incarnation(&mut saved)?;
    identity.create(state)?;
    delete(&founding_file)?;
    Ok(LoadedIdentity { identity, store, saved, founded: operator.is_some(), operator })
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
