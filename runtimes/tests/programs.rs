//! From an artifact to a program: the compiler, its limits, and the cache, which is never trusted.

#[cfg(test)]
mod guests;
#[cfg(test)]
#[allow(dead_code, reason = "shared with other tests, which need more of it")]
mod harness;

use shoal_protocol::model::InstanceState;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::Harness;
use shoal_runtimes::wasm::{Config, Kind, Refusal, SetupError, Wasm, inspect};
use shoal_runtimes::{PrepareError, Runtime, artifacts};
use tempfile::TempDir;

fn code(harness: &Harness, digest: shoal_protocol::model::Digest) -> PathBuf {
    harness.path("cache/code").join(digest.to_string())
}

/// Names a compiler that does not exist.
fn no_compiler(config: &mut Config) {
    config.compiler = Some(PathBuf::from("/nowhere/compiler"));
}

/// Makes a shell script. Another process writes it: a file that is open for writing cannot be run,
/// and children that other tests start at that moment inherit the open file.
fn script_file(script: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder for the script");
    let program = folder.path().join("compiler");
    let write = r##"printf '%s\n' '#!/bin/sh' "$1" > "$2" && chmod 700 "$2""##;
    let status = Command::new("/bin/sh")
        .args(["-c", write, "sh", script])
        .arg(&program)
        .status()
        .expect("a shell");
    assert!(status.success());
    (folder, program)
}

#[test]
fn inspect_recognises_guests_without_compiling() {
    assert_eq!(inspect(&guests::bytes("hello")), Ok(Kind::Http));
    assert_eq!(inspect(&guests::bytes("faulty")), Ok(Kind::Http));
    assert_eq!(inspect(&guests::bytes("command")), Ok(Kind::Command));
    let hello = guests::bytes("hello");
    for len in [9, 100, hello.len() / 2, hello.len() - 1] {
        let refusal = inspect(&hello[..len]).unwrap_err();
        assert!(matches!(refusal, Refusal::Damaged { .. }), "{len}: {refusal}");
    }
}

/// A Linux program, a core module and a damaged component.
#[tokio::test(flavor = "multi_thread")]
async fn refusal_says_what_was_found_and_what_is_expected() {
    let harness = Harness::new().await;
    let mut hello = guests::bytes("hello");
    let (head, tail) = hello.split_at_mut(5000);
    head[4000..].copy_from_slice(&tail[..1000]);
    let cases = [
        (
            harness.samples.refused,
            "this is a Linux program, not WebAssembly; shoal runs components",
        ),
        (
            harness.store.put(&b"\0asm\x01\0\0\0"[..]).await.unwrap(),
            "this is a core WebAssembly module; shoal runs components",
        ),
        (harness.store.put(hello).await.unwrap(), ""),
    ];
    for (digest, expected) in cases {
        let error = harness.wasm.prepare(digest).await.unwrap_err();
        let PrepareError::Refused { reason, .. } = &error else { panic!("{error}") };
        assert!(reason.starts_with(expected), "{reason}");
        assert!(!reason.is_empty());
        assert!(!code(&harness, digest).exists());
    }
}

/// Compiled code is in the cache: a replica starts although the compiler is missing and the
/// artifact was removed.
#[tokio::test(flavor = "multi_thread")]
async fn restart_needs_no_compiler_and_no_artifact() {
    let harness = Harness::new().await.restart(no_compiler).await;
    let digest = harness.samples.hello;
    harness.store.remove(&digest).await.unwrap();
    assert!(harness.start(harness.samples.launch("web/0", digest)).await.is_running());
}

/// A bit is flipped, or the file is cut, emptied or replaced: the cache must not load it.
#[tokio::test(flavor = "multi_thread")]
async fn altered_code_is_compiled_anew() {
    let harness = Harness::new().await;
    let path = code(&harness, harness.samples.hello);
    let good = fs::read(&path).unwrap();
    let middle = good.len() / 2;
    let mut altered = good.clone();
    altered[middle] ^= 1;
    for bad in [altered, good[..middle].to_vec(), Vec::new(), b"rubbish".to_vec()] {
        fs::write(&path, bad).unwrap();
        harness.wasm.prepare(harness.samples.hello).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), good, "the compiler is deterministic");
    }
}

/// Altered code fails the start rather than run, although it is all there is.
#[tokio::test(flavor = "multi_thread")]
async fn altered_code_is_not_loaded_without_a_compiler() {
    let harness = Harness::with(no_compiler).await;
    let path = code(&harness, harness.samples.hello);
    let mut altered = fs::read(&path).unwrap();
    altered[1000] ^= 1;
    fs::write(&path, altered).unwrap();
    let state = harness.start(harness.samples.launch("web/0", harness.samples.hello)).await;
    let InstanceState::Failed { reason, retryable: true } = state else { panic!("{state:?}") };
    assert!(reason.contains("starting the compiler /nowhere/compiler"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_artifact_is_refused_and_fetched_again() {
    let harness = Harness::cold().await;
    let digest = harness.samples.hello;
    let mut bytes = guests::bytes("hello");
    bytes[1000] ^= 1;
    fs::write(harness.path("artifacts/sha256").join(digest.to_string()), bytes).unwrap();
    let error = harness.wasm.prepare(digest).await.unwrap_err();
    assert!(matches!(error, PrepareError::Store(artifacts::Error::Altered { .. })), "{error}");
    assert!(matches!(harness.wasm.prepare(digest).await, Err(PrepareError::Missing(_))));
    harness.store.put(guests::bytes("hello")).await.unwrap();
    harness.wasm.prepare(digest).await.unwrap();
}

/// Memory, size of the code, time by the clock; nothing stays in the cache.
#[tokio::test(flavor = "multi_thread")]
async fn compiler_is_held_to_its_limits() {
    let harness = Harness::with(|config| config.compile.memory = 24 << 20).await;
    fs::remove_file(code(&harness, harness.samples.faulty)).unwrap();
    let error = harness.wasm.prepare(harness.samples.faulty).await.unwrap_err();
    assert!(!error.to_string().is_empty());
    assert!(!code(&harness, harness.samples.faulty).exists());

    let harness = Harness::with(|config| config.compile.code = 1000).await;
    fs::remove_file(code(&harness, harness.samples.hello)).unwrap();
    let error = harness.wasm.prepare(harness.samples.hello).await.unwrap_err();
    assert!(error.to_string().contains("its compiled code is larger than"), "{error}");

    let harness = Harness::with(|config| config.compile.time = Duration::ZERO).await;
    fs::remove_file(code(&harness, harness.samples.hello)).unwrap();
    let error = harness.wasm.prepare(harness.samples.hello).await.unwrap_err();
    assert!(error.to_string().contains("it took longer than 0 s"), "{error}");
    assert!(error.retryable());
    assert_eq!(
        fs::read_dir(harness.path("cache/tmp")).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

/// Each way in which the child may end gives its reason, and whether another try may help.
#[tokio::test(flavor = "multi_thread")]
async fn compiler_crash_is_explained() {
    let out_of_memory = "echo 'memory allocation of 9 bytes failed' >&2; kill -ABRT $$";
    for (script, retryable, expected) in [
        ("kill -SEGV $$", false, "the compiler crashed on it"),
        ("kill -XCPU $$", false, "compiling it takes more than 120 s of CPU time"),
        (out_of_memory, false, "compiling it takes more than 1024 MiB of memory"),
        (
            "echo no such thing >&2; exit 101",
            false,
            "the compiler could not cope with it: no such thing",
        ),
        ("kill -KILL $$", true, "ended with signal: 9"),
        ("echo no disk >&2; exit 74", true, "no disk"),
        ("exit 1", true, "ended with exit status: 1"),
        ("exit 0", true, "keeping compiled code"),
    ] {
        let (_folder, program) = script_file(script);
        let harness = Harness::with(|config| config.compiler = Some(program)).await;
        fs::remove_file(code(&harness, harness.samples.hello)).unwrap();
        let error = harness.wasm.prepare(harness.samples.hello).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{script}: {error}");
        assert_eq!(error.retryable(), retryable, "{script}: {error}");
    }
}

/// The child waits for input for ever. When the node's end of its standard input closes, it must
/// end by itself.
#[test]
fn compiler_ends_when_its_node_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    // No process writes to it: a compiler that reads it waits for ever.
    let input = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&input).status().unwrap().success());
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal-compile"));
    command.arg("__shoal-compile-component").arg(&input).arg(folder.path().join("output"));
    command.args(["digest", "1073741824", "60", "1000000"]).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(74));
}

#[tokio::test(flavor = "multi_thread")]
async fn engine_refuses_rubbish_from_the_compiler() {
    let (_folder, program) = script_file("echo rubbish > $3");
    let harness = Harness::with(|config| config.compiler = Some(program)).await;
    fs::remove_file(code(&harness, harness.samples.hello)).unwrap();
    harness.wasm.prepare(harness.samples.hello).await.unwrap_err();
    assert!(!code(&harness, harness.samples.hello).exists());
}

/// A program that never called `compiler_entry` must fail at set-up, not at its first workload.
#[tokio::test(flavor = "multi_thread")]
async fn missing_compiler_entry_is_an_error() {
    let harness = Harness::new().await;
    let config = Config { compiler: None, ..harness.config.clone() };
    let error = Wasm::new(config, harness.store.clone()).await.err().unwrap();
    assert!(matches!(error, SetupError::NoCompiler), "{error}");
    assert!(
        error
            .to_string()
            .contains("call shoal_runtimes::wasm::compiler_entry() first thing in main")
    );
}
