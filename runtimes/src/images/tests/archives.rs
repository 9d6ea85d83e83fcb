//! Small archives, built here as the engines build theirs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::{Value, json};
use shoal_protocol::model::Digest;
use tar::{Builder, EntryType, Header};

/// The types that OCI gives to parts.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A tar of one small file.
pub fn layer(text: &str) -> Vec<u8> {
    tar(&[("etc/text", text.as_bytes())])
}

/// A tar of these files.
pub fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

/// A tar with links, each a kind, its name, and what it leads to.
pub fn tar_with_links(files: &[(&str, &[u8])], links: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut archive = Builder::new(Vec::new());
    for (kind, name, to) in links {
        let mut header = Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_size(0);
        archive.append_link(&mut header, name, to).unwrap();
    }
    let mut bytes = archive.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024); // the end of the archive
    bytes.extend(tar(files));
    bytes
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Two frames, with one between them that decoders skip.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let mut packed = compress_to_vec(first, CompressionLevel::Fastest);
    packed.extend([0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    packed.extend(compress_to_vec(second, CompressionLevel::Fastest));
    packed
}

/// A configuration for the unpacked `layers`.
pub fn config(arch: &str, os: &str, layers: &[Vec<u8>]) -> Vec<u8> {
    let ids: Vec<String> = layers.iter().map(|it| format!("sha256:{}", Digest::of(it))).collect();
    json!({"architecture": arch, "os": os, "rootfs": {"type": "layers", "diff_ids": ids}})
        .to_string()
        .into_bytes()
}

/// A docker archive as Docker 20.10 saves it, of two layers.
pub fn docker_archive(tags: &[&str]) -> Vec<u8> {
    let layers = [layer("one"), layer("two")];
    let config = config("amd64", "linux", &layers);
    let name = format!("{}.json", Digest::of(&config));
    let manifest =
        json!([{"Config": name, "RepoTags": tags, "Layers": ["a/layer.tar", "b/layer.tar"]}]);
    tar(&[
        ("a/layer.tar", &layers[0]),
        ("b/layer.tar", &layers[1]),
        (&name, &config),
        ("manifest.json", manifest.to_string().as_bytes()),
        ("repositories", b"{}"),
    ])
}

/// The files of an OCI layout.
#[derive(Clone, Default)]
pub struct Layout {
    pub files: BTreeMap<String, Vec<u8>>,
    pub index: Vec<Value>,
}

impl Layout {
    /// Adds a blob and returns its descriptor.
    pub fn blob(&mut self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        self.files.insert(format!("blobs/sha256/{digest}"), bytes.to_vec());
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    }

    /// Adds an image of these plain layers, packed by `pack`, and returns its descriptor.
    pub fn image(
        &mut self,
        platform: (&str, &str, Option<&str>),
        layers: &[Vec<u8>],
        ending: &str,
        pack: fn(&[u8]) -> Vec<u8>,
    ) -> Value {
        let (arch, os, variant) = platform;
        let mut config: Value = serde_json::from_slice(&config(arch, os, layers)).unwrap();
        config["variant"] = json!(variant);
        let config = self.blob(OCI_CONFIG, config.to_string().as_bytes());
        let media_type = format!("{OCI_LAYER}{ending}");
        let layers: Vec<Value> =
            layers.iter().map(|it| self.blob(&media_type, &pack(it))).collect();
        let mut descriptor = self.manifest(&json!({"config": config, "layers": layers}));
        descriptor["platform"] = json!({"architecture": arch, "os": os, "variant": variant});
        descriptor
    }

    pub fn manifest(&mut self, manifest: &Value) -> Value {
        self.blob(OCI_MANIFEST, manifest.to_string().as_bytes())
    }

    pub fn nested(&mut self, manifests: &[Value]) -> Value {
        self.blob(OCI_INDEX, json!({"manifests": manifests}).to_string().as_bytes())
    }

    /// Names a descriptor in the index.
    pub fn add(&mut self, descriptor: &Value, name: Option<&str>) {
        let mut descriptor = descriptor.clone();
        if let Some(name) = name {
            descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
        }
        self.index.push(descriptor);
    }

    fn all(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.files.clone();
        let index = json!({"schemaVersion": 2, "manifests": self.index}).to_string();
        files.insert("index.json".into(), index.into_bytes());
        files.insert("oci-layout".into(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
        files
    }

    pub fn tar(&self) -> Vec<u8> {
        let all = self.all();
        let files: Vec<_> =
            all.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        tar(&files)
    }

    pub fn folder(&self, folder: &Path) -> PathBuf {
        for (name, bytes) in self.all() {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder.to_owned()
    }
}
