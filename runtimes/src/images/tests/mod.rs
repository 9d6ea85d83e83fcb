//! Archives built here, as builders write them and as nobody should.

mod archives;
mod damage;
mod docker;
mod names;
mod oci;
mod write;

use std::fs;
use std::io::Read;

use shoal_protocol::model::Digest;

use super::*;

/// Reads `bytes` as a file, with its own folder for temporary files, which must stay empty.
fn read_bytes(bytes: &[u8]) -> Result<Vec<FoundImage>, ImageFault> {
    let folder = tempfile::tempdir().unwrap();
    let (path, temp) = (folder.path().join("image"), folder.path().join("temp"));
    fs::create_dir(&temp).unwrap();
    fs::write(&path, bytes).unwrap();
    let images = read(&path, &temp).map_err(|error| error.fault);
    assert_eq!(fs::read_dir(&temp).unwrap().count(), 0, "a temporary file has a name");
    images
}

/// The only image and its only platform, with all parts as they should be.
fn only(images: &[FoundImage]) -> &FoundPlatform {
    let [image] = images else { panic!("{images:?}") };
    let [platform] = &image.platforms[..] else { panic!("{images:?}") };
    check_parts(platform);
    platform
}

/// Each part opens, twice, with the bytes that its artifact says.
fn check_parts(platform: &FoundPlatform) {
    let parts: Vec<Artifact> = platform.parts.iter().map(|it| it.artifact).collect();
    let all = [&[platform.image.config], &platform.image.layers[..]].concat();
    assert!(all.iter().all(|it| parts.contains(it)));
    for part in platform.parts.iter().chain(&platform.parts) {
        let bytes = bytes_of(part);
        assert_eq!(part.artifact.size, bytes.len() as u64);
        assert_eq!(part.artifact.digest, Digest::of(&bytes));
    }
}

fn bytes_of(part: &Part) -> Vec<u8> {
    let mut bytes = Vec::new();
    part.open().unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}
