//! The JSON of requests and answers that are not views. Both the command line and the API use these
//! types.
//!
//! Ids are 64 hexadecimal digits, sizes bytes, CPU thousandths of a core.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shoal_protocol::model::id::hex;
use shoal_protocol::model::spec::{InvalidSpec, Program};
use shoal_protocol::model::{
    Artifact, ClusterId, Digest, ProgramKind, Resources, Spec, SpecForm, WorkloadName,
};

/// A workload's spec as JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecBody {
    /// The workload, as `namespace/name`.
    pub name: String,
    /// The runtime: `wasm` is the only one.
    pub runtime: String,
    /// The component to run.
    pub artifact: ArtifactBody,
    /// The wanted number of replicas.
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

/// An artifact: the bytes' hash and size.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactBody {
    /// SHA-256 of the bytes.
    #[serde(with = "hex")]
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

impl From<&Spec> for SpecBody {
    fn from(spec: &Spec) -> SpecBody {
        let Program::Wasm(component) = &spec.program else {
            unreachable!("a valid spec has a component: containers are not supported yet")
        };
        let Artifact { digest, size } = component.artifact;
        SpecBody {
            name: full_name(&spec.name),
            runtime: spec.program.kind().to_string(),
            artifact: ArtifactBody { digest, size },
            replicas: spec.replicas(),
            memory: spec.reservation().memory,
            cpu: spec.reservation().cpu,
            env: component.env.clone(),
            require: spec.placement.require.clone(),
        }
    }
}

/// Why a [`SpecBody`] is not a valid spec.
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
        if body.runtime != ProgramKind::Wasm.to_string() {
            return Err(BadSpec::Runtime(body.runtime));
        }
        let ArtifactBody { digest, size } = body.artifact;
        let resources = Resources { memory: body.memory, cpu: body.cpu };
        let artifact = Artifact { digest, size };
        let mut form =
            SpecForm::wasm_service(body.name.parse()?, artifact, body.replicas, resources)
                .with_env(body.env);
        form.placement.require = body.require;
        Ok(Spec::try_from(form)?)
    }
}

/// The request `POST /v1/prepare`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrepareBody {
    /// The workload, as `namespace/name`.
    pub name: String,
    /// The wanted spec; null to remove the workload.
    pub spec: Option<SpecBody>,
    /// Accept a spec that no known node can run now.
    #[serde(default)]
    pub force: bool,
}

/// The answer of `POST /v1/prepare`: what the author must sign.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PreparedBody {
    /// The greatest known serial of each writer of the key.
    pub clock: BTreeMap<String, u64>,
    /// The serial to sign with.
    pub serial: u64,
    /// The workload that is changed; null when it is created.
    pub uid: Option<String>,
    /// The current spec; null when there is none.
    pub current: Option<SpecBody>,
    /// When the spec equals the current one: nodes that may hold another one. If there are none,
    /// nothing need be written. Otherwise write it all the same, or a change that those nodes bring
    /// back may replace it.
    #[serde(default)]
    pub unheard: Vec<String>,
    /// The cluster that the signature is for.
    #[serde(with = "hex")]
    pub cluster: ClusterId,
}

/// The request `POST /v1/submit`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitBody {
    /// The canonical bytes of the signed change, in hexadecimal digits.
    pub change: String,
}

/// The answer of `POST /v1/submit`: the change is on disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AcceptedBody {
    /// The workload's identity, new for each creation.
    pub uid: String,
    /// The hash of the signed change.
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
    /// The argument of `shoal up --join` on another device.
    pub line: String,
}

/// A line of `GET /v1/logs/..`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogBody {
    /// The time, RFC 3339 in UTC.
    pub at: String,
    /// The stream, `stdout` or `stderr`.
    pub stream: String,
    /// The line, without its end.
    pub text: String,
}

/// The body of every answer that is not a success.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The error's parts.
    pub error: ErrorParts,
}

/// A code, a sentence and advice.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ErrorParts {
    /// A code for programs, as in `no-such-workload`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// Advice for the user.
    pub hint: Option<String>,
}

/// `namespace/name`, also for the default namespace, which programs should not have to know.
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

    /// The JSON is a public format: both directions must keep every field.
    #[test]
    fn spec_survives_json_round_trip() {
        let text = concat!(
            r#"{"name":"shop/hello","runtime":"wasm","artifact":{"digest":"#,
            r#""1111111111111111111111111111111111111111111111111111111111111111","size":7},"#,
            r#""replicas":2,"memory":67108864,"cpu":100,"env":{"A":"b"},"require":{}}"#,
        );
        let body: SpecBody = serde_json::from_str(text).unwrap();
        let spec = Spec::try_from(body.clone()).unwrap();
        assert_eq!(SpecBody::from(&spec), body);
        assert_eq!(serde_json::to_string(&body).unwrap(), text);
    }

    /// Each invalid field is named in the error, and unknown fields are refused.
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
