//! References, and the choice of an image.

use shoal_protocol::model::Digest;

use super::super::names::{Name, is_same};
use super::super::*;
use super::archives::docker_archive;
use super::{only, read_bytes};

#[test]
fn names_are_read_as_engines_read_them() {
    let full = |text: &str| Name::parse(text).map(|name| name.to_string());
    let digest = format!("sha256:{}", Digest::of(b"x"));
    for (text, expected) in [
        ("redis", "docker.io/library/redis:latest"),
        ("redis:7", "docker.io/library/redis:7"),
        ("index.docker.io/redis", "docker.io/library/redis:latest"),
        ("docker.io/bitnami/redis:7", "docker.io/bitnami/redis:7"),
        ("bitnami/redis", "docker.io/bitnami/redis:latest"),
        ("localhost/x:1", "localhost/x:1"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("ghcr.io/a/b/c__d:V1.2-x", "ghcr.io/a/b/c__d:V1.2-x"),
    ] {
        assert_eq!(full(text).as_deref(), Some(expected));
    }
    let with_digest = format!("redis@{digest}");
    assert_eq!(full(&with_digest).unwrap(), format!("docker.io/library/redis@{digest}"));
    // The longest full name is read again, one byte more is none.
    let room = 255 - "docker.io/library/".len();
    let longest = full(&"e".repeat(room)).unwrap();
    assert_eq!(full(&longest).as_ref(), Some(&longest));
    assert_eq!(full(&"e".repeat(room + 1)), None);
    for text in ["", ":", "/", "a:", ":a", "A", "a b", "-a", "a//b", "a@sha256:1", "a:b:c", "ü"] {
        assert_eq!(full(text), None, "{text:?}");
    }
    assert!(is_same("redis", "docker.io/library/redis:latest"));
    assert!(!is_same("redis", "localhost/redis"));
}

#[test]
fn image_is_picked_by_its_name() {
    let platform = only(&read_bytes(&docker_archive(&[])).unwrap()).clone();
    let image = |names: &[&str], digest: &[u8]| FoundImage {
        references: names.iter().map(|it| (*it).to_owned()).collect(),
        digest: Some(Digest::of(digest)),
        platforms: vec![platform.clone()],
    };
    let images = [
        image(&["docker.io/library/redis:7", "redis:latest"], b"0"),
        image(&["localhost/app:1"], b"1"),
        image(&["edge"], b"2"),
        image(&["localhost/redis:7", "localhost/redis:8"], b"3"),
    ];
    let at = |wanted: &str| {
        let picked = pick(&images, Some(wanted)).map(|it| it.digest.unwrap());
        (0..4).find(|n| picked == Ok(Digest::of(n.to_string().as_bytes())))
    };
    assert_eq!(at("redis:7"), Some(0)); // and not localhost/redis:7
    assert_eq!(at("redis"), Some(0));
    assert_eq!(at("app:1"), Some(1)); // podman's name for it
    assert_eq!(at("edge"), Some(2)); // an OCI layout that names only the tag
    assert_eq!(at("redis:8"), Some(3));
    assert_eq!(at(&format!("app@sha256:{}", Digest::of(b"3"))), Some(3));

    let error = pick(&images[..2], Some("app:2")).unwrap_err().to_string();
    assert_eq!(
        error,
        "the file has no image `app:2`; it has: docker.io/library/redis:7 = redis:latest (x86_64), \
            localhost/app:1 (x86_64)"
    );
    assert!(matches!(pick(&images, None), Err(PickError::Several { .. })));
    assert!(matches!(pick(&images, Some("A b")), Err(PickError::Invalid(_))));
    assert!(matches!(pick(&[], None), Err(PickError::Empty)));
    let twice = [images[1].clone(), images[1].clone()];
    assert!(matches!(pick(&twice, Some("app:1")), Err(PickError::Several { .. })));
    assert!(pick(&images[3..], None).is_ok());
}
