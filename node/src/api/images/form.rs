//! The JSON of the API's paths below `/v1/images`.

use serde::{Deserialize, Serialize};
use shoal_protocol::model::Digest;
use shoal_protocol::model::spec::{Image, PlatformImage, PullPolicy};

use crate::api::form::ErrorBody;
use crate::images::ImageRecord;

/// The request `POST /v1/images/resolve`: which bytes does this name mean?
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResolveBody {
    /// The image's name, as a person wrote it.
    pub reference: String,
    /// When a registry is asked.
    #[serde(default)]
    pub pull: PullPolicy,
    /// Keep the image under this name, so that every node finds it.
    #[serde(default)]
    pub push_as: Option<String>,
}

/// A line of the answer of `POST /v1/images/resolve`; the last is `done` or `failed`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResolveLine {
    /// How far it is.
    Progress(ImageProgress),
    /// The image.
    Done(Box<ResolvedImage>),
    /// Why there is none.
    Failed {
        /// The HTTP status that the error would have had.
        status: u16,
        /// The error.
        body: ErrorBody,
    },
}

/// How far the work on an image is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageProgress {
    /// The step, as in `pulling nginx:1.27`.
    pub what: String,
    /// Bytes so far.
    pub bytes: u64,
    /// All bytes; 0 when their number is not known.
    pub total: u64,
}

/// An image whose bytes are settled, as far as they can be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResolvedImage {
    /// The image for a spec.
    pub image: Image,
    /// Where it was found: `engine`, `pushed`, `registry` or `unknown`.
    pub from: String,
    /// Parts that were put into this node's store.
    pub new_parts: usize,
    /// Parts that were there already.
    pub known_parts: usize,
    /// Facts that the person should know, as sentences.
    pub notes: Vec<String>,
    /// The TCP ports that it exposes, as far as this node knows them.
    #[serde(default)]
    pub exposed: Vec<u16>,
}

/// The request `POST /v1/images`: an image whose parts were uploaded has a name now.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PushedBody {
    /// Its name.
    pub name: String,
    /// Its parts for each platform.
    pub platforms: Vec<PlatformImage>,
}

/// The images and artifacts of one node.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct HereBody {
    /// The node's records.
    pub images: Vec<ImageRecord>,
    /// The artifacts in its store.
    pub artifacts: Vec<Digest>,
}

/// The answer of `GET /v1/images`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImagesBody {
    /// The images that have a name, or that a workload uses.
    pub images: Vec<ImageView>,
    /// Nodes that could not be asked, each with the reason.
    pub unasked: Vec<String>,
}

/// An image in a list.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ImageView {
    /// Its name, as a person wrote it.
    pub name: String,
    /// The id of the image of the first platform.
    pub id: String,
    /// The architectures that it is for.
    pub platforms: Vec<String>,
    /// Bytes of all its parts.
    pub size: u64,
    /// A person pushed it.
    pub pushed: bool,
    /// When it was put into a store, in milliseconds since 1970; 0 if no node remembers.
    pub at_ms: u64,
    /// The nodes that hold all parts of at least one platform.
    pub held_by: Vec<String>,
    /// The workloads that run it.
    pub used_by: Vec<String>,
}

/// The request `POST /v1/images/remove`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveBody {
    /// The image's name.
    pub name: String,
}

/// The request `POST /v1/images/prune`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PruneBody {
    /// Only tell what would go.
    #[serde(default)]
    pub dry_run: bool,
    /// Also images that were pushed and that no workload uses.
    #[serde(default)]
    pub all: bool,
}

/// The images and bytes that one node removed, or would remove.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FreedBody {
    /// The node's name.
    #[serde(default)]
    pub node: String,
    /// The names of images that are forgotten.
    pub images: Vec<String>,
    /// Parts removed from its store.
    pub parts: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Images removed from its engine.
    pub engine_images: usize,
    /// Their bytes, as the engine counts them: images may share some.
    pub engine_bytes: u64,
}

/// The answer of `POST /v1/images/remove` and `/v1/images/prune`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AllFreedBody {
    /// Nodes that removed something, or would.
    pub freed: Vec<FreedBody>,
    /// Nodes that could not be asked, each with the reason.
    pub unasked: Vec<String>,
}
