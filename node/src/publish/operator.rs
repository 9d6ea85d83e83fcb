//! The operator: a key that may write desired state, and its files.
//!
//! The key belongs to a person and is kept in that person's config folder, never in a node's state:
//! a thief of a device cannot publish workloads.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shoal_protocol::model::access::{Access, RawAccess};
use shoal_protocol::model::{
    Chain, ChangeBody, ClusterId, Digest, Key, KeyPair, Namespaces, NodeId, PublicKey, RawChange,
    Role, Spec, Value, WallClock, WorkloadName, codec,
};
use shoal_protocol::node::Draft;
use shoal_protocol::trust::{self, Authority, Genesis, Rejection, Terms};

use super::files::{self, FileError, SecretError};
use crate::hex::{from_hex, to_hex};
use crate::identity::{self, IdentityError};

/// The operator's file in the config folder.
pub const OPERATOR_FILE: &str = "operator.json";
/// The root key's file beside it. It gives all rights; keep it somewhere safe.
pub const ROOT_FILE: &str = "root.json";
/// The random id of this installation of the key.
pub const INSTALLATION_FILE: &str = "installation";
const FORMAT: u32 = 1;
/// The name of the root key, for people.
const ROOT_NAME: &str = "root";

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
                "The first `shoal up` of a cluster makes one in ~/.config/shoal. Copy that \
                    folder's operator.json here, or name it with --key FILE, \
                 --config or SHOAL_CONFIG.",
            ),
            OperatorError::Damaged { .. } => {
                Some("Restore it from a copy; without a copy, an administrator can make another.")
            }
            OperatorError::OtherCluster { .. } => Some(
                "To join that cluster, `shoal join` an invite of it. To make another, name \
                    another folder with --config or SHOAL_CONFIG: a \
                 key is never overwritten.",
            ),
            OperatorError::File(_)
            | OperatorError::Secret(_)
            | OperatorError::Random(_)
            | OperatorError::Grant(_) => None,
        };
        hint.map(str::to_owned)
    }
}

/// A new cluster's keys: root and first operator. Kept in the state folder until the
/// operator's files and the node's identity are written, so that a first start that is interrupted
/// continues with the same cluster.
pub struct Founding {
    root_seed: [u8; 32],
    operator_seed: [u8; 32],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FoundingForm {
    format: u32,
    root_seed: String,
    operator_seed: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OperatorForm {
    format: u32,
    cluster: String,
    root: String,
    name: String,
    seed: String,
    chain: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RootForm {
    format: u32,
    cluster: String,
    seed: String,
}

impl Founding {
    /// Draws the keys of a new cluster.
    pub fn draw() -> Result<Founding, OperatorError> {
        Ok(Founding { root_seed: identity::random()?, operator_seed: identity::random()? })
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
            operator_seed: seed(&form.operator_seed)?,
        }))
    }

    /// Saves it in `file`, readable by its owner alone.
    pub fn save(&self, file: &Path) -> Result<(), OperatorError> {
        let hex = |seed: [u8; 32]| Digest(seed).to_string();
        let form = FoundingForm {
            format: FORMAT,
            root_seed: hex(self.root_seed),
            operator_seed: hex(self.operator_seed),
        };
        Ok(files::write_json(file, &form)?)
    }

    /// The cluster's beginning.
    pub fn genesis(&self) -> Genesis {
        Genesis { root: KeyPair::from_seed(&self.root_seed).public() }
    }

    /// The admission of the first node, by the root.
    ///
    /// # Errors
    /// The clock is beyond the greatest serial.
    pub fn admit(&self, node: NodeId, now: WallClock) -> Result<RawChange, Rejection> {
        let (genesis, root) = (self.genesis(), KeyPair::from_seed(&self.root_seed));
        let serial = trust::serial_at(now).max(1);
        trust::admit_as_operator(&genesis, &root, &Chain::default(), node, serial)
            .map(|change| change.raw())
    }

    /// The first administrator's entry among the operators, by the root.
    ///
    /// # Errors
    /// As for [`Founding::admit`].
    pub fn enter(&self, operator: &Operator, now: WallClock) -> Result<RawChange, Rejection> {
        let (genesis, root) = (self.genesis(), KeyPair::from_seed(&self.root_seed));
        let (writer, serial) =
            (trust::writer_id(&root.public(), &[0; 16]), trust::serial_at(now).max(1));
        let body = ChangeBody {
            key: Key::Operator(operator.keys().public()),
            writer,
            serial,
            clock: [(writer, serial)].into(),
            uid: None,
            value: Value::Operator(operator.chain.clone()),
        };
        trust::sign_change(&genesis, &root, &Chain::default(), body).map(|change| change.raw())
    }

    /// Writes the root key and the first administrator's key into `config`, and returns the
    /// operator. Files of another cluster are an error and stay; those of this cluster are kept.
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
            seed: Digest(self.root_seed).to_string(),
        };
        match files::read_secret(&root_file)? {
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
        let terms = Terms {
            name: name.to_owned(),
            role: Role::Admin,
            namespaces: Namespaces::All,
            serial: 1,
            expires: None,
        };
        let root = KeyPair::from_seed(&self.root_seed);
        let chain = trust::grant(&genesis, &root, &Chain::default(), subject, terms)?;
        let form = OperatorForm {
            format: FORMAT,
            cluster: cluster.to_string(),
            root: genesis.root.to_string(),
            name: name.to_owned(),
            seed: Digest(self.operator_seed).to_string(),
            chain: to_hex(&codec::encode(&chain)),
        };
        files::write_json(&config.join(OPERATOR_FILE), &form)?;
        Operator::load(config)
    }
}

impl Operator {
    /// The operator in this config folder. Its installation id is drawn on first use.
    pub fn load(config: &Path) -> Result<Operator, OperatorError> {
        match files::read_secret(&config.join(OPERATOR_FILE))? {
            Some(text) => Self::of_file(&config.join(OPERATOR_FILE), &text, config),
            None => Err(OperatorError::None(config.to_owned())),
        }
    }

    /// The operator, or the root, whose key is in `file`, which `shoal operator add` printed or the
    /// first `shoal up` made. `config` keeps the id of this installation.
    pub fn load_file(file: &Path, config: &Path) -> Result<Operator, OperatorError> {
        let Some(text) = files::read_secret(file)? else {
            let missing = std::io::ErrorKind::NotFound.into();
            return Err(FileError::new(file, "read", missing).into());
        };
        Self::of_file(file, &text, config)
    }

    fn of_file(file: &Path, text: &str, config: &Path) -> Result<Operator, OperatorError> {
        let damaged = |why: String| OperatorError::Damaged { file: file.to_owned(), why };
        let installation = || installation(config);
        if let Ok(root) = serde_json::from_str::<RootForm>(text) {
            let (genesis, seed) = root.read().map_err(damaged)?;
            let (name, chain, installation) = (ROOT_NAME.into(), Chain::default(), installation()?);
            return Ok(Operator { genesis, name, seed, chain, installation });
        }
        let form: OperatorForm =
            serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
        let (genesis, seed, chain) = form.read().map_err(damaged)?;
        Ok(Operator { genesis, name: form.name, seed, chain, installation: installation()? })
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
        let keys = self.keys();
        let writer = trust::writer_id(&keys.public(), &self.installation);
        clock.insert(writer, serial);
        let body = ChangeBody { key, writer, serial, clock, uid, value };
        trust::sign_change(&self.genesis, &keys, &self.chain, body).map(|change| change.raw())
    }

    /// Gives `subject` a right in the operator's name; returns the chain of `subject`.
    pub fn grant(&self, subject: PublicKey, terms: Terms) -> Result<Chain, Rejection> {
        trust::grant(&self.genesis, &self.keys(), &self.chain, subject, terms)
    }

    /// Signs a request to a running replica.
    pub fn sign_access(&self, access: Access) -> RawAccess {
        trust::sign_access(&self.genesis, &self.keys(), &self.chain, access)
    }
}

/// An operator's file, for another computer.
pub struct OperatorFile(OperatorForm);

impl OperatorFile {
    /// The file of the key that `chain` leads to. Without a seed its holder has to fill it in.
    pub fn new(genesis: Genesis, name: &str, seed: Option<[u8; 32]>, chain: &Chain) -> Self {
        OperatorFile(OperatorForm {
            format: FORMAT,
            cluster: genesis.cluster().to_string(),
            root: genesis.root.to_string(),
            name: name.to_owned(),
            seed: seed.map(|seed| Digest(seed).to_string()).unwrap_or_default(),
            chain: to_hex(&codec::encode(chain)),
        })
    }

    /// Its text.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(&self.0).unwrap_or_default();
        text.push('\n');
        text
    }
}

impl std::fmt::Debug for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Operator({} of {:?})", self.name, self.cluster())
    }
}

impl RootForm {
    fn read(&self) -> Result<(Genesis, [u8; 32]), String> {
        let seed = self.seed.parse::<Digest>().map_err(|error| error.to_string())?.0;
        let genesis = Genesis { root: KeyPair::from_seed(&seed).public() };
        match genesis.cluster().to_string() == self.cluster {
            true => Ok((genesis, seed)),
            false => Err("its key is not the cluster's".into()),
        }
    }
}

impl OperatorForm {
    fn read(&self) -> Result<(Genesis, [u8; 32], Chain), String> {
        let root = self.root.parse::<PublicKey>().map_err(|error| error.to_string())?;
        let genesis = Genesis { root };
        let seed = self.seed.parse::<Digest>().map_err(|error| error.to_string())?.0;
        let bytes = from_hex(&self.chain).ok_or("the chain is not hexadecimal digits")?;
        let chain: Chain = codec::decode(&bytes).map_err(|error| error.to_string())?;
        let key = KeyPair::from_seed(&seed).public();
        trust::authority(&genesis, &chain, key, None).map_err(|error| error.to_string())?;
        match genesis.cluster().to_string() == self.cluster {
            true => Ok((genesis, seed, chain)),
            false => Err("its keys do not belong together".into()),
        }
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
