//! Archives for engines, read back by our own reader.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use shoal_protocol::model::Digest;

use super::super::*;
use super::archives::{config, gzip, layer, zstd};
use super::{bytes_of, only, read_bytes};

type Pack = fn(&[u8]) -> Vec<u8>;

/// Parts by their digests, and the image that they make.
fn stored(layers: &[Vec<u8>], pack: &[Pack]) -> (BTreeMap<Digest, Vec<u8>>, PlatformImage) {
    let config = config("amd64", "linux", layers);
    let packed: Vec<Vec<u8>> = layers.iter().zip(pack).map(|(it, pack)| pack(it)).collect();
    let artifact =
        |bytes: &Vec<u8>| Artifact { digest: Digest::of(bytes), size: bytes.len() as u64 };
    let image = PlatformImage {
        arch: "x86_64".into(),
        config: artifact(&config),
        layers: packed.iter().map(artifact).collect(),
        pieces: None,
    };
    let parts = packed.into_iter().chain([config]).map(|it| (Digest::of(&it), it)).collect();
    (parts, image)
}

fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

/// Docker 20.10 reads plain and gzip layers, not those in zstd. A layer that is there twice is
/// written once.
#[test]
fn archive_has_every_layer_as_engines_read_it() {
    let layers = [layer("one"), layer("two"), layer("three"), layer("one")];
    let (parts, image) = stored(&layers, &[plain, gzip, zstd, plain]);
    let mut archive = Vec::new();
    write_archive(&mut archive, "localhost/x", &image, |digest| Ok(&parts[digest][..])).unwrap();
    let images = read_bytes(&archive).unwrap();
    let platform = only(&images);
    assert_eq!(images[0].references, ["localhost/x:latest"]);
    assert_eq!(platform.image.config, image.config);
    assert_eq!(platform.image.layers[..2], image.layers[..2]);
    assert_eq!(platform.image.layers[2].digest, Digest::of(&layer("three")));
    assert_eq!(platform.parts.len(), 4);
    assert_eq!(bytes_of(&platform.parts[3]), layer("three"));
    assert!(needs_unpacking(&zstd(b"x")) && !needs_unpacking(&gzip(b"x")));
}

#[test]
fn source_with_other_bytes_is_an_error() {
    let (parts, image) = stored(&[layer("one")], &[plain]);
    let write = |change: &dyn Fn(&Digest, &mut Vec<u8>)| {
        let mut archive = Vec::new();
        write_archive(&mut archive, "x:1", &image, |digest| {
            let mut bytes = parts[digest].clone();
            change(digest, &mut bytes);
            Ok(io::Cursor::new(bytes))
        })
    };
    let is_layer = |digest: &Digest| *digest == image.layers[0].digest;
    write(&|_, _| {}).unwrap();
    let short = write(&|it, bytes| bytes.truncate(bytes.len() - usize::from(is_layer(it))));
    assert!(matches!(short, Err(WriteError::Size { .. })), "{short:?}");
    let long = write(&|it, bytes| bytes.extend(is_layer(it).then_some(0)));
    assert!(matches!(long, Err(WriteError::Size { .. })), "{long:?}");
    let config = write(&|it, bytes| bytes[0] = if is_layer(it) { bytes[0] } else { b' ' });
    assert!(matches!(config, Err(WriteError::Config { .. })), "{config:?}");
}

/// The message says whether the source failed or the archive.
#[test]
fn failing_side_is_named() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("disk"))
        }
    }
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("engine"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let (parts, image) = stored(&[layer("one")], &[plain]);
    let open = |digest: &Digest| -> io::Result<Box<dyn Read + '_>> {
        let bytes = &parts[digest][..];
        match *digest == image.config.digest {
            true => Ok(Box::new(bytes)),
            false => Ok(Box::new(bytes[..600].chain(Broken))),
        }
    };
    let error = write_archive(io::sink(), "x:1", &image, open).unwrap_err();
    assert!(matches!(error, WriteError::Part { .. }), "{error}");
    let error = write_archive(Broken, "x:1", &image, |it| Ok(&parts[it][..])).unwrap_err();
    assert!(matches!(error, WriteError::Out(_)), "{error}");
    let gone = |_: &Digest| -> io::Result<&[u8]> { Err(io::ErrorKind::NotFound.into()) };
    let error = write_archive(io::sink(), "x:1", &image, gone).unwrap_err();
    assert!(matches!(error, WriteError::Part { .. }), "{error}");
    for reference in ["", "A", &format!("x@sha256:{}", image.config.digest)] {
        let error = write_archive(io::sink(), reference, &image, gone).unwrap_err();
        assert!(matches!(error, WriteError::Reference(_)), "{error}");
    }
}
