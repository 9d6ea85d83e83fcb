//! OCI layouts.

use serde_json::json;

use super::super::*;
use super::archives::{Layout, OCI_CONFIG, OCI_LAYER, gzip, layer, zstd};
use super::{check_parts, only, read_bytes};

fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

#[test]
fn layout_is_read_from_a_tar_and_from_a_folder() {
    let mut layout = Layout::default();
    let image = layout.image(("amd64", "linux", None), &[layer("one")], "+gzip", gzip);
    layout.add(&image, Some("localhost/x:1"));
    layout.add(&image, Some("localhost/x:latest"));
    let folder = tempfile::tempdir().unwrap();
    let in_folder = read(&layout.folder(folder.path()), folder.path()).unwrap();
    for images in [read_bytes(&layout.tar()).unwrap(), in_folder] {
        only(&images);
        assert_eq!(images[0].references, ["localhost/x:1", "localhost/x:latest"]);
        assert!(images[0].digest.is_some());
    }
}

/// BuildKit: an index of platforms, each with an attestation; one platform was not saved, and one
/// is not for linux.
#[test]
fn platforms_of_a_nested_index_are_found() {
    let mut layout = Layout::default();
    let mut children = Vec::new();
    for (arch, variant) in [("arm", "v7"), ("amd64", ""), ("arm", "v6"), ("arm64", "v8")] {
        let layers = [layer("shared"), layer(arch)];
        let image = layout.image((arch, "linux", Some(variant)), &layers, "+zstd", zstd);
        let mut statement = image.clone();
        statement["platform"] = json!({"architecture": "unknown", "os": "unknown"});
        children.extend([image, statement]);
    }
    children.push(layout.image(("amd64", "windows", None), &[layer("w")], "", plain));
    let absent = layout.clone().image(("s390x", "linux", None), &[layer("s")], "", plain);
    children.push(absent);
    let inner = layout.nested(&children);
    let outer = layout.nested(&[inner]);
    layout.add(&outer, Some("localhost/x:1"));
    let images = read_bytes(&layout.tar()).unwrap();
    assert_eq!(images[0].to_string(), "localhost/x:1 (arm/v7, x86_64, arm/v6, aarch64/v8)");
    images[0].platforms.iter().for_each(check_parts);
    let one: Vec<_> = images[0]
        .one_per_arch()
        .iter()
        .map(|it| (it.image.arch.as_str(), it.variant.as_deref()))
        .collect();
    assert_eq!(one, [("aarch64", Some("v8")), ("arm", Some("v6")), ("x86_64", None)]);
}

/// Some builders put the manifests of all platforms side by side into the index.
#[test]
fn platforms_side_by_side_are_one_image() {
    let mut layout = Layout::default();
    for arch in ["amd64", "arm64"] {
        let image = layout.image((arch, "linux", None), &[layer(arch)], "", plain);
        layout.add(&image, None);
    }
    let images = read_bytes(&layout.tar()).unwrap();
    assert_eq!(images[0].to_string(), "one without a name (x86_64, aarch64)");
    assert_eq!(images.len(), 1);
}

#[test]
fn layers_that_cannot_be_used_are_named() {
    let refused = |media_type: &str| {
        let mut layout = Layout::default();
        let config = super::archives::config("amd64", "linux", &[layer("one")]);
        let config = layout.blob(OCI_CONFIG, &config);
        let layer = layout.blob(media_type, &layer("one"));
        let manifest = layout.manifest(&json!({"config": config, "layers": [layer]}));
        layout.add(&manifest, None);
        read_bytes(&layout.tar()).unwrap_err()
    };
    let foreign = refused("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    assert!(matches!(foreign, ImageFault::Foreign(_)), "{foreign}");
    let foreign = refused("application/vnd.oci.image.layer.nondistributable.v1.tar");
    assert!(matches!(foreign, ImageFault::Foreign(_)), "{foreign}");
    let encrypted = refused(&format!("{OCI_LAYER}+gzip+encrypted"));
    assert!(matches!(encrypted, ImageFault::Encrypted(_)), "{encrypted}");
    let unknown = refused("application/x-squashfs");
    assert_eq!(unknown.to_string(), "has a layer of the unknown type `application/x-squashfs`");
}

#[test]
fn layout_without_a_linux_image_says_why() {
    let mut layout = Layout::default();
    let windows = layout.image(("amd64", "windows", None), &[layer("w")], "", plain);
    layout.add(&windows, None);
    let error = read_bytes(&layout.tar()).unwrap_err();
    assert!(matches!(&error, ImageFault::Os(os) if os == "windows"), "{error}");

    let mut layout = Layout::default();
    let config = layout.blob("application/vnd.cncf.helm.config.v1+json", b"{}");
    let chart = layout.manifest(&json!({"config": config, "layers": []}));
    layout.add(&chart, None);
    let error = read_bytes(&layout.tar()).unwrap_err().to_string();
    assert!(error.contains("application/vnd.cncf.helm.config.v1+json"), "{error}");
    assert!(matches!(read_bytes(&Layout::default().tar()), Err(ImageFault::NoImages)));
}

#[test]
fn blob_with_other_bytes_is_refused() {
    let mut layout = Layout::default();
    let image = layout.image(("amd64", "linux", None), &[layer("one")], "", plain);
    layout.add(&image, None);
    for name in layout.files.keys() {
        let (mut flipped, mut longer) = (layout.clone(), layout.clone());
        *flipped.files.get_mut(name).unwrap().last_mut().unwrap() ^= 1;
        let error = read_bytes(&flipped.tar()).unwrap_err();
        assert!(matches!(error, ImageFault::Digest { .. }), "{error}");
        longer.files.get_mut(name).unwrap().push(b' ');
        let error = read_bytes(&longer.tar()).unwrap_err();
        assert!(matches!(error, ImageFault::Size { .. }), "{error}");
        let mut without = layout.clone();
        without.files.remove(name);
        let error = read_bytes(&without.tar()).unwrap_err();
        assert!(matches!(error, ImageFault::Missing { .. }), "{error}");
    }
}

#[test]
fn digest_of_another_algorithm_is_refused() {
    let mut layout = Layout::default();
    let mut image = layout.image(("amd64", "linux", None), &[layer("one")], "", plain);
    for digest in ["sha512:00", "sha256:../../../etc/passwd", ""] {
        image["digest"] = json!(digest);
        layout.index = vec![image.clone()];
        let error = read_bytes(&layout.tar()).unwrap_err();
        assert!(matches!(error, ImageFault::Algorithm(_)), "{error}");
    }
}
