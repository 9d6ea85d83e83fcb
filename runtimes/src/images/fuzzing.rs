//! Targets: files that a person was given as images, and references.

use std::fs;
use std::io::Read;
use std::path::PathBuf;

use flate2::Compression;
use flate2::read::GzEncoder;
use shoal_protocol::fuzzing::Target;
use shoal_protocol::model::Digest;

use super::packing::Packing;
use super::{FoundImage, exposed_ports, full_name, names, pick, read, tarfile, write_archive};

/// A file; the first byte says whether its tar headers get right checksums, and how it is packed.
pub const IMAGE: Target = Target { name: "image", run, seeds, most: 32 * 1024 };
/// A reference, or an image's configuration.
pub const REFERENCE: Target =
    Target { name: "reference", run: run_reference, seeds: references, most: 1_024 };

fn run(data: &[u8]) {
    let Some((how, bytes)) = data.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if how & 1 == 0 {
        put_checksums(&mut bytes);
    }
    if how & 2 != 0 {
        bytes = packed(&bytes);
    }
    let folder = folder();
    fs::create_dir_all(&folder).expect("the temporary folder can be written");
    let path = folder.join("image");
    fs::write(&path, &bytes).expect("the temporary folder can be written");
    match read(&path, &folder) {
        Ok(images) => look_at(&images),
        Err(error) => {
            assert!(error.to_string().len() < 64 * 1024, "an error of a stranger's making");
        }
    }
    assert_eq!(fs::read_dir(&folder).map_or(0, Iterator::count), 1, "a temporary file has a name");
    let _ = fs::remove_dir_all(&folder);
}

fn look_at(images: &[FoundImage]) {
    assert!(!images.is_empty(), "an image without images is an error");
    _ = pick(images, Some("redis:7"));
    for platform in images.iter().flat_map(|it| &it.platforms).take(4) {
        for part in &platform.parts {
            let mut bytes = Vec::new();
            part.open().and_then(|mut it| it.read_to_end(&mut bytes)).expect("the file is there");
            let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
            assert_eq!((part.artifact.digest, part.artifact.size), (digest, size), "a part lies");
        }
        let open = |digest: &Digest| {
            let part = platform.parts.iter().find(|it| it.artifact.digest == *digest);
            part.ok_or_else(|| std::io::ErrorKind::NotFound.into()).and_then(|it| it.open())
        };
        _ = write_archive(std::io::sink(), "localhost/app:1", &platform.image, open);
    }
}

/// A folder of this thread alone.
fn folder() -> PathBuf {
    let thread = format!("{:?}", std::thread::current().id());
    let digits: String = thread.chars().filter(char::is_ascii_digit).collect();
    std::env::temp_dir().join(format!("shoal-fuzz-image-{}-{digits}", std::process::id()))
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    GzEncoder::new(bytes, Compression::fast()).read_to_end(&mut packed).expect("memory is read");
    packed
}

/// Gives a right checksum to each header, or nearly no alteration would be looked at.
fn put_checksums(bytes: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = bytes.get_mut(at..at + tarfile::BLOCK) {
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let size = usize::try_from(header.entry_size().unwrap_or_default()).unwrap_or(usize::MAX);
        let Some(next) = size.checked_next_multiple_of(tarfile::BLOCK) else { break };
        at = at.saturating_add(tarfile::BLOCK).saturating_add(next);
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let layer = tar_of(&[("etc/motd", b"hello".to_vec())]);
    let (digest, small) = (Digest::of(&layer), packed(&layer));
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"ExposedPorts":{{"80/tcp":{{}}}}}},
            "rootfs":{{"type":"layers","diff_ids":["sha256:{digest}"]}}}}"#
    );
    let manifest = r#"[{"Config":"c.json","RepoTags":["redis:7"],"Layers":["l.tar"]}]"#;
    let text = |text: &str| text.as_bytes().to_vec();
    let docker = tar_of(&[
        ("manifest.json", text(manifest)),
        ("c.json", text(&config)),
        ("l.tar", layer.clone()),
    ]);
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes));
    let part = |kind: &str, bytes: &[u8]| {
        let (digest, size) = (Digest::of(bytes), bytes.len());
        format!(r#"{{"mediaType":"{kind}","digest":"sha256:{digest}","size":{size}}}"#)
    };
    let of = "application/vnd.oci.image";
    let described = format!(
        r#"{{"schemaVersion":2,"config":{},"layers":[{}]}}"#,
        part(&format!("{of}.config.v1+json"), config.as_bytes()),
        part(&format!("{of}.layer.v1.tar+gzip"), &small)
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
        part(&format!("{of}.manifest.v1+json"), described.as_bytes())
    );
    let oci = tar_of(&[
        ("oci-layout", text(r#"{"imageLayoutVersion":"1.0.0"}"#)),
        ("index.json", text(&index)),
        (&blob(described.as_bytes()), text(&described)),
        (&blob(config.as_bytes()), text(&config)),
        (&blob(&small), small),
    ]);
    let long = tar_of(&[("manifest.json", text("[]")), (&"d/".repeat(70), Vec::new())]);
    let with = |how: u8, bytes: &[u8]| [&[how], bytes].concat();
    vec![with(0, &docker), with(0, &oci), with(2, &docker), with(0, &long), with(1, &oci)]
}

fn tar_of(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, &bytes[..]).expect("memory takes all");
    }
    builder.into_inner().expect("memory takes all")
}

fn run_reference(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Some(full) = full_name(&text) {
        assert_eq!(full_name(&full).as_ref(), Some(&full), "the full name of `{text}`");
        assert!(names::is_same(&text, &full), "`{text}` is not `{full}`");
    }
    assert!(exposed_ports(data).len() <= 32);
    _ = (Packing::of(data), tarfile::is_tar(data), tarfile::clean(&text));
    let (folder, link) = text.split_once('\n').unwrap_or(("a/b", &text));
    if let Some(joined) = tarfile::join(folder, link) {
        let is_within = !joined.starts_with('/') && joined.split('/').all(|it| it != "..");
        assert!(is_within, "`{link}` in `{folder}` leads to `{joined}`");
    }
}

fn references() -> Vec<Vec<u8>> {
    let digest = "a".repeat(64);
    let texts = [
        "redis",
        "registry.local:5000/shop/till:1.2",
        "localhost/x@sha256:",
        &format!("index.docker.io/redis@sha256:{digest}"),
        r#"{"config":{"ExposedPorts":{"80/tcp":{},"53/udp":{},"1000-65535":{}}}}"#,
        "a/b\n../c/./d",
    ];
    texts.map(|text| text.as_bytes().to_vec()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Alterations of what is no image would reach little.
    #[test]
    fn seeds_are_images() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        for seed in &seeds()[..3] {
            let bytes = if seed[0] & 2 == 0 { seed[1..].to_vec() } else { packed(&seed[1..]) };
            fs::write(&path, bytes).unwrap();
            assert_eq!(read(&path, folder.path()).unwrap().len(), 1);
        }
    }
}
