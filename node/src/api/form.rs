//! The JSON of requests and answers that are not views, and its conversions from and to the types
//! that [`Service`](super::Service) takes. **Only the two ends of the socket use it**: the routes
//! and the command line's client. An embedded node passes the types themselves.
//!
//! Ids are 64 hexadecimal digits, sizes bytes, CPU thousandths of a core.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use shoal_protocol::model::codec::{self, Malformed};
use shoal_protocol::model::id::{NotAnId, hex};
use shoal_protocol::model::name::NotALabel;
use shoal_protocol::model::{ClusterId, PublicKey, RawChange, Spec, WorkloadName};
use shoal_protocol::node::{Draft, Version};

use super::{Accepted, Prepared, Proposal};
use crate::hex::{from_hex, to_hex};

pub use shoal_protocol::model::view::{ArtifactBody, BadSpec, SpecBody, full_name};

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

impl From<Proposal> for PrepareBody {
    fn from(proposal: Proposal) -> PrepareBody {
        let Proposal { name, spec, force } = proposal;
        PrepareBody { name: full_name(&name), spec: spec.as_ref().map(SpecBody::from), force }
    }
}

/// Why a [`PrepareBody`] is no proposal.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadProposal {
    #[error(transparent)]
    Name(#[from] NotALabel),
    #[error(transparent)]
    Spec(#[from] BadSpec),
    #[error("the spec names another workload than `{0}`")]
    OtherName(WorkloadName),
}

impl TryFrom<PrepareBody> for Proposal {
    type Error = BadProposal;

    fn try_from(body: PrepareBody) -> Result<Proposal, BadProposal> {
        let PrepareBody { name, spec, force } = body;
        let name: WorkloadName = name.parse()?;
        let spec = spec.map(Spec::try_from).transpose()?;
        if spec.as_ref().is_some_and(|spec| spec.name != name) {
            return Err(BadProposal::OtherName(name));
        }
        Ok(Proposal { name, spec, force })
    }
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
    /// Whether the current spec has proven good: an update that fails goes back to such a one.
    #[serde(default)]
    pub is_good: bool,
    /// Parts of the requested spec that are mostly a slip, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The versions that the change would supersede, the one that counts first: several if
    /// operators changed the workload at the same time.
    #[serde(default)]
    pub versions: Vec<VersionBody>,
    /// The cluster that the signature is for.
    #[serde(with = "hex")]
    pub cluster: ClusterId,
}

/// A version of a workload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VersionBody {
    /// The name in its author's grant.
    pub by: String,
    /// The author's key.
    #[serde(with = "hex")]
    pub key: PublicKey,
    /// The spec; null for a removal.
    pub spec: Option<SpecBody>,
}

/// The answer of `GET /v1/specs/{namespace}/{name}`: what was published.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PublishedBody {
    /// The spec that counts.
    pub spec: SpecBody,
    /// All versions, the one that counts first: several if operators changed the workload at the
    /// same time.
    pub versions: Vec<VersionBody>,
}

impl From<&Version> for VersionBody {
    fn from(version: &Version) -> VersionBody {
        let Version { by, key, spec } = version;
        VersionBody { by: by.clone(), key: *key, spec: spec.as_ref().map(SpecBody::from) }
    }
}

impl TryFrom<VersionBody> for Version {
    type Error = BadSpec;

    fn try_from(body: VersionBody) -> Result<Version, BadSpec> {
        let VersionBody { by, key, spec } = body;
        Ok(Version { by, key, spec: spec.map(Spec::try_from).transpose()? })
    }
}

/// Why an answer is none that this version understands.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadAnswer {
    #[error(transparent)]
    Id(#[from] NotAnId),
    #[error(transparent)]
    Spec(#[from] BadSpec),
}

impl From<Prepared> for PreparedBody {
    fn from(prepared: Prepared) -> PreparedBody {
        let Prepared { draft, current, unheard, is_good, warnings, versions, cluster } = prepared;
        let Draft { clock, serial, uid } = draft;
        PreparedBody {
            clock: clock.iter().map(|(writer, serial)| (writer.to_string(), *serial)).collect(),
            serial,
            uid: uid.map(|uid| uid.to_string()),
            current: current.as_ref().map(SpecBody::from),
            unheard,
            is_good,
            warnings,
            versions: versions.iter().map(VersionBody::from).collect(),
            cluster,
        }
    }
}

impl TryFrom<PreparedBody> for Prepared {
    type Error = BadAnswer;

    fn try_from(body: PreparedBody) -> Result<Prepared, BadAnswer> {
        let PreparedBody { clock, serial, uid, current, unheard, is_good, .. } = body;
        let PreparedBody { warnings, versions, cluster, .. } = body;
        let versions = versions.into_iter().map(Version::try_from).collect::<Result<_, _>>()?;
        let clock = clock
            .into_iter()
            .map(|(writer, serial)| Ok((writer.parse()?, serial)))
            .collect::<Result<_, NotAnId>>()?;
        let uid = uid.as_deref().map(str::parse).transpose()?;
        let current = current.map(Spec::try_from).transpose()?;
        let draft = Draft { clock, serial, uid };
        Ok(Prepared { draft, current, unheard, is_good, warnings, versions, cluster })
    }
}

/// The request `POST /v1/submit`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubmitBody {
    /// The canonical bytes of the signed change, in hexadecimal digits.
    pub change: String,
}

impl From<&RawChange> for SubmitBody {
    fn from(change: &RawChange) -> SubmitBody {
        SubmitBody { change: to_hex(&codec::encode(change)) }
    }
}

/// Why a [`SubmitBody`] is no change.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BadChange {
    #[error("`change` is not hexadecimal digits")]
    Hex,
    #[error("`change`: {0}")]
    Malformed(#[from] Malformed),
}

impl TryFrom<SubmitBody> for RawChange {
    type Error = BadChange;

    fn try_from(body: SubmitBody) -> Result<RawChange, BadChange> {
        Ok(codec::decode(&from_hex(&body.change).ok_or(BadChange::Hex)?)?)
    }
}

/// The answer of `POST /v1/submit`: the change is on disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AcceptedBody {
    /// The workload's identity, new for each creation.
    pub uid: String,
    /// The hash of the signed change.
    pub change: String,
}

impl From<Accepted> for AcceptedBody {
    fn from(accepted: Accepted) -> AcceptedBody {
        let Accepted { uid, change } = accepted;
        AcceptedBody { uid: uid.to_string(), change: change.to_string() }
    }
}

impl TryFrom<AcceptedBody> for Accepted {
    type Error = BadAnswer;

    fn try_from(body: AcceptedBody) -> Result<Accepted, BadAnswer> {
        Ok(Accepted { uid: body.uid.parse()?, change: body.change.parse()? })
    }
}

/// The answer of `POST /v1/down`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DownBody {
    /// Always true: the node is about to stop.
    pub stopping: bool,
    /// Its state folder, which is free once the node has stopped.
    pub state: PathBuf,
}

/// The answer of `GET /v1/meeting`: what an invite says besides its rights.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MeetingBody {
    /// The cluster that the invite is for.
    #[serde(with = "hex")]
    pub cluster: ClusterId,
    /// The addresses at which others reach this node, `host:port`, the best first; empty if it
    /// knows none.
    pub addresses: Vec<String>,
    /// The reason for an empty list of addresses, for people.
    pub trouble: Option<String>,
    /// This node's clock, Unix milliseconds.
    pub now: u64,
}

/// The answer of a node to an operator's grants, on a connection over the mesh's port.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hello {
    /// Requests may follow.
    Welcome {
        /// The node's name.
        name: String,
        /// The canonical bytes of the change by which the node became a member, in hexadecimal
        /// digits: the operator need not believe a stranger.
        admission: String,
    },
    /// The connection ends.
    Refused {
        /// The HTTP status that a request would get.
        status: u16,
        /// The reason, as an error of the API.
        body: ErrorBody,
    },
}

impl Hello {
    /// The refusal with this error.
    pub fn refused(error: &super::ApiError) -> Hello {
        Hello::Refused { status: error.status.as_u16(), body: error.body() }
    }
}

/// The request `POST /v1/draft`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftBody {
    /// The key of desired state that is about to be written, encoded, in hexadecimal digits.
    pub key: String,
}

/// The answer of `POST /v1/draft`: what the author must sign.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DraftedBody {
    /// The greatest known serial of each writer of the key.
    pub clock: BTreeMap<String, u64>,
    /// The serial to sign with.
    pub serial: u64,
    /// The identity of the value that is changed; null when it is created, and for kinds without
    /// one.
    pub uid: Option<String>,
    /// Whether the key has a value now.
    pub exists: bool,
    /// The cluster that the signature is for.
    #[serde(with = "hex")]
    pub cluster: ClusterId,
}

impl DraftedBody {
    /// The parts that the author must sign.
    ///
    /// # Errors
    /// The answer is of another version.
    pub fn draft(self) -> Result<Draft, BadAnswer> {
        let clock = self
            .clock
            .into_iter()
            .map(|(writer, serial)| Ok((writer.parse()?, serial)))
            .collect::<Result<_, NotAnId>>()?;
        let uid = self.uid.as_deref().map(str::parse).transpose()?;
        Ok(Draft { clock, serial: self.serial, uid })
    }
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

/// A reading of the resources that a replica uses.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct UsageBody {
    /// The id of the node that runs it.
    pub node: String,
    /// The time of the reading by that node's clock, milliseconds since 1970.
    pub at_ms: u64,
    /// Bytes of memory.
    pub memory: u64,
    /// CPU time since it was started, in milliseconds.
    pub cpu_ms: u64,
    /// Time for which its CPU limit held it back since it was started, in milliseconds.
    pub throttled_ms: u64,
    /// Requests that it is answering; 0 where requests do not pass through this daemon.
    pub requests: u32,
    /// Bytes that came over its own network since it was started; left out where nobody counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_in: Option<u64>,
    /// Bytes that left over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_out: Option<u64>,
    /// Bytes that it read from disks since it was started; left out where nobody counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_read: Option<u64>,
    /// Bytes that it wrote to disks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_written: Option<u64>,
}

/// The replicas of a workload that a node has begun and not ended.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RunningBody {
    /// Their numbers, as in `0`.
    pub places: Vec<String>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_protocol::model::spec::{Container, Image};
    use shoal_protocol::model::{Digest, Resources, SpecForm};

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

    /// A container is written with all of its options, digests as text.
    #[test]
    fn container_survives_json_round_trip() {
        let mut container = Container::of("main", Image::named("redis:7"));
        container.image.digest = Some(Digest([0x11; 32]));
        container.http = Some(80);
        let resources = Resources { memory: 64 << 20, cpu: 100 };
        let mut form = SpecForm::container_service("db".parse().unwrap(), container, 2, resources)
            .with_env([("A".to_owned(), "b".to_owned())].into());
        form.resources.limit.memory = 128 << 20;
        let spec = Spec::try_from(form).unwrap();
        let text = serde_json::to_string(&SpecBody::from(&spec)).unwrap();
        assert!(text.contains(&"11".repeat(32)) && !text.contains("artifact"), "{text}");
        let body: SpecBody = serde_json::from_str(&text).unwrap();
        assert_eq!(Spec::try_from(body).unwrap(), spec);
    }

    /// Each invalid field is named in the error, and unknown fields are refused.
    #[test]
    fn invalid_spec_names_the_field() {
        let body = |change: fn(&mut SpecBody)| {
            let mut body = SpecBody {
                name: "hello".into(),
                runtime: "wasm".into(),
                artifact: Some(ArtifactBody { digest: Digest([1; 32]), size: 7 }),
                world: Default::default(),
                args: Vec::new(),
                container: None,
                others: Vec::new(),
                kind: None,
                update: None,
                autoscale: None,
                previous: None,
                replicas: 1,
                memory: 1 << 26,
                cpu: 100,
                limit: None,
                env: BTreeMap::new(),
                require: BTreeMap::new(),
                storage: Vec::new(),
                ports: Vec::new(),
                mounts: Vec::new(),
                stdin: false,
                tty: false,
                exposed: Vec::new(),
                values: Vec::new(),
                health: Default::default(),
                set: None,
                restarts: 0,
                rules: Vec::new(),
                prefer: Vec::new(),
                spread: Vec::new(),
                affinity: Vec::new(),
                tolerate: Vec::new(),
                resources: Default::default(),
                best_effort: false,
                priority: 0,
                after: Vec::new(),
                no_healthcheck: false,
            };
            change(&mut body);
            Spec::try_from(body).unwrap_err().to_string()
        };
        assert!(
            body(|body| body.name = "Hello".into()).starts_with("name: `Hello` is not a DNS label")
        );
        assert!(body(|body| body.runtime = "oci".into()).contains("`oci` is not known"));
        assert!(body(|body| body.memory = 5).starts_with("memory: 5B is outside"));
        let rule = body(|body| body.rules = vec!["arch like arm".into()]);
        assert!(rule.starts_with("rules: `arch like arm`: `like` is no operator"), "{rule}");
        assert!(serde_json::from_str::<SpecBody>(r#"{"nmae":"x"}"#).is_err());
    }

    /// Further fields of a container are JSON in the words of docker, and left away with defaults.
    #[test]
    fn further_fields_of_a_container_are_plain_words() {
        use shoal_protocol::model::spec::{Container, Image, LaunchFact};
        let mut container = Container::of("main", Image::named("db:1"));
        assert!(!serde_json::to_string(&container).unwrap().contains("extra"));
        let hosts = ["db:10.0.0.5", "up:host-gateway"].map(|text| text.parse().unwrap());
        container.extra.hosts = hosts.to_vec();
        container.extra.dns = vec![[1, 1, 1, 1].into()];
        container.extra.env_from = [("POD".to_owned(), LaunchFact::Name)].into();
        let text = serde_json::to_string(&container).unwrap();
        let wanted = r#""extra":{"hosts":["db:10.0.0.5","up:host-gateway"],"dns":["1.1.1.1"],"#;
        assert!(text.contains(wanted) && text.contains(r#""env_from":{"POD":"name"}"#), "{text}");
        assert_eq!(serde_json::from_str::<Container>(&text).unwrap(), container);
        let wrong = text.replace("10.0.0.5", "ten");
        let error = serde_json::from_str::<Container>(&wrong).unwrap_err().to_string();
        assert!(error.contains("`ten` is no address"), "{error}");
    }

    #[test]
    fn hooks_are_json_where_there_are_some() {
        use shoal_protocol::model::spec::{Container, Hook, HookCommand, Image};
        let mut container = Container::of("main", Image::named("db:1"));
        assert!(!serde_json::to_string(&container).unwrap().contains("hooks"));
        let quit = HookCommand { command: vec!["quit".into()], ..HookCommand::default() };
        let pause = Hook::Sleep(std::time::Duration::from_secs(5));
        container.hooks.pre_stop = vec![pause, Hook::Exec(quit)];
        let text = serde_json::to_string(&container).unwrap();
        let wanted = r#""pre_stop":[{"sleep":{"secs":5,"nanos":0}},{"exec":{"command":["quit"],"#;
        assert!(text.contains(wanted), "{text}");
        assert_eq!(serde_json::from_str::<Container>(&text).unwrap(), container);
        let least = r#"{"exec":{"command":["quit"]}}"#;
        let Hook::Exec(read) = serde_json::from_str(least).unwrap() else { panic!() };
        assert_eq!((read.command.len(), read.user), (1, None));
    }

    /// Rules are JSON in the words in which people write them.
    #[test]
    fn rules_survive_json_round_trip() {
        let container = Container::of("main", Image::named("redis:7"));
        let resources = Resources { memory: 64 << 20, cpu: 100 };
        let name = "db".parse().unwrap();
        let mut form = SpecForm::container_service(name, container, 2, resources);
        for rule in ["zone=front", "arch in (arm64, x86_64)", "!gpu", "disk.free>2GiB"] {
            form.add_required(rule.parse().unwrap());
        }
        form.placement.tolerate = vec!["edge=no".parse().unwrap(), "*".parse().unwrap()];
        form.placement.prefer = vec!["disk=ssd:80".parse().unwrap()];
        form.placement.spread = vec!["zone".into()];
        form.placement.affinity =
            vec!["near shop/db:5".parse().unwrap(), "apart db".parse().unwrap()];
        let spec = Spec::try_from(form).unwrap();
        let text = serde_json::to_string(&SpecBody::from(&spec)).unwrap();
        assert!(text.contains(r#""require":{"zone":"front"}"#), "{text}");
        assert!(
            text.contains(r#"["arch in (arm64, x86_64)","!gpu","disk.free > 2GiB"]"#),
            "{text}"
        );
        let body: SpecBody = serde_json::from_str(&text).unwrap();
        assert_eq!(Spec::try_from(body).unwrap(), spec);
    }
}
