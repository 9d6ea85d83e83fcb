//! Targets: command lines with what docker's options take, and archives that replicas send.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use shoal_protocol::fuzzing::Target;

use super::port_forward::Ports;
use super::target::Target as Replica;
use super::volume::VolumeName;
use super::{Cli, Verb, cp, from_docker};
use crate::publish::container;

/// The words of a command line, divided by line feeds.
pub const WORDS: Target = Target { name: "words", run: words, seeds: lines, most: 1_024 };
/// A tar archive that `shoal cp` unpacks.
pub const ARCHIVE: Target = Target { name: "archive", run: archive, seeds: archives, most: 8_192 };

fn words(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let words: Vec<String> = text.split('\n').map(str::to_owned).collect();
    match Cli::try_parse_from(std::iter::once("shoal").chain(words.iter().map(String::as_str))) {
        Ok(Cli { verb: Verb::Run(run), .. }) => _ = run.makes_spec(),
        Ok(_) => {}
        Err(error) => _ = from_docker::explain(&error, &words),
    }
    _ = (text.parse::<Ports>(), text.parse::<Replica>(), text.parse::<VolumeName>());
    _ = (container::words(&text), container::is_file(&text), from_docker::own_option(&words));
}

fn lines() -> Vec<Vec<u8>> {
    let lines = [
        "run --name web --port 80 -p 127.0.0.1:8080:80/udp --replicas 2 nginx:1.27",
        "run --name db -v data:/var/lib/db:ro --volume-on-loss wait postgres -c a=b",
        "run --name db --mount type=bind,source=/srv,target=/w,readonly --tmpfs /t i",
        "run --name m --device /dev/ttyUSB0:/dev/t --ulimit nofile=1:2 --sysctl a=b i",
        "run --name m --stop-grace 1m30s --shm-size 64MiB --cpu 0.5 --memory 1GiB -e A=b ./m.tar",
        "run --name m --entrypoint '/bin/sh -c' --user 1:2 -w /w --network host --cap-add ALL i",
        "logs shop/web/0 --follow",
        "exec web -- ls -la",
        "port-forward web/1 8080:80 :5432",
        "scale web=3",
        "docker ps",
        "run --restart always nginx",
        "db/0/data",
        "8080:80",
    ];
    lines.map(|line| line.replace(' ', "\n").into_bytes()).into()
}

/// Nothing is written outside the folder. So that a fault of ours harms nobody, an archive that
/// could reach further than a folder beside it is left out: see [`is_confined`].
fn archive(data: &[u8]) {
    let Some((how, data)) = data.split_first() else { return };
    let bytes = with_checksums(data);
    if !is_confined(&bytes) {
        return;
    }
    let root = root();
    // The rest of a run before is removed, so that each starts alike.
    let _ = fs::remove_dir_all(&root);
    let (inside, outside) = (root.join("a/b/c/d/in"), root.join("out"));
    fs::create_dir_all(&inside).expect("the temporary folder can be written");
    fs::create_dir_all(&outside).expect("the temporary folder can be written");
    let to = if how & 1 == 0 { inside.clone() } else { inside.join("new") };
    _ = cp::unpack(&bytes[..], &to, how & 2 != 0);
    let around: Vec<PathBuf> = ["", "a", "a/b", "a/b/c", "a/b/c/d"]
        .iter()
        .flat_map(|it| fs::read_dir(root.join(it)).into_iter().flatten().flatten())
        .map(|entry| entry.path())
        .filter(|it| !inside.starts_with(it) && *it != outside)
        .chain(fs::read_dir(&outside).into_iter().flatten().flatten().map(|it| it.path()))
        .collect();
    assert!(around.is_empty(), "it wrote outside its folder: {around:?}");
    let _ = fs::remove_dir_all(&root);
}

/// A folder of this thread alone.
fn root() -> PathBuf {
    let thread = format!("{:?}", std::thread::current().id());
    let digits: String = thread.chars().filter(char::is_ascii_digit).collect();
    std::env::temp_dir().join(format!("shoal-fuzz-{}-{digits}", std::process::id()))
}

/// Whether no name and no link of the archive is absolute, and all of them together go up at most
/// four folders: to where [`archive`] looks. A file of more than a few bytes is left out, too.
fn is_confined(bytes: &[u8]) -> bool {
    let mut archive = tar::Archive::new(bytes);
    let Ok(entries) = archive.entries() else { return true };
    let mut ups = 0;
    for entry in entries {
        let Ok(entry) = entry else { return true };
        let link = entry.link_name_bytes().unwrap_or_default().into_owned();
        for name in [entry.path_bytes().into_owned(), link] {
            ups += name.split(|byte| *byte == b'/').filter(|part| *part == b"..").count();
            if name.starts_with(b"/") {
                return false;
            }
        }
        let kind = entry.header().entry_type();
        let is_plain = kind.is_file() || kind.is_dir() || kind.is_symlink() || kind.is_hard_link();
        if !is_plain || entry.size() > 8_192 || ups > 4 {
            return false;
        }
    }
    true
}

/// The bytes as a tar: headers where they would be get a right checksum, or nearly no alteration
/// would be looked at.
fn with_checksums(data: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 512;
    let mut bytes = data.to_vec();
    let mut at = 0;
    while let Some(block) = bytes.get_mut(at..at + BLOCK) {
        if block.iter().all(|byte| *byte == 0) {
            break;
        }
        let mut header = tar::Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        header.set_cksum();
        block.copy_from_slice(header.as_bytes());
        let size = usize::try_from(header.entry_size().unwrap_or_default()).unwrap_or(usize::MAX);
        let Some(next) = size.checked_next_multiple_of(BLOCK) else { break };
        at = at.saturating_add(BLOCK).saturating_add(next);
    }
    bytes
}

fn archives() -> Vec<Vec<u8>> {
    let trees: [&[(&str, &str)]; 4] = [
        &[("data/", ""), ("data/x", "some text"), ("data/link", "-> x")],
        &[("a.log", "one")],
        &[("d", "-> ../../out"), ("d/a", "x")],
        &[("d/", ""), ("d/x", "x"), ("h", "=> d/x"), ("h", "y")],
    ];
    let seed = |(how, tree): (usize, &[(&str, &str)])| {
        let mut bytes = vec![u8::try_from(how).expect("a few")];
        for (name, text) in tree {
            bytes.extend(entry(name, text));
        }
        bytes.resize(bytes.len() + 1_024, 0);
        bytes
    };
    trees.into_iter().enumerate().map(seed).collect()
}

fn entry(name: &str, text: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
    let links = [("-> ", tar::EntryType::Symlink), ("=> ", tar::EntryType::Link)];
    let link = links.iter().find_map(|(sign, kind)| Some((text.strip_prefix(sign)?, *kind)));
    let mut bytes = Vec::new();
    if let Some((to, kind)) = link {
        header.set_entry_type(kind);
        header.set_link_name_literal(Path::new(to).as_os_str().as_encoded_bytes()).expect("short");
        header.set_size(0);
    } else {
        header.set_size(text.len() as u64);
        if name.ends_with('/') {
            header.set_entry_type(tar::EntryType::Directory);
        }
        bytes.extend(text.as_bytes());
        bytes.resize(text.len().next_multiple_of(512), 0);
    }
    header.set_cksum();
    [header.as_bytes().to_vec(), bytes].concat()
}
