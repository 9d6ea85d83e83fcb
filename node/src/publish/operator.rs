//! The operator: a key that may write desired state, and its files.
//!
//! The key belongs to a person and is kept in that person's config folder, never in a node's state:
//! a thief of a device cannot publish workloads.

use std::path::{Path, PathBuf};

use shoal_protocol::model::access::{Access, RawAccess};
use shoal_protocol::model::{
    Chain, ChangeBody, ClusterId, Key, KeyPair, PublicKey, RawChange, Spec, Value, WorkloadName,
    WriterId,
};
use shoal_protocol::node::Draft;
use shoal_protocol::trust::{self, Authority, Genesis, Rejection, Terms};

use super::files::{self, FileError, SecretError};
use super::key_file::KeyFile;
use crate::hex::{from_hex, to_hex};
use crate::identity::{self, IdentityError};

/// The operator's file in the config folder.
pub const OPERATOR_FILE: &str = "operator.json";
/// The root key's file beside it. It gives all rights; keep it somewhere safe.
pub const ROOT_FILE: &str = "root.json";
/// The random id of this installation of the key.
pub const INSTALLATION_FILE: &str = "installation";

/// An operator's key, on one installation.
#[derive(Clone)]
pub struct Operator {
    genesis: Genesis,
    name: String,
    seed: [u8; 32],
    chain: Chain,
    installation: [u8; 16],
}

/// Why there is no operator to sign with.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum OperatorError {
    #[error("there is no operator key in {}", .0.display())]
    None(PathBuf),
    #[error("{} was cut short or altered: {why}", file.display())]
    Damaged { file: PathBuf, why: String },
    #[error("the key in {} is under a passphrase, and there is none", .0.display())]
    Locked(PathBuf),
    #[error("the passphrase is not that of {}, or the file was altered", .0.display())]
    Passphrase(PathBuf),
    #[error("{} holds the operator key of another cluster ({})", file.display(), other.short())]
    OtherCluster { file: PathBuf, other: ClusterId },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Random(#[from] IdentityError),
    #[error("the grant cannot be given: {0}")]
    Grant(#[from] Rejection),
}

impl OperatorError {
    /// Advice for the user.
    pub fn hint(&self) -> Option<String> {
        if let OperatorError::Secret(secret) = self {
            return secret.hint();
        }
        let hint = match self {
            OperatorError::None(_) => Some(
                "The first `shoal up` of a cluster makes one in ~/.config/shoal of its user; an \
                    administrator makes one for you with `shoal operator add`. It goes to \
                    ~/.config/shoal/operator.json, or is named with --key FILE, --config or \
                    SHOAL_CONFIG.",
            ),
            OperatorError::Damaged { .. } => {
                Some("Restore it from a copy; without a copy, an administrator can make another.")
            }
            OperatorError::OtherCluster { .. } => Some(
                "To join that cluster, `shoal join` an invite of it. To make another, name \
                    another folder with --config or SHOAL_CONFIG: a \
                 key is never overwritten.",
            ),
            OperatorError::Locked(_) => Some(
                "It is asked for on a terminal. Without one, --passphrase-file or \
                    SHOAL_PASSPHRASE_FILE names a file with it.",
            ),
            OperatorError::Passphrase(_)
            | OperatorError::File(_)
            | OperatorError::Secret(_)
            | OperatorError::Random(_)
            | OperatorError::Grant(_) => None,
        };
        hint.map(str::to_owned)
    }
}

impl Operator {
    pub(super) fn new(
        genesis: Genesis,
        name: String,
        seed: [u8; 32],
        chain: Chain,
        config: &Path,
    ) -> Result<Operator, OperatorError> {
        Ok(Operator { genesis, name, seed, chain, installation: installation(config)? })
    }

    /// The operator in this config folder, whose key has no passphrase. Its installation id is
    /// drawn on first use.
    pub fn load(config: &Path) -> Result<Operator, OperatorError> {
        match KeyFile::read(&config.join(OPERATOR_FILE))? {
            Some(file) => file.open(None, config),
            None => Err(OperatorError::None(config.to_owned())),
        }
    }

    /// The seed of its key.
    pub(crate) fn seed(&self) -> &[u8; 32] {
        &self.seed
    }

    /// The cluster this operator may write for.
    pub fn cluster(&self) -> ClusterId {
        self.genesis.cluster()
    }

    /// The operator's name in its grant.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster's beginning.
    pub fn genesis(&self) -> Genesis {
        self.genesis
    }

    /// The operator's key pair.
    pub fn keys(&self) -> KeyPair {
        KeyPair::from_seed(&self.seed)
    }

    /// The grants that lead from the root to the operator.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The id under which this installation of the key writes.
    pub fn writer(&self) -> WriterId {
        trust::writer_id(&self.keys().public(), &self.installation)
    }

    /// The operator's role, and where and until when it has it.
    ///
    /// # Errors
    /// Its chain does not hold; it was checked when it was loaded.
    pub fn authority(&self) -> Result<Authority, Rejection> {
        trust::authority(&self.genesis, &self.chain, self.keys().public(), None)
    }

    /// Signs `spec` (`None`: a removal) for `name`. `draft` is from the node that shall take it.
    pub fn sign(
        &self,
        name: &WorkloadName,
        spec: Option<&Spec>,
        draft: Draft,
    ) -> Result<RawChange, Rejection> {
        let value = spec.map_or(Value::Tombstone, Value::workload);
        self.sign_value(Key::Workload(name.clone()), value, draft)
    }

    /// Signs the next value of any key. `draft` is from the node that shall take it.
    pub fn sign_value(&self, key: Key, value: Value, draft: Draft) -> Result<RawChange, Rejection> {
        let Draft { mut clock, serial, uid } = draft;
        let (keys, writer) = (self.keys(), self.writer());
        clock.insert(writer, serial);
        let body = ChangeBody { key, writer, serial, clock, uid, value };
        trust::sign_change(&self.genesis, &keys, &self.chain, body).map(|change| change.raw())
    }

    /// Gives `subject` a right in the operator's name; returns the chain of `subject`.
    pub fn grant(&self, subject: PublicKey, terms: Terms) -> Result<Chain, Rejection> {
        trust::grant(&self.genesis, &self.keys(), &self.chain, subject, terms)
    }

    /// The key under which this operator enters another one.
    ///
    /// # Errors
    /// Its own chain does not hold.
    pub fn entry_of(&self, subject: &PublicKey) -> Result<PublicKey, Rejection> {
        Ok(trust::operator_entry(&self.authority()?, &self.keys().public(), subject))
    }

    /// Signs a request to a running replica.
    pub fn sign_access(&self, access: Access) -> RawAccess {
        trust::sign_access(&self.genesis, &self.keys(), &self.chain, access)
    }
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Operator({} of {:?})", self.name, self.cluster())
    }
}

/// The random id that this copy of the key writes under. Two copies must not share one: they would
/// overwrite each other's changes.
fn installation(config: &Path) -> Result<[u8; 16], OperatorError> {
    let file = config.join(INSTALLATION_FILE);
    if let Some(text) = files::read(&file)? {
        let bytes = from_hex(text.trim()).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        return bytes.ok_or_else(|| OperatorError::Damaged {
            file,
            why: "32 hexadecimal digits are expected".into(),
        });
    }
    let mut drawn = [0; 16];
    drawn.copy_from_slice(&identity::random()?[..16]);
    files::write(&file, format!("{}\n", to_hex(&drawn)).as_bytes())?;
    Ok(drawn)
}
