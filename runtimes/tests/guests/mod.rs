//! Where tests find the guests of `examples/guests`.
//!
//! The gate builds them and names the folder in `SHOAL_GUESTS_DIR`. Without it they are built here:
//! a test never passes because its guests are missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The bytes of `<name>.wasm`.
pub fn bytes(name: &str) -> Vec<u8> {
    let path = folder().join(format!("{name}.wasm"));
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("cannot read the guest {}: {error}", path.display()))
}

fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| match std::env::var_os("SHOAL_GUESTS_DIR") {
        Some(folder) => folder.into(),
        None => build(),
    })
}

fn build() -> PathBuf {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in a workspace");
    let target = match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => workspace.join(target),
        None => workspace.join("target"),
    };
    let target = target.join("guests");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--quiet",
        "--locked",
        "--release",
        "--target",
        "wasm32-wasip2",
        "--manifest-path",
    ]);
    command.arg(workspace.join("examples/guests/Cargo.toml")).env("CARGO_TARGET_DIR", &target);
    // The flags of the host's build are not for another target.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    let status = command.status().expect("cargo can be started");
    assert!(
        status.success(),
        "the guests cannot be built; is the target there? rustup target add wasm32-wasip2"
    );
    target.join("wasm32-wasip2/release")
}
