//! Test images, FROM scratch around one static program: nothing is pulled.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::json;
use shoal_protocol::model::Digest;

/// The program of the images. Both engines may ask for it at once.
fn program() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(compile)
}

/// Compiles the program for a static target of this machine, unless it was compiled before.
fn compile() -> Vec<u8> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtimes/tests/engines/server.rs");
    let text = std::fs::read(&source).unwrap();
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let compiled = folder.join(format!("engine-server-{}", Digest::of(&text).short()));
    if !compiled.exists() {
        let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        // Does nothing when it is there.
        let added = Command::new("rustup").args(["target", "add", &target]).output();
        let partial = compiled.with_extension(std::process::id().to_string());
        let status = Command::new("rustc")
            .args(["--edition", "2024", "-O", "-C", "panic=abort", "-C", "strip=symbols"])
            .args(["--target", &target, "-o"])
            .arg(&partial)
            .arg(&source)
            .status()
            .unwrap();
        assert!(status.success(), "the server for {target} cannot be compiled: {added:?}");
        std::fs::rename(&partial, &compiled).unwrap();
    }
    std::fs::read(compiled).unwrap()
}

/// The machine as image configurations have it.
fn machine() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// All images, as archives that an engine loads.
pub fn archives() -> Vec<Vec<u8>> {
    let layer = tar(&[("server", 0o755, program())]);
    let with = json!({ "Entrypoint": ["/server"], "Env": ["PATH=/"] });
    let checked = json!({
        "Entrypoint": ["/server"],
        "Env": ["PATH=/"],
        "Healthcheck": {
            "Test": ["CMD", "/server", "end", "1"],
            "Interval": 1_000_000_000u64,
            "StartPeriod": 20_000_000_000u64,
            "Retries": 2,
        },
    });
    vec![
        archive("localhost/shoal-test:1", machine(), &with, &layer),
        archive("localhost/shoal-checked:1", machine(), &checked, &layer),
        archive("localhost/shoal-empty:1", machine(), &json!({}), &layer),
        archive("localhost/shoal-other:1", "s390x", &with, &layer),
    ]
}

fn archive(tag: &str, machine: &str, config: &serde_json::Value, layer: &[u8]) -> Vec<u8> {
    let id = format!("sha256:{}", Digest::of(layer));
    let config = json!({
        "architecture": machine,
        "os": "linux",
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [id] },
        "history": [{ "created_by": "shoal's tests" }],
    });
    let manifest = json!([{ "Config": "config.json", "RepoTags": [tag], "Layers": ["layer.tar"] }]);
    tar(&[
        ("config.json", 0o644, config.to_string().as_bytes()),
        ("layer.tar", 0o644, layer),
        ("manifest.json", 0o644, manifest.to_string().as_bytes()),
    ])
}

fn tar(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mode, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(*mode);
        header.set_cksum();
        tar.append_data(&mut header, path, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}
