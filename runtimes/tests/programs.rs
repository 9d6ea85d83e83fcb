//! From an artifact to a program: the compiler, its limits, and the cache that is never trusted.

#[cfg(test)]
#[allow(dead_code, reason = "shared with other tests, which need more of it")]
mod bed;
#[cfg(test)]
mod guests;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use bed::Bed;
use shoal_runtimes::wasm::{Config, Kind, Refusal, SetupError, Wasm, inspect};
use shoal_runtimes::{PrepareError, Runtime, State, artifacts};
use tempfile::TempDir;

fn code(bed: &Bed, digest: shoal_protocol::model::Digest) -> PathBuf {
    bed.path("cache/code").join(digest.to_string())
}

/// A compiler that cannot be the reason why something works.
fn no_compiler(config: &mut Config) {
    config.compiler = Some(PathBuf::from("/nowhere/compiler"));
}

/// A program for the shell. Another process writes it: a file that this one has open for writing,
/// and with it every child that another test starts at that moment, cannot be run.
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
fn guests_are_told_apart_without_compiling() {
    assert_eq!(inspect(&guests::bytes("hello")), Ok(Kind::Http));
    assert_eq!(inspect(&guests::bytes("faulty")), Ok(Kind::Http));
    let command = inspect(&guests::bytes("command")).unwrap_err();
    assert!(matches!(&command, Refusal::OtherWorld { found } if found.starts_with("a command (it \
            exports wasi:cli/run@")));
    let hello = guests::bytes("hello");
    for len in [9, 100, hello.len() / 2, hello.len() - 1] {
        let refusal = inspect(&hello[..len]).unwrap_err();
        assert!(matches!(refusal, Refusal::Damaged { .. }), "{len}: {refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_run_is_refused_with_what_was_found_and_what_is_expected() {
    let bed = Bed::new().await;
    let mut hello = guests::bytes("hello");
    let (head, tail) = hello.split_at_mut(5000);
    head[4000..].copy_from_slice(&tail[..1000]);
    let cases = [
        (bed.command, "this component is a command (it exports wasi:cli/run@"),
        (bed.samples.refused, "this is a Linux program, not WebAssembly; shoal runs components"),
        (
            bed.store.put(&b"\0asm\x01\0\0\0"[..]).await.unwrap(),
            "this is a core WebAssembly module; shoal runs components",
        ),
        (bed.store.put(hello).await.unwrap(), ""),
    ];
    for (digest, expected) in cases {
        let error = bed.wasm.prepare(digest).await.unwrap_err();
        let PrepareError::Refused { reason, .. } = &error else { panic!("{error}") };
        assert!(reason.starts_with(expected), "{reason}");
        assert!(!reason.is_empty());
        assert!(!code(&bed, digest).exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_needs_no_compiler_and_no_artifact() {
    let bed = Bed::new().await.restart(no_compiler).await;
    let digest = bed.samples.hello;
    bed.store.remove(&digest).await.unwrap();
    assert_eq!(bed.start(bed.samples.launch("web/0", digest)).await, State::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_code_is_never_loaded_but_compiled_anew() {
    let bed = Bed::new().await;
    let path = code(&bed, bed.samples.hello);
    let good = fs::read(&path).unwrap();
    let middle = good.len() / 2;
    let mut altered = good.clone();
    altered[middle] ^= 1;
    for bad in [altered, good[..middle].to_vec(), Vec::new(), b"rubbish".to_vec()] {
        fs::write(&path, bad).unwrap();
        bed.wasm.prepare(bed.samples.hello).await.unwrap();
        assert_eq!(fs::read(&path).unwrap(), good, "the compiler is deterministic");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn altered_code_is_not_loaded_where_nothing_can_compile() {
    let bed = Bed::with(no_compiler).await;
    let path = code(&bed, bed.samples.hello);
    let mut altered = fs::read(&path).unwrap();
    altered[1000] ^= 1;
    fs::write(&path, altered).unwrap();
    let state = bed.start(bed.samples.launch("web/0", bed.samples.hello)).await;
    let State::Failed { reason, retryable: true } = state else { panic!("{state:?}") };
    assert!(reason.contains("starting the compiler /nowhere/compiler"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_artifact_is_refused_and_can_be_fetched_again() {
    let bed = Bed::cold().await;
    let digest = bed.samples.hello;
    let mut bytes = guests::bytes("hello");
    bytes[1000] ^= 1;
    fs::write(bed.path("artifacts/sha256").join(digest.to_string()), bytes).unwrap();
    let error = bed.wasm.prepare(digest).await.unwrap_err();
    assert!(matches!(error, PrepareError::Store(artifacts::Error::Altered { .. })), "{error}");
    assert!(matches!(bed.wasm.prepare(digest).await, Err(PrepareError::Missing(_))));
    bed.store.put(guests::bytes("hello")).await.unwrap();
    bed.wasm.prepare(digest).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_compiler_is_held_to_its_limits() {
    let bed = Bed::with(|config| config.compile.memory = 24 << 20).await;
    fs::remove_file(code(&bed, bed.samples.faulty)).unwrap();
    let error = bed.wasm.prepare(bed.samples.faulty).await.unwrap_err();
    assert!(!error.to_string().is_empty());
    assert!(!code(&bed, bed.samples.faulty).exists());

    let bed = Bed::with(|config| config.compile.code = 1000).await;
    fs::remove_file(code(&bed, bed.samples.hello)).unwrap();
    let error = bed.wasm.prepare(bed.samples.hello).await.unwrap_err();
    assert!(error.to_string().contains("its compiled code is larger than"), "{error}");

    let bed = Bed::with(|config| config.compile.time = Duration::ZERO).await;
    fs::remove_file(code(&bed, bed.samples.hello)).unwrap();
    let error = bed.wasm.prepare(bed.samples.hello).await.unwrap_err();
    assert!(error.to_string().contains("it took longer than 0 s"), "{error}");
    assert!(error.retryable());
    assert_eq!(fs::read_dir(bed.path("cache/tmp")).unwrap().count(), 0, "nothing is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compiler_that_crashes_is_survived() {
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
        let bed = Bed::with(|config| config.compiler = Some(program)).await;
        fs::remove_file(code(&bed, bed.samples.hello)).unwrap();
        let error = bed.wasm.prepare(bed.samples.hello).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{script}: {error}");
        assert_eq!(error.retryable(), retryable, "{script}: {error}");
    }
}

#[test]
fn a_compiler_whose_node_is_gone_ends_itself() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody ever writes to it: a compiler that reads it waits for ever.
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
async fn code_that_a_rogue_compiler_wrote_is_checked_by_the_engine() {
    let (_folder, program) = script_file("echo rubbish > $3");
    let bed = Bed::with(|config| config.compiler = Some(program)).await;
    fs::remove_file(code(&bed, bed.samples.hello)).unwrap();
    bed.wasm.prepare(bed.samples.hello).await.unwrap_err();
    assert!(!code(&bed, bed.samples.hello).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_cannot_compile_is_told_at_once() {
    let bed = Bed::new().await;
    let config = Config { compiler: None, ..bed.config.clone() };
    let error = Wasm::new(config, bed.store.clone()).await.err().unwrap();
    assert!(matches!(error, SetupError::NoCompiler), "{error}");
    assert!(
        error
            .to_string()
            .contains("call shoal_runtimes::wasm::compiler_entry() first thing in main")
    );
}
