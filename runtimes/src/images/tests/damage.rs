//! Files that are no image, and images with wrong bytes.

use std::io::Read;
use std::path::Path;

use tar::{EntryType, Header};

use super::super::packing::{Bounded, Packing};
use super::super::*;
use super::archives::{Layout, docker_archive, gzip, layer, tar, zstd};
use super::read_bytes;

fn text_of(bytes: &[u8]) -> String {
    read_bytes(bytes).unwrap_err().to_string()
}

/// A header with these fields, and the bytes after it.
fn entry(kind: EntryType, name: &str, size: u64, bytes: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_cksum();
    let mut entry = header.as_bytes().to_vec();
    entry.extend(bytes);
    entry.resize(entry.len().next_multiple_of(512), 0);
    entry
}

#[test]
fn what_is_no_image_is_named() {
    assert_eq!(text_of(b""), "is empty");
    assert!(text_of(b"\x7fELF").starts_with("is no image: an image is a tar"));
    assert!(text_of(&[7; 4096]).starts_with("is no image: an image is a tar"));
    assert!(text_of(&gzip(b"text")).starts_with("is no image: an image is a tar"));
    assert!(text_of(b"\xfd7zXZ\0").starts_with("is compressed with xz: unpack it first"));
    assert!(text_of(&layer("x")).starts_with("is a tar of files, no image"));
    assert!(text_of(&[0; 1024]).starts_with("is a tar of files, no image"));
    assert!(text_of(&tar(&[("repositories", b"{}")])).contains("Docker before 1.10"));
    let folder = tempfile::tempdir().unwrap();
    let error = read(folder.path(), folder.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "`{}` is neither a docker archive nor an OCI layout: it has no manifest.json and no \
                index.json",
            folder.path().display()
        )
    );
    let image = tar(&[("manifest.json", br#"[{"Config":"\u001b[2J"}]"#)]);
    let path = folder.path().join("image");
    std::fs::write(&path, image).unwrap();
    let hostile = read(&path, folder.path()).unwrap_err().to_string();
    assert!(hostile.contains(r"it has no \u{1b}[2J, which"), "{hostile}");
    let gone = read(Path::new("/gone/file"), folder.path()).unwrap_err();
    assert!(matches!(gone.fault, ImageFault::Read(_)), "{gone}");
    assert!(std::error::Error::source(&gone).is_some());
    let device = read(Path::new("/dev/null"), folder.path()).unwrap_err();
    assert!(matches!(device.fault, ImageFault::NotAFile), "{device}");
    let path = folder.path().join("packed");
    std::fs::write(&path, gzip(&docker_archive(&[]))).unwrap();
    let no_room = read(&path, Path::new("/gone")).unwrap_err();
    assert!(matches!(no_room.fault, ImageFault::Unpack { .. }), "{no_room}");
}

/// Names and sizes in headers come from strangers: nothing of that size is read.
#[test]
fn huge_things_are_refused() {
    let long = vec![b'x'; 100_000];
    let name = entry(EntryType::GNULongName, "@", long.len() as u64, &long);
    assert!(text_of(&name).contains("more than 64 KiB"));
    assert!(text_of(&entry(EntryType::Regular, "x", u64::MAX, b"")).contains("no valid size"));
    let text = text_of(&entry(EntryType::Regular, "manifest.json", 1 << 40, b""));
    assert_eq!(
        text,
        "is truncated: manifest.json ends at byte 1099511628288, and the file has 512"
    );
    let large = vec![b' '; (4 << 20) + 1];
    assert!(text_of(&tar(&[("manifest.json", &large)])).contains("at most 4194304 are read"));
    assert!(text_of(&gzip(&tar(&[("index.json", &large)]))).contains("at most 4194304"));
    let many = entry(EntryType::Regular, "x", 0, b"").repeat(32_769);
    assert!(text_of(&many).starts_with("is a tar of files"));
    let many = [entry(EntryType::Regular, "index.json", 0, b""), many].concat();
    assert_eq!(text_of(&many), "has more than 32768 files");
    let deep = "[".repeat(1_000_000);
    assert!(text_of(&tar(&[("manifest.json", deep.as_bytes())])).contains("is damaged"));
}

#[test]
fn extended_headers_name_and_size_the_entry() {
    let archive = docker_archive(&["x:1"]);
    let with = |record: &str, body: &[u8]| {
        let mut bytes = entry(EntryType::XHeader, "pax", record.len() as u64, record.as_bytes());
        bytes.extend(entry(EntryType::Regular, "short", 0, body));
        bytes.extend(&archive);
        read_bytes(&bytes)
    };
    with("12 size=512\n", &[b' '; 512]).unwrap();
    with("14 path=short\n", b"").unwrap();
    let error = with("21 path=./index.json\n", b"").unwrap_err().to_string();
    assert!(error.starts_with("is damaged: index.json is not what is expected there"), "{error}");
    with("12 size=512\n", b"").unwrap_err(); // the next header is taken for its bytes
    for record in ["", "5", "3 a", "-1 a=b\n", "0 a=b\n", "99 a=b\n", "6 a=b", "9 size=x\n"] {
        let mut bytes = entry(EntryType::XHeader, "pax", record.len() as u64, record.as_bytes());
        bytes.extend(&archive);
        assert_eq!(read_bytes(&bytes).is_ok(), record.is_empty(), "{record:?}");
    }
}

/// Everything ends with an image or an error, whatever happened to the bytes.
#[test]
fn truncated_and_flipped_files_never_panic() {
    let mut layout = Layout::default();
    let image = layout.image(("amd64", "linux", None), &[layer("one")], "+zstd", zstd);
    layout.add(&image, Some("x:1"));
    let (docker, oci) = (docker_archive(&["x:1"]), layout.tar());
    let mut random = 1_u64;
    let mut next = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
        usize::try_from(random >> 33).unwrap() % below
    };
    for whole in [docker.clone(), oci.clone(), gzip(&docker), zstd(&oci), zstd(&docker)] {
        let expected = read_bytes(&whole).unwrap()[0].platforms[0].image.clone();
        for _ in 0..40 {
            let _ = read_bytes(&whole[..next(whole.len())]);
        }
        for _ in 0..150 {
            let mut flipped = whole.clone();
            for _ in 0..=next(3) {
                flipped[next(whole.len())] ^= 1 << next(8);
            }
            let Ok(images) = read_bytes(&flipped) else { continue };
            let layers = images.iter().flat_map(|it| &it.platforms).map(|it| &it.image.layers);
            layers.for_each(|it| assert_eq!(*it, expected.layers, "a flipped layer was taken"));
        }
    }
}

/// Streams of several frames, and what is damaged in them.
#[test]
fn zstd_streams_are_read_to_their_end() {
    let text: Vec<u8> = (0..200_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
    let packed = zstd(&text);
    let unpack = |bytes: &[u8]| {
        let mut out = Vec::new();
        Packing::Zstd.unpack(bytes).read_to_end(&mut out).map(|_| out)
    };
    assert_eq!(unpack(&packed).unwrap(), text);
    assert!(unpack(&packed[..packed.len() - 1]).is_err());
    let mut flipped = packed.clone();
    flipped[packed.len() / 3] ^= 4;
    assert_ne!(unpack(&flipped).unwrap_or_default(), text);
    assert!(unpack(&[&packed[..], b"rubbish"].concat()).is_err());
    let bounded = |most| Bounded::new(&text[..], most).read_to_end(&mut Vec::new());
    assert!(bounded(text.len() as u64).is_ok());
    assert!(bounded(text.len() as u64 - 1).is_err());
    let wide = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xf8, 0x01, 0x00, 0x00]; // a window of 2 TiB
    assert!(unpack(&wide).is_err());
}
