//! The operator: a key that may write desired state, and its files.
//!
//! The key belongs to a person and is kept in that person's config folder, never in a node's state:
//! a thief of a device cannot publish workloads.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shoal_protocol::model::access::{Access, RawAccess};
use shoal_protocol::model::{
    Certificate, ChangeBody, ClusterId, Digest, Key, KeyPair, PublicKey, RawChange, Spec,
    Unverified, Value, WorkloadName, codec,
};
use shoal_protocol::node::Draft;
use shoal_protocol::trust::{self, Genesis, Rejection};

use super::files::{self, FileError};
use crate::hex::{from_hex, to_hex};
use crate::identity::{self, IdentityError};

/// The operator's file in the config folder.
pub const OPERATOR_FILE: &str = "operator.json";
/// The root key's file beside it. It certifies operators; keep it somewhere safe.
pub const ROOT_FILE: &str = "root.json";
/// The random id of this installation of the key.
pub const INSTALLATION_FILE: &str = "installation";
const FORMAT: u32 = 1;

/// An operator's key, on one installation.
#[derive(Clone)]
pub struct Operator {
    genesis: Genesis,
    name: String,
    seed: [u8; 32],
    certificate: Unverified<Certificate>,
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
    #[error("{} holds the operator key of another cluster ({})", file.display(), other.short())]
    OtherCluster { file: PathBuf, other: ClusterId },
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Random(#[from] IdentityError),
    #[error("the operator's name cannot be certified: {0}")]
    Name(#[from] trust::Fault),
}

impl OperatorError {
    /// Advice for the user.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            OperatorError::None(_) => Some(
                "The first `shoal up` of a cluster makes one in ~/.config/shoal. Copy that \
                    folder's operator.json here, or name it with \
                 --config or SHOAL_CONFIG.",
            ),
            OperatorError::Damaged { .. } => {
                Some("Restore it from a copy; without a copy, the root key can certify another.")
            }
            OperatorError::OtherCluster { .. } => Some(
                "To join that cluster, give its join line with --join. To make another, name \
                    another folder with --config or SHOAL_CONFIG: a \
                 key is never overwritten.",
            ),
            OperatorError::File(_) | OperatorError::Random(_) | OperatorError::Name(_) => None,
        }
    }
}

/// A new cluster's keys: root, join and first operator. Kept in the state folder until the
/// operator's files and the node's identity are written, so that a first start that is interrupted
/// continues with the same cluster.
pub struct Founding {
    root_seed: [u8; 32],
    /// The seed of the join key.
    pub join_seed: [u8; 32],
    operator_seed: [u8; 32],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FoundingForm {
    format: u32,
    root_seed: String,
    join_seed: String,
    operator_seed: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OperatorForm {
    format: u32,
    cluster: String,
    root: String,
    join: String,
    name: String,
    seed: String,
    certificate: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RootForm {
    format: u32,
    cluster: String,
    join: String,
    seed: String,
}

impl Founding {
    /// Draws the keys of a new cluster.
    pub fn draw() -> Result<Founding, OperatorError> {
        Ok(Founding {
            root_seed: identity::random()?,
            join_seed: identity::random()?,
            operator_seed: identity::random()?,
        })
    }

    /// Refuses a config folder that holds another cluster's key, which is every key when there is
    /// no founding to go on with.
    pub fn check_free(config: &Path) -> Result<(), OperatorError> {
        match Operator::load(config) {
            Ok(operator) => Err(OperatorError::OtherCluster {
                file: config.join(OPERATOR_FILE),
                other: operator.cluster(),
            }),
            Err(OperatorError::None(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Loads the founding in `file`, if one was interrupted.
    pub fn load(file: &Path) -> Result<Option<Founding>, OperatorError> {
        let Some(text) = files::read(file)? else { return Ok(None) };
        let damaged = |why: String| OperatorError::Damaged { file: file.to_owned(), why };
        let form: FoundingForm =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let seed = |text: &str| {
            text.parse::<Digest>().map(|seed| seed.0).map_err(|error| damaged(error.to_string()))
        };
        Ok(Some(Founding {
            root_seed: seed(&form.root_seed)?,
            join_seed: seed(&form.join_seed)?,
            operator_seed: seed(&form.operator_seed)?,
        }))
    }

    /// Saves it in `file`, readable by its owner alone.
    pub fn save(&self, file: &Path) -> Result<(), OperatorError> {
        let hex = |seed: [u8; 32]| Digest(seed).to_string();
        let form = FoundingForm {
            format: FORMAT,
            root_seed: hex(self.root_seed),
            join_seed: hex(self.join_seed),
            operator_seed: hex(self.operator_seed),
        };
        Ok(files::write_json(file, &form)?)
    }

    /// The cluster's root and join keys.
    pub fn genesis(&self) -> Genesis {
        let public = |seed| KeyPair::from_seed(seed).public();
        Genesis { root: public(&self.root_seed), join: public(&self.join_seed) }
    }

    /// Writes the root key and the certified operator key into `config`, and returns the operator.
    /// Files of another cluster are an error and stay; those of this cluster are kept.
    pub fn establish(&self, config: &Path, name: &str) -> Result<Operator, OperatorError> {
        let genesis = self.genesis();
        let cluster = genesis.cluster();
        files::make_folder(config)?;
        match Operator::load(config) {
            Ok(operator) if operator.cluster() == cluster => return Ok(operator),
            Ok(operator) => {
                return Err(OperatorError::OtherCluster {
                    file: config.join(OPERATOR_FILE),
                    other: operator.cluster(),
                });
            }
            Err(OperatorError::None(_)) => {}
            Err(error) => return Err(error),
        }
        let root_file = config.join(ROOT_FILE);
        let root = RootForm {
            format: FORMAT,
            cluster: cluster.to_string(),
            join: genesis.join.to_string(),
            seed: Digest(self.root_seed).to_string(),
        };
        match files::read(&root_file)? {
            None => files::write_json(&root_file, &root)?,
            Some(text) => match serde_json::from_str::<RootForm>(&text) {
                Ok(found) if found.cluster == root.cluster => {}
                Ok(found) => {
                    let other = found.cluster.parse().unwrap_or(ClusterId([0; 32]));
                    return Err(OperatorError::OtherCluster { file: root_file, other });
                }
                Err(error) => {
                    return Err(OperatorError::Damaged { file: root_file, why: error.to_string() });
                }
            },
        }
        let subject = KeyPair::from_seed(&self.operator_seed).public();
        let certificate =
            trust::certify(&genesis, &KeyPair::from_seed(&self.root_seed), subject, name)?;
        let form = OperatorForm {
            format: FORMAT,
            cluster: cluster.to_string(),
            root: genesis.root.to_string(),
            join: genesis.join.to_string(),
            name: name.to_owned(),
            seed: Digest(self.operator_seed).to_string(),
            certificate: to_hex(&codec::encode(&certificate)),
        };
        files::write_json(&config.join(OPERATOR_FILE), &form)?;
        Operator::load(config)
    }
}

impl Operator {
    /// The operator in this config folder. Its installation id is drawn on first use.
    pub fn load(config: &Path) -> Result<Operator, OperatorError> {
        let file = config.join(OPERATOR_FILE);
        let Some(text) = files::read(&file)? else {
            return Err(OperatorError::None(config.to_owned()));
        };
        let damaged = |why: String| OperatorError::Damaged { file: file.clone(), why };
        let form: OperatorForm =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let (genesis, seed, certificate) = form.read().map_err(damaged)?;
        Ok(Operator {
            genesis,
            name: form.name,
            seed,
            certificate,
            installation: installation(config)?,
        })
    }

    /// The cluster this operator may write for.
    pub fn cluster(&self) -> ClusterId {
        self.genesis.cluster()
    }

    /// The operator's name in the certificate.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Signs `spec` (`None`: a removal) for `name`. `draft` is from the node that shall take it.
    pub fn sign(
        &self,
        name: &WorkloadName,
        spec: Option<&Spec>,
        draft: Draft,
    ) -> Result<RawChange, Rejection> {
        let Draft { mut clock, serial, uid } = draft;
        let keys = KeyPair::from_seed(&self.seed);
        let writer = trust::writer_id(&keys.public(), &self.installation);
        clock.insert(writer, serial);
        let value = spec.map_or(Value::Tombstone, Value::workload);
        let body =
            ChangeBody { key: Key::Workload(name.clone()), writer, serial, clock, uid, value };
        trust::sign_change(&self.genesis, &keys, Some(&self.certificate), body)
            .map(|change| change.raw())
    }
}

impl Operator {
    /// Signs a request to a running replica.
    pub fn sign_access(&self, access: Access) -> RawAccess {
        let keys = KeyPair::from_seed(&self.seed);
        trust::sign_access(&self.genesis, &keys, Some(&self.certificate), access)
    }
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Operator({} of {:?})", self.name, self.cluster())
    }
}

impl OperatorForm {
    fn read(&self) -> Result<(Genesis, [u8; 32], Unverified<Certificate>), String> {
        let key = |text: &str| text.parse::<PublicKey>().map_err(|error| error.to_string());
        let genesis = Genesis { root: key(&self.root)?, join: key(&self.join)? };
        let seed = self.seed.parse::<Digest>().map_err(|error| error.to_string())?.0;
        let bytes =
            from_hex(&self.certificate).ok_or("the certificate is not hexadecimal digits")?;
        let certificate: Unverified<Certificate> =
            codec::decode(&bytes).map_err(|error| error.to_string())?;
        let checked =
            trust::check_certificate(&genesis, &certificate).map_err(|error| error.to_string())?;
        if genesis.cluster().to_string() != self.cluster
            || checked.subject != KeyPair::from_seed(&seed).public()
        {
            return Err("its keys do not belong together".into());
        }
        Ok((genesis, seed, certificate))
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
