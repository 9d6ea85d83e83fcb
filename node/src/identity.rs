//! The identity of this node: its own key, and its cluster. A small file, written once, and used
//! only if it is intact.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use shoal_protocol::model::{ClusterId, Digest, KeyPair, NodeId, PublicKey};
use shoal_protocol::node;
use shoal_protocol::trust::{Genesis, Invite};

/// The identity's file in the state folder.
pub const FILE: &str = "identity.json";
const FORMAT: u32 = 2;
/// The format of programs whose clusters had a join key.
const JOIN_KEY_FORMAT: u64 = 1;

/// A node's secrets. `Debug` shows none of them.
#[derive(Clone)]
pub struct Identity {
    node_seed: [u8; 32],
    genesis: Genesis,
    founder: bool,
}

/// Why there is no usable identity. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum IdentityError {
    #[error(
        "{} was cut short or altered: {why}. Restore it from a copy, or move {} away and join \
            again with an empty state: `shoal join \
         LINE`, with the line that `shoal invite` prints on another node",
        file.display(), folder.display()
    )]
    Damaged { file: PathBuf, folder: PathBuf, why: String },
    #[error("{} was written by a newer shoal (format {format}): run that one", file.display())]
    Newer { file: PathBuf, format: u32 },
    #[error(
        "{} is of a cluster with a join key, as shoal made them before it had invites. This shoal \
            cannot be a member of it, and nothing was changed. Start the shoal of before to go on \
            as before; or move {} away on every device, `shoal up` on the first one, `shoal join` \
            on the others, and publish the workloads again (docs/trust.md)",
        file.display(), folder.display()
    )]
    JoinKey { file: PathBuf, folder: PathBuf },
    #[error(
        "this node belongs to cluster {}, and the invite is of cluster {}. To keep the first, \
            start it without the invite; to join the second, name \
         an empty folder with --state", own.short(), other.short()
    )]
    OtherCluster { own: ClusterId, other: ClusterId },
    #[error("{} cannot be {doing}: {source}", file.display())]
    Io { file: PathBuf, doing: &'static str, source: io::Error },
    #[error("the system gives no random numbers")]
    NoRandom,
}

/// The format of the file. Keys, seeds and the checksum are 64 hexadecimal digits.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    format: u32,
    node_seed: String,
    root: String,
    /// Only a founder's file has this field.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    founder: bool,
    checksum: String,
}

/// The bytes that both ends of a handshake in this cluster must know. They keep nobody out.
pub(crate) fn prologue(genesis: &Genesis) -> [u8; 32] {
    Digest::of_parts(&[b"shoal/transport/2", genesis.cluster().as_bytes()]).0
}

impl Identity {
    /// A new node of the cluster with this genesis.
    pub fn draw(genesis: Genesis) -> Result<Identity, IdentityError> {
        Ok(Identity { node_seed: random()?, genesis, founder: false })
    }

    /// The first node of a new cluster. The identity says that it is the first: it need not wait
    /// for others.
    pub fn found(genesis: Genesis) -> Result<Identity, IdentityError> {
        Ok(Identity { founder: true, ..Self::draw(genesis)? })
    }

    /// Reads the identity in `folder`; none when there is none yet.
    pub fn load(folder: &Path) -> Result<Option<Identity>, IdentityError> {
        let file = folder.join(FILE);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(IdentityError::Io { file, doing: "read", source }),
        };
        let damaged = |why: String| IdentityError::Damaged {
            file: file.clone(),
            folder: folder.to_owned(),
            why,
        };
        // Another program's file may have other fields, so its format is checked first.
        let value: serde_json::Value =
            serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(JOIN_KEY_FORMAT) if value.get("join_seed").is_some() => {
                return Err(IdentityError::JoinKey { file, folder: folder.to_owned() });
            }
            Some(format) if format > FORMAT.into() => {
                return Err(IdentityError::Newer {
                    file,
                    format: u32::try_from(format).unwrap_or(u32::MAX),
                });
            }
            _ => {}
        }
        let file: IdentityFile =
            serde_json::from_value(value).map_err(|error| damaged(error.to_string()))?;
        if file.checksum != file.sum() {
            return Err(damaged("its checksum does not match".into()));
        }
        file.identity().map(Some).map_err(damaged)
    }

    /// Writes the identity into `folder`, readable by its owner alone. It never replaces an
    /// identity.
    pub fn create(&self, folder: &Path) -> Result<(), IdentityError> {
        let (file, fresh) = (folder.join(FILE), folder.join("identity.json.new"));
        let cannot = |source| IdentityError::Io { file: file.clone(), doing: "made", source };
        let text = serde_json::to_string_pretty(&IdentityFile::of(self))
            .map_err(|error| cannot(error.into()))?;
        // A leftover of an interrupted start.
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot(error)),
            _ => {}
        }
        let mut out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(cannot)?;
        out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(cannot)?;
        // A hard link fails where a rename would replace the file.
        fs::hard_link(&fresh, &file).map_err(cannot)?;
        fs::remove_file(&fresh).map_err(cannot)?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(cannot)
    }

    /// Refuses an invite of another cluster.
    pub fn check_cluster(&self, other: ClusterId) -> Result<(), IdentityError> {
        let own = self.cluster();
        if own == other { Ok(()) } else { Err(IdentityError::OtherCluster { own, other }) }
    }

    /// The node's id.
    pub fn node(&self) -> NodeId {
        NodeId(KeyPair::from_seed(&self.node_seed).public().0)
    }

    /// The cluster's id.
    pub fn cluster(&self) -> ClusterId {
        self.genesis.cluster()
    }

    /// The cluster's beginning: its root key.
    pub fn genesis(&self) -> Genesis {
        self.genesis
    }

    /// Whether this node made the cluster.
    pub fn is_founder(&self) -> bool {
        self.founder
    }

    /// The seed of the node's own key.
    pub(crate) fn node_seed(&self) -> &[u8; 32] {
        &self.node_seed
    }

    /// The bytes that both ends of every handshake must know: peers of other clusters cannot
    /// complete one.
    pub(crate) fn prologue(&self) -> [u8; 32] {
        prologue(&self.genesis)
    }

    /// The identity as the core takes it; a node that is no member yet joins with `invite`.
    pub fn for_core(&self, invite: Option<&Invite>) -> node::Identity {
        let admittance =
            |it: &Invite| node::Admittance { keys: it.keys(), chain: it.chain.clone() };
        node::Identity {
            keys: KeyPair::from_seed(&self.node_seed),
            genesis: self.genesis,
            invite: invite.map(admittance),
        }
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({:?} of {:?})", self.node(), self.cluster())
    }
}

impl IdentityFile {
    fn of(identity: &Identity) -> IdentityFile {
        let hex = |bytes: [u8; 32]| Digest(bytes).to_string();
        let mut file = IdentityFile {
            format: FORMAT,
            node_seed: hex(identity.node_seed),
            root: identity.genesis.root.to_string(),
            founder: identity.founder,
            checksum: String::new(),
        };
        file.checksum = file.sum();
        file
    }

    fn sum(&self) -> String {
        let parts = [&self.node_seed, &self.root].map(|part| part.as_bytes());
        let parts: Vec<&[u8]> = parts.iter().flat_map(|part| [*part, b"\n".as_slice()]).collect();
        let founder: &[u8] = if self.founder { b"founder\n" } else { b"" };
        Digest::of_parts(&[b"shoal/identity/2\n", parts.concat().as_slice(), founder]).to_string()
    }

    fn identity(&self) -> Result<Identity, String> {
        let seed = |name: &str, text: &str| {
            text.parse::<Digest>().map(|seed| seed.0).map_err(|error| format!("{name}: {error}"))
        };
        let key = |name: &str, text: &str| {
            text.parse::<PublicKey>().map_err(|error| format!("{name}: {error}"))
        };
        let genesis = Genesis { root: key("root", &self.root)? };
        let node_seed = seed("node_seed", &self.node_seed)?;
        Ok(Identity { node_seed, genesis, founder: self.founder })
    }
}

/// 32 bytes from the system's secure random generator.
pub fn random() -> Result<[u8; 32], IdentityError> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| IdentityError::NoRandom)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn genesis(root: u8) -> Genesis {
        Genesis { root: KeyPair::from_seed(&[root; 32]).public() }
    }

    fn made() -> (tempfile::TempDir, Identity) {
        let folder = tempfile::TempDir::new().unwrap();
        let identity = Identity::draw(genesis(2)).unwrap();
        identity.create(folder.path()).unwrap();
        (folder, identity)
    }

    /// The file holds the node's secret keys.
    #[test]
    fn identity_is_read_back_and_private_to_its_owner() {
        let (folder, identity) = made();
        let back = Identity::load(folder.path()).unwrap().unwrap();
        assert_eq!((back.node(), back.cluster()), (identity.node(), identity.cluster()));
        assert_eq!(back.for_core(None).keys.public().0, identity.node().0);
        let mode = fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(Identity::load(tempfile::TempDir::new().unwrap().path()).unwrap().is_none());
    }

    /// A founder admits itself, so the checksum must cover the flag.
    #[test]
    fn founder_flag_is_kept_and_cannot_be_added() {
        let (folder, _) = made();
        assert!(!Identity::load(folder.path()).unwrap().unwrap().is_founder());
        let joined = fs::read_to_string(folder.path().join(FILE)).unwrap();
        fs::write(folder.path().join(FILE), joined.replacen('{', "{\"founder\": true,", 1))
            .unwrap();
        assert!(matches!(Identity::load(folder.path()), Err(IdentityError::Damaged { .. })));
        let folder = tempfile::TempDir::new().unwrap();
        Identity::found(genesis(2)).unwrap().create(folder.path()).unwrap();
        assert!(Identity::load(folder.path()).unwrap().unwrap().is_founder());
    }

    /// A lost key cannot be recovered, so a second identity in the folder is an error.
    #[test]
    fn identity_is_never_replaced() {
        let (folder, identity) = made();
        assert!(Identity::draw(genesis(2)).unwrap().create(folder.path()).is_err());
        assert_eq!(Identity::load(folder.path()).unwrap().unwrap().node(), identity.node());
    }

    /// A start ended while it wrote the temporary file; the next one succeeds.
    #[test]
    fn leftover_of_an_interrupted_start_is_ignored() {
        let folder = tempfile::TempDir::new().unwrap();
        fs::write(folder.path().join("identity.json.new"), b"{\"for").unwrap();
        Identity::draw(genesis(2)).unwrap().create(folder.path()).unwrap();
        assert!(Identity::load(folder.path()).unwrap().is_some());
    }

    /// Whatever part of the file is damaged, the error names it and a remedy.
    #[test]
    fn truncated_or_altered_identity_is_refused_by_name() {
        let (folder, identity) = made();
        let path = folder.path().join(FILE);
        let whole = fs::read(&path).unwrap();
        let refused = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            match Identity::load(folder.path()) {
                Ok(read) => {
                    assert_eq!(
                        read.map(|read| read.node()),
                        Some(identity.node()),
                        "only white space may differ"
                    )
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains(FILE), "{text}");
                }
            }
        };
        (0..whole.len()).for_each(|cut| refused(&whole[..cut]));
        for at in 0..whole.len() {
            let mut altered = whole.clone();
            altered[at] ^= 4;
            refused(&altered);
        }
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let text = Identity::load(folder.path()).unwrap_err().to_string();
        assert!(text.contains("shoal join LINE"), "{text}");
    }

    /// The error names both clusters, so that the operator sees the mix-up.
    #[test]
    fn invite_of_another_cluster_is_refused() {
        let (_folder, identity) = made();
        identity.check_cluster(identity.cluster()).unwrap();
        let text = identity.check_cluster(genesis(3).cluster()).unwrap_err().to_string();
        assert!(text.contains(&identity.cluster().short()) && text.contains("--state"), "{text}");
    }

    /// The state of a cluster with a join key is left as it is, with the way on.
    #[test]
    fn identity_of_a_cluster_with_a_join_key_is_refused() {
        let folder = tempfile::TempDir::new().unwrap();
        let old = r#"{"format":1,"node_seed":"aa","root":"bb","join":"cc","join_seed":"dd"}"#;
        fs::write(folder.path().join(FILE), old).unwrap();
        let error = Identity::load(folder.path()).unwrap_err();
        assert!(matches!(error, IdentityError::JoinKey { .. }), "{error}");
        assert!(error.to_string().contains("publish the workloads again"), "{error}");
        assert_eq!(fs::read_to_string(folder.path().join(FILE)).unwrap(), old);
    }

    /// Debug output may end in a log.
    #[test]
    fn debug_output_hides_secrets() {
        let (_folder, identity) = made();
        let shown = format!("{identity:?}");
        assert!(
            !shown.contains(&Digest(identity.node_seed).to_string()) && !shown.contains("020202"),
            "{shown}"
        );
    }
}
