//! The beginning of a cluster: its root key, and its first administrator.

use std::path::Path;

use serde::{Deserialize, Serialize};
use shoal_protocol::model::{
    Chain, ChangeBody, Digest, Key, KeyPair, Namespaces, NodeId, RawChange, Role, Value, WallClock,
};
use shoal_protocol::trust::{self, Genesis, Rejection, Terms};

use super::files;
use super::key_file::{KeyFile, OperatorFile};
use super::operator::{OPERATOR_FILE, Operator, OperatorError, ROOT_FILE};
use crate::identity;

const FORMAT: u32 = 1;

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

impl Founding {
    /// Draws the keys of a new cluster.
    pub fn draw() -> Result<Founding, OperatorError> {
        Ok(Founding { root_seed: identity::random()?, operator_seed: identity::random()? })
    }

    /// Refuses a config folder that holds another cluster's key, which is every key when there is
    /// no founding to go on with.
    pub fn check_free(config: &Path) -> Result<(), OperatorError> {
        let file = config.join(OPERATOR_FILE);
        match KeyFile::read(&file)? {
            Some(found) => Err(OperatorError::OtherCluster { other: found.cluster(), file }),
            None => Ok(()),
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
            value: Value::Operator(operator.chain().clone()),
        };
        trust::sign_change(&genesis, &root, &Chain::default(), body).map(|change| change.raw())
    }

    /// Writes the root key and the first administrator's key into `config`, and returns the
    /// operator. Files of another cluster are an error and stay; those of this cluster are kept.
    pub fn establish(&self, config: &Path, name: &str) -> Result<Operator, OperatorError> {
        let genesis = self.genesis();
        let cluster = genesis.cluster();
        files::make_folder(config)?;
        let file = config.join(OPERATOR_FILE);
        match KeyFile::read(&file)?.map(|found| found.cluster()) {
            Some(found) if found == cluster => return Operator::load(config),
            Some(other) => return Err(OperatorError::OtherCluster { file, other }),
            None => {}
        }
        let root_file = config.join(ROOT_FILE);
        match KeyFile::read(&root_file)?.map(|found| found.cluster()) {
            Some(found) if found == cluster => {}
            Some(other) => return Err(OperatorError::OtherCluster { file: root_file, other }),
            None => KeyFile::root(&root_file, &self.root_seed).write()?,
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
        let made = OperatorFile::new(genesis, name, Some(self.operator_seed), &chain);
        files::write(&file, made.text().as_bytes())?;
        Operator::load(config)
    }
}
