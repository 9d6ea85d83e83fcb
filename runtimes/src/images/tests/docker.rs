//! Docker archives.

use serde_json::json;
use shoal_protocol::model::Digest;
use tar::EntryType;

use super::super::*;
use super::archives::{Layout, config, docker_archive, gzip, layer, tar, tar_with_links, zstd};
use super::{only, read_bytes};

#[test]
fn archive_of_docker_save_is_read() {
    let images = read_bytes(&docker_archive(&["redis:7", "localhost/redis:one"])).unwrap();
    let platform = only(&images);
    assert_eq!(images[0].references, ["redis:7", "localhost/redis:one"]);
    assert_eq!(platform.image.arch, "x86_64");
    assert_eq!(platform.image.layers[1].digest, Digest::of(&layer("two")));
    assert_eq!(images[0].to_string(), "redis:7 = localhost/redis:one (x86_64)");
}

#[test]
fn compressed_archive_has_the_same_parts() {
    let plain = docker_archive(&["a:1"]);
    let expected = only(&read_bytes(&plain).unwrap()).image.clone();
    for packed in
        [gzip(&plain), zstd(&plain), [gzip(&plain[..5_000]), gzip(&plain[5_000..])].concat()]
    {
        assert_eq!(only(&read_bytes(&packed).unwrap()).image, expected);
    }
}

/// `docker save` stores a layer that images share once: the others have a link to it.
#[test]
fn links_lead_to_the_shared_layer() {
    let layers = [layer("one"), layer("one"), layer("one")];
    let config = config("arm64", "linux", &layers);
    let names = ["a/layer.tar", "b/layer.tar", "c/layer.tar"];
    let manifest = json!([{"Config": "c.json", "RepoTags": null, "Layers": names}]).to_string();
    let files: [(&str, &[u8]); 3] = [
        ("./a/layer.tar", &layers[0]),
        ("c.json", &config),
        ("manifest.json", manifest.as_bytes()),
    ];
    let links = [
        (EntryType::Symlink, "b/layer.tar", "../a/layer.tar"),
        (EntryType::Link, "c/layer.tar", "b/layer.tar"),
    ];
    let images = read_bytes(&tar_with_links(&files, &links)).unwrap();
    let platform = only(&images);
    assert_eq!(platform.image.arch, "aarch64");
    assert_eq!(platform.image.layers.len(), 3);
    assert_eq!(platform.parts.len(), 2);

    for (to, what) in
        [("../../x", "leads out"), ("/etc/shadow", "leads out"), ("layer.tar", "link")]
    {
        let links = [(EntryType::Symlink, "b/layer.tar", to), links[1]];
        let error = read_bytes(&tar_with_links(&files, &links)).unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    }
}

/// Layers may be compressed: the configuration says what they unpack to.
#[test]
fn compressed_layers_are_compared_with_their_diff_ids() {
    for pack in [gzip, zstd] {
        let layers = [layer("one")];
        let archive = |packed: &[u8]| {
            let config = config("amd64", "linux", &layers);
            let manifest = json!([{"Config": "c.json", "Layers": ["l.tar.gz"]}]).to_string();
            tar(&[
                ("l.tar.gz", packed),
                ("c.json", &config),
                ("manifest.json", manifest.as_bytes()),
            ])
        };
        let packed = pack(&layers[0]);
        let images = read_bytes(&archive(&packed)).unwrap();
        assert_eq!(only(&images).image.layers[0].digest, Digest::of(&packed));
        let error = read_bytes(&archive(&pack(&layer("other")))).unwrap_err();
        assert!(matches!(error, ImageFault::Digest { .. }), "{error}");
    }
}

/// Docker 25.0 saves an OCI layout and a manifest.json. Its OCI manifests name no layers.
#[test]
fn archive_of_docker_25_has_all_layers() {
    let layers = [layer("one"), layer("two")];
    let mut layout = Layout::default();
    let config = config("amd64", "linux", &layers);
    let config = layout.blob(super::archives::OCI_CONFIG, &config);
    let manifest = layout.manifest(&json!({"config": config, "layers": null}));
    layout.add(&manifest, Some("7"));
    for it in layout.index.iter_mut() {
        it["annotations"]["io.containerd.image.name"] = json!("docker.io/library/redis:7");
    }
    let mut paths = Vec::new();
    for layer in &layers {
        layout.blob("", layer);
        paths.push(format!("blobs/sha256/{}", Digest::of(layer)));
    }
    let name = config["digest"].as_str().unwrap().replace("sha256:", "blobs/sha256/");
    let manifest = json!([{"Config": name, "RepoTags": ["redis:7", "r:2"], "Layers": paths}]);
    layout.files.insert("manifest.json".into(), manifest.to_string().into_bytes());
    let images = read_bytes(&layout.tar()).unwrap();
    assert_eq!(only(&images).image.layers.len(), 2);
    assert_eq!(images[0].references, ["docker.io/library/redis:7", "r:2"]);
}

#[test]
fn manifest_that_names_what_is_not_there_is_refused() {
    let manifest = |config: &str, layers: &[&str]| {
        let manifest = json!([{"Config": config, "Layers": layers}]).to_string();
        let one = super::archives::config("amd64", "linux", &[layer("one")]);
        tar(&[
            ("manifest.json", manifest.as_bytes()),
            ("c.json", &one),
            ("w.json", &super::archives::config("amd64", "windows", &[layer("one")])),
            ("l.tar", &layer("one")),
            ("text", b"no tar"),
        ])
    };
    only(&read_bytes(&manifest("c.json", &["l.tar"])).unwrap());
    let text = |config: &str, layers: &[&str]| {
        read_bytes(&manifest(config, layers)).unwrap_err().to_string()
    };
    assert_eq!(
        text("c.json", &["gone.tar"]),
        "is incomplete: it has no gone.tar, which manifest.json names"
    );
    assert!(text("../c.json", &["l.tar"]).contains("leads out of the image"));
    assert!(text("/c.json", &["l.tar"]).contains("leads out of the image"));
    assert!(text("c.json", &["text"]).contains("which is no tar"));
    assert!(text("c.json", &[]).contains("its manifest has 0 layers, its configuration 1"));
    assert_eq!(
        text("w.json", &["l.tar"]),
        "is an image for `windows`: only images for linux can run here"
    );
    assert!(text("c.json", &["l.tar"; 128]).contains("more than 127 layers"));
    assert!(text("text", &["l.tar"]).contains("is damaged: text is not what is expected there"));
}
