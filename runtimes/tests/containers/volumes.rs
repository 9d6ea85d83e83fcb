//! The files of volumes, from outside of their containers.

use std::io::Read;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use shoal_runtimes::Runtime;
use shoal_runtimes::session::{Chunks, SessionError, Sessions};

use super::options::{keeping, key};
use crate::engines::harness::{Harness, id_of};
use crate::engines::{Kind, shared};

on_both! {
    files_of_a_volume_are_read_and_replaced
    volume_in_use_takes_files_only_beside_its_own
    archive_that_breaks_off_is_an_error
}

/// An archive of one file of the user 999 and the group 998.
fn archive(name: &str, text: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    header.set_mode(0o640);
    header.set_uid(999);
    header.set_gid(998);
    builder.append_data(&mut header, name, text.as_bytes()).unwrap();
    builder.into_inner().unwrap()
}

fn chunks(bytes: Vec<u8>) -> Chunks {
    futures::stream::iter([Ok(bytes.into())]).boxed()
}

/// All files of the volume: name, owner, group, mode and text.
async fn files(harness: &Harness) -> Vec<(String, u64, u64, u32, String)> {
    let read = harness.containers.read_volume(&key("0")).await.unwrap();
    let bytes: Vec<u8> = read.try_collect::<Vec<_>>().await.unwrap().concat();
    let mut archive = tar::Archive::new(&bytes[..]);
    let mut found = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_dir() {
            continue;
        }
        let name = entry.path().unwrap().to_string_lossy().trim_start_matches("./").to_owned();
        let header = entry.header();
        let (uid, gid) = (header.uid().unwrap(), header.gid().unwrap());
        let mode = header.mode().unwrap() & 0o777;
        let mut text = String::new();
        entry.read_to_string(&mut text).unwrap();
        found.push((name, uid, gid, mode, text));
    }
    found.sort();
    found
}

/// No replica runs; what comes back is what was there, with its owners, and nothing else is left.
async fn files_of_a_volume_are_read_and_replaced(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(keeping("a/0", "0")).await;
    assert_eq!(harness.get(&id_of("a/0"), "/write?/mounted/file").await, "written");
    let names = |all: &[(String, u64, u64, u32, String)]| {
        all.iter().map(|it| it.0.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&files(&harness).await), ["file"], "while it runs");
    harness.containers.stop(&id_of("a/0"), Duration::ZERO).await.unwrap();
    assert_eq!(names(&files(&harness).await), ["file"], "while nothing runs");

    let new = chunks(archive("new", "data"));
    harness.containers.write_volume(&key("0"), new, false).await.unwrap();
    let expected = ("new".to_owned(), 999, 998, 0o640, "data".to_owned());
    assert_eq!(files(&harness).await, vec![expected.clone()]);
    let read = harness.containers.read_volume(&key("0")).await.unwrap();
    let bytes: Vec<u8> = read.try_collect::<Vec<_>>().await.unwrap().concat();
    harness.containers.write_volume(&key("1"), chunks(bytes), false).await.unwrap();
    assert_eq!(harness.containers.volumes(), Some(vec![key("0"), key("1")]), "made for it");
    harness.run(keeping("a/1", "1")).await;
    assert_eq!(harness.get(&id_of("a/1"), "/read?/mounted/new").await, "data");
    assert_eq!(files(&harness).await, [expected]);
    // Nothing that was needed for that keeps it in use.
    harness.containers.remove_volume(&key("0")).await.unwrap();
}

async fn volume_in_use_takes_files_only_beside_its_own(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    harness.run(keeping("a/0", "0")).await;
    assert_eq!(harness.get(&id_of("a/0"), "/write?/mounted/file").await, "written");
    let new = || chunks(archive("new", "data"));
    let refused = harness.containers.write_volume(&key("0"), new(), false).await.unwrap_err();
    assert!(matches!(&refused, SessionError::InUse(_)), "{refused}");
    assert!(refused.to_string().contains("is left as it is"), "{refused}");
    harness.containers.write_volume(&key("0"), new(), true).await.unwrap();
    let read = |file: &'static str| {
        let harness = &harness;
        async move { harness.get(&id_of("a/0"), &format!("/read?/mounted/{file}")).await }
    };
    assert_eq!((read("file").await.as_str(), read("new").await.as_str()), ("x", "data"));
}

async fn archive_that_breaks_off_is_an_error(kind: Kind) {
    let harness = Harness::on(shared(kind)).await;
    let half = archive("new", &"data".repeat(1000))[..1024].to_vec();
    let broken =
        futures::stream::iter([Ok(half.into()), Err(std::io::Error::other("the disk is gone"))]);
    let error = harness.containers.write_volume(&key("0"), broken.boxed(), false).await;
    assert!(error.is_err());
    harness
        .containers
        .write_volume(&key("0"), chunks(archive("new", "data")), false)
        .await
        .unwrap();
    assert_eq!(files(&harness).await.len(), 1);
}
