//! An image of one platform: its parts, and the pieces that large ones are made of.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::program::Artifact;

/// An image of one platform, as parts in the artifact store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlatformImage {
    /// The machine as Rust's `std::env::consts::ARCH` has it: `x86_64`, `aarch64`, `arm`.
    pub arch: String,
    /// The image's configuration. Its digest is the image's id.
    pub config: Artifact,
    /// The layers, lowest first, each a tar as the image holds it: plain, gzip or zstd.
    pub layers: Vec<Artifact>,
    /// The list of the pieces of its large layers, by which nodes pass on what they have of a
    /// layer before they have all of it: see [`Pieces`]. None if no layer is large.
    pub pieces: Option<Artifact>,
}

/// Bytes of a piece; the last one of a layer has what is left. A layer of one piece has no entry
/// in the list.
pub const PIECE: u64 = 512 * 1024;

/// The part of a list of pieces that is about one artifact. The list is an artifact itself: the
/// SHA-256 of each piece of each large layer, one after the other, 32 bytes each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pieces {
    /// The list.
    pub list: Artifact,
    /// The number of digests in the list before the artifact's.
    pub first: u64,
}

impl PlatformImage {
    /// All artifacts of it: the list of pieces, the layers, the configuration.
    pub fn parts(&self) -> impl Iterator<Item = Artifact> + Clone + '_ {
        self.pieces.iter().chain(&self.layers).chain([&self.config]).copied()
    }

    /// The parts with the pieces that they are made of.
    pub fn parts_in_pieces(&self) -> impl Iterator<Item = (Artifact, Option<Pieces>)> + '_ {
        let mut next = 0;
        let layers = self.layers.iter().map(move |layer| {
            let first = next;
            next += layer.pieces();
            let list = self.pieces.filter(|_| layer.pieces() > 0);
            (*layer, list.map(|list| Pieces { list, first }))
        });
        let whole = self.pieces.iter().chain([&self.config]).map(|part| (*part, None));
        whole.chain(layers)
    }
}

/// [`PlatformImage`] in text. In bincode it is as form 2 of a spec has it, without the pieces,
/// which stand behind the form: see [`Later`](super::Later).
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InText {
    arch: String,
    config: Artifact,
    layers: Vec<Artifact>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pieces: Option<Artifact>,
}

#[derive(Serialize, Deserialize)]
struct InForm2 {
    arch: String,
    config: Artifact,
    layers: Vec<Artifact>,
}

impl Serialize for PlatformImage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let PlatformImage { arch, config, layers, pieces } = self.clone();
        if serializer.is_human_readable() {
            InText { arch, config, layers, pieces }.serialize(serializer)
        } else {
            InForm2 { arch, config, layers }.serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for PlatformImage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let InText { arch, config, layers, pieces } = InText::deserialize(deserializer)?;
            return Ok(PlatformImage { arch, config, layers, pieces });
        }
        let InForm2 { arch, config, layers } = InForm2::deserialize(deserializer)?;
        Ok(PlatformImage { arch, config, layers, pieces: None })
    }
}
