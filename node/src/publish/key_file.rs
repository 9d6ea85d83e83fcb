//! The files with keys of people: an operator's, and the root's. Their seed may be under a
//! passphrase.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use shoal_protocol::model::{Chain, ClusterId, Digest, KeyPair, PublicKey, codec};
use shoal_protocol::trust::{self, Genesis};

use super::files;
use super::operator::{Operator, OperatorError};
use super::passphrase::{SealError, SealedSeed};
use crate::hex::{from_hex, to_hex};

const FORMAT: u32 = 1;
/// The name of the root key, for people.
const ROOT_NAME: &str = "root";

/// A file with a key.
pub struct KeyFile {
    path: PathBuf,
    form: Form,
}

enum Form {
    Operator(OperatorForm),
    Root(RootForm),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OperatorForm {
    format: u32,
    cluster: String,
    root: String,
    name: String,
    seed: SeedForm,
    chain: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RootForm {
    format: u32,
    cluster: String,
    seed: SeedForm,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum SeedForm {
    /// 32 bytes as hexadecimal digits; empty where its holder has to fill it in.
    Plain(String),
    Sealed(SealedSeed),
}

impl KeyFile {
    /// Reads a file; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read, others than its owner can, or it holds something else.
    pub fn read(path: &Path) -> Result<Option<KeyFile>, OperatorError> {
        let Some(text) = files::read_secret(path)? else { return Ok(None) };
        // A root's file is the only one without a chain.
        let form = match serde_json::from_str::<RootForm>(&text) {
            Ok(root) => Form::Root(root),
            Err(_) => Form::Operator(serde_json::from_str(&text).map_err(|error| {
                OperatorError::Damaged { file: path.to_owned(), why: error.to_string() }
            })?),
        };
        Ok(Some(KeyFile { path: path.to_owned(), form }))
    }

    /// The file of a root key.
    pub(super) fn root(path: &Path, seed: &[u8; 32]) -> KeyFile {
        let genesis = Genesis { root: KeyPair::from_seed(seed).public() };
        let form = Form::Root(RootForm {
            format: FORMAT,
            cluster: genesis.cluster().to_string(),
            seed: SeedForm::Plain(Digest(*seed).to_string()),
        });
        KeyFile { path: path.to_owned(), form }
    }

    pub(super) fn write(&self) -> Result<(), OperatorError> {
        match &self.form {
            Form::Operator(form) => files::write_json(&self.path, form)?,
            Form::Root(form) => files::write_json(&self.path, form)?,
        }
        Ok(())
    }

    /// The cluster that it says it is of.
    pub fn cluster(&self) -> ClusterId {
        let (Form::Operator(OperatorForm { cluster, .. }) | Form::Root(RootForm { cluster, .. })) =
            &self.form;
        cluster.parse().unwrap_or(ClusterId([0; 32]))
    }

    /// The name of its holder.
    pub fn name(&self) -> &str {
        match &self.form {
            Form::Operator(form) => &form.name,
            Form::Root(_) => ROOT_NAME,
        }
    }

    /// Whether a passphrase is needed to use it.
    pub fn is_sealed(&self) -> bool {
        matches!(self.seed_form(), SeedForm::Sealed(_))
    }

    /// The operator, or the root, whose key it holds. `config` keeps the id of this installation.
    ///
    /// # Errors
    /// The passphrase is missing or wrong, or the file's parts do not belong together.
    pub fn open(&self, passphrase: Option<&str>, config: &Path) -> Result<Operator, OperatorError> {
        let seed = self.open_seed(passphrase)?;
        let (genesis, name, chain) = self.check(&seed)?;
        Operator::new(genesis, name, seed, chain, config)
    }

    /// Writes it anew with its seed under another passphrase, or under none.
    ///
    /// # Errors
    /// The file cannot be written: then it is as before.
    pub fn reseal(mut self, seed: &[u8; 32], new: Option<&str>) -> Result<(), OperatorError> {
        let sealed = match new {
            None => SeedForm::Plain(Digest(*seed).to_string()),
            Some(new) => {
                SeedForm::Sealed(SealedSeed::seal(seed, new).map_err(|error| self.error(error))?)
            }
        };
        match &mut self.form {
            Form::Operator(form) => form.seed = sealed,
            Form::Root(form) => form.seed = sealed,
        }
        self.write()
    }

    fn seed_form(&self) -> &SeedForm {
        match &self.form {
            Form::Operator(form) => &form.seed,
            Form::Root(form) => &form.seed,
        }
    }

    /// The seed, which belongs to the rest of the file.
    ///
    /// # Errors
    /// As for [`KeyFile::open`].
    pub fn seed(&self, passphrase: Option<&str>) -> Result<[u8; 32], OperatorError> {
        let seed = self.open_seed(passphrase)?;
        self.check(&seed)?;
        Ok(seed)
    }

    fn open_seed(&self, passphrase: Option<&str>) -> Result<[u8; 32], OperatorError> {
        match (self.seed_form(), passphrase) {
            (SeedForm::Plain(text), _) => {
                text.parse::<Digest>().map(|it| it.0).map_err(|it| self.damaged(it.to_string()))
            }
            (SeedForm::Sealed(_), None) => Err(OperatorError::Locked(self.path.clone())),
            (SeedForm::Sealed(sealed), Some(passphrase)) => {
                sealed.open(passphrase).map_err(|error| self.error(error))
            }
        }
    }

    /// Checks that the seed, the chain and the cluster belong together.
    fn check(&self, seed: &[u8; 32]) -> Result<(Genesis, String, Chain), OperatorError> {
        let key = KeyPair::from_seed(seed).public();
        let (genesis, name, chain, cluster) = match &self.form {
            Form::Root(form) => {
                (Genesis { root: key }, self.name().to_owned(), Chain::default(), &form.cluster)
            }
            Form::Operator(form) => {
                let (genesis, chain) = form.read(key).map_err(|why| self.damaged(why))?;
                (genesis, form.name.clone(), chain, &form.cluster)
            }
        };
        match genesis.cluster().to_string() == *cluster {
            true => Ok((genesis, name, chain)),
            false => Err(self.damaged("its keys do not belong together".into())),
        }
    }

    fn error(&self, error: SealError) -> OperatorError {
        match error {
            SealError::Wrong => OperatorError::Passphrase(self.path.clone()),
            SealError::Malformed(why) => self.damaged(why),
            SealError::Random(error) => error.into(),
        }
    }

    fn damaged(&self, why: String) -> OperatorError {
        OperatorError::Damaged { file: self.path.clone(), why }
    }
}

impl OperatorForm {
    fn read(&self, key: PublicKey) -> Result<(Genesis, Chain), String> {
        let root = self.root.parse::<PublicKey>().map_err(|error| error.to_string())?;
        let genesis = Genesis { root };
        let bytes = from_hex(&self.chain).ok_or("the chain is not hexadecimal digits")?;
        let chain: Chain = codec::decode(&bytes).map_err(|error| error.to_string())?;
        trust::authority(&genesis, &chain, key, None).map_err(|error| error.to_string())?;
        Ok((genesis, chain))
    }
}

/// An operator's file, for another computer.
pub struct OperatorFile(OperatorForm);

impl OperatorFile {
    /// The file of the key that `chain` leads to. Without a seed its holder has to fill it in.
    pub fn new(genesis: Genesis, name: &str, seed: Option<[u8; 32]>, chain: &Chain) -> Self {
        let seed = seed.map(|seed| Digest(seed).to_string()).unwrap_or_default();
        OperatorFile(OperatorForm {
            format: FORMAT,
            cluster: genesis.cluster().to_string(),
            root: genesis.root.to_string(),
            name: name.to_owned(),
            seed: SeedForm::Plain(seed),
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
