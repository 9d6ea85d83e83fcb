//! The JSON of requests and answers that are not views. The command line and the API read and write
//! these same types.
//!
//! Ids are 64 hexadecimal digits, sizes bytes, CPU thousandths of a core.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shoal_protocol::model::id::hex;
use shoal_protocol::model::spec::InvalidSpec;
use shoal_protocol::model::{
    Artifact, ClusterId, Digest, Resources, RuntimeKind, Spec, SpecForm, WorkloadName,
};

/// A wish as JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecBody {
    /// `namespace/name`.
    pub name: String,
    /// `wasm`.
    pub runtime: String,
    /// What to run.
    pub artifact: ArtifactBody,
    /// How many at once.
    pub replicas: u32,
    /// Bytes a replica may take.
    pub memory: u64,
    /// Thousandths of a core a replica may take.
    pub cpu: u32,
    /// Environment of each replica.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Labels a node must have.
    #[serde(default)]
    pub require: BTreeMap<String, String>,
}

/// Bytes by their name.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactBody {
    /// SHA-256 of the bytes.
    #[serde(with = "hex")]
    pub digest: Digest,
    /// How many.
    pub size: u64,
}

impl From<&Spec> for SpecBody {
    fn from(spec: &Spec) -> SpecBody {
        SpecBody {
            name: full_name(&spec.name),
            runtime: spec.runtime.as_str().into(),
            artifact: ArtifactBody { digest: spec.artifact.digest, size: spec.artifact.size },
            replicas: spec.replicas,
            memory: spec.resources.memory,
            cpu: spec.resources.cpu,
            env: spec.env.clone(),
            require: spec.require.clone(),
        }
    }
}

/// Why a [`SpecBody`] is no wish.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadSpec {
    #[error("name: {0}")]
    Name(#[from] shoal_protocol::model::name::NotALabel),
    #[error("runtime: `{0}` is not known; this version runs `wasm`")]
    Runtime(String),
    #[error(transparent)]
    Invalid(#[from] InvalidSpec),
}

impl TryFrom<SpecBody> for Spec {
    type Error = BadSpec;

    fn try_from(body: SpecBody) -> Result<Spec, BadSpec> {
        let runtime = match body.runtime.as_str() {
            "wasm" => RuntimeKind::Wasm,
            _ => return Err(BadSpec::Runtime(body.runtime)),
        };
        let form = SpecForm {
            name: body.name.parse()?,
            runtime,
            artifact: Artifact { digest: body.artifact.digest, size: body.artifact.size },
            replicas: body.replicas,
            resources: Resources { memory: body.memory, cpu: body.cpu },
            env: body.env,
            require: body.require,
        };
        Ok(Spec::try_from(form)?)
    }
}

/// `POST /v1/prepare`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareBody {
    /// `namespace/name`.
    pub name: String,
    /// The wish; null to remove the workload.
    pub spec: Option<SpecBody>,
    /// Take a wish that no known node can fulfil now.
    #[serde(default)]
    pub force: bool,
}

/// The answer of `POST /v1/prepare`: what the author must sign.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PreparedBody {
    /// What has been seen of the key: the greatest serial by writer.
    pub clock: BTreeMap<String, u64>,
    /// The serial to use.
    pub serial: u64,
    /// The workload that is changed; null when it is created.
    pub uid: Option<String>,
    /// What is there now.
    pub current: Option<SpecBody>,
    /// Where the wish is what is there already: nodes that may know of another. None: it need not
    /// be written. Some: it is to be written all the same, or a change that they bring back may
    /// count in its place.
    #[serde(default)]
    pub unheard: Vec<String>,
    /// The cluster that the signature is for.
    #[serde(with = "hex")]
    pub cluster: ClusterId,
}

/// `POST /v1/submit`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitBody {
    /// The canonical bytes of the signed change, in hexadecimal digits.
    pub change: String,
}

/// The answer of `POST /v1/submit`: the change is on disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AcceptedBody {
    /// The workload's identity.
    pub uid: String,
    /// The change's hash.
    pub change: String,
}

/// The answer of `POST /v1/down`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DownBody {
    /// Always true: the node is about to stop.
    pub stopping: bool,
    /// Its state folder, which is free once the node has stopped.
    pub state: PathBuf,
}

/// The answer of `GET /v1/join-line`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JoinLineBody {
    /// What another device's `shoal up --join` takes.
    pub line: String,
}

/// One line of `GET /v1/logs/..`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogBody {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// The line, without its end.
    pub text: String,
}

/// The body of every answer that is not a success.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorParts,
}

/// What went wrong, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ErrorParts {
    /// A word for programs, as in `no-such-workload`.
    pub code: String,
    /// A sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// `namespace/name`, also for the default namespace: programs should not have to know which one
/// that is.
pub fn full_name(name: &WorkloadName) -> String {
    format!("{}/{}", name.namespace, name.name)
}

/// Bytes as hexadecimal digits.
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string does not fail");
        text
    })
}

/// Hexadecimal digits as bytes; `None` for anything else.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let (pairs, []) = digits.as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spec_survives_json_round_trip() {
        let text = r#"{"name":"shop/hello","runtime":"wasm","artifact":{"digest":"1111111111111111111111111111111111111111111111111111111111111111","size":7},"replicas":2,"memory":67108864,"cpu":100,"env":{"A":"b"},"require":{}}"#;
        let body: SpecBody = serde_json::from_str(text).unwrap();
        let spec = Spec::try_from(body.clone()).unwrap();
        assert_eq!(SpecBody::from(&spec), body);
        assert_eq!(serde_json::to_string(&body).unwrap(), text);
    }

    #[test]
    fn invalid_spec_names_the_field() {
        let body = |change: fn(&mut SpecBody)| {
            let mut body = SpecBody {
                name: "hello".into(),
                runtime: "wasm".into(),
                artifact: ArtifactBody { digest: Digest([1; 32]), size: 7 },
                replicas: 1,
                memory: 1 << 26,
                cpu: 100,
                env: BTreeMap::new(),
                require: BTreeMap::new(),
            };
            change(&mut body);
            Spec::try_from(body).unwrap_err().to_string()
        };
        assert!(
            body(|body| body.name = "Hello".into()).starts_with("name: `Hello` is not a DNS label")
        );
        assert!(body(|body| body.runtime = "oci".into()).contains("`oci` is not known"));
        assert!(body(|body| body.memory = 5).starts_with("memory: 5 bytes"));
        assert!(serde_json::from_str::<SpecBody>(r#"{"nmae":"x"}"#).is_err());
    }

    #[test]
    fn hex_survives_round_trip() {
        assert_eq!(to_hex(&[0, 255, 16]), "00ff10");
        assert_eq!(from_hex("00ff10"), Some(vec![0, 255, 16]));
        assert_eq!(from_hex("0"), None);
        assert_eq!(from_hex("zz"), None);
        assert_eq!(from_hex("é"), None);
    }
}
