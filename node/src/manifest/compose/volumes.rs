//! The volumes of a service: of its own, paths of the device, and files in memory. **A path that is
//! relative is on the machine of the publisher**: what is only read there becomes configs.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use shoal_protocol::model::spec::{MAX_USES, Tmpfs, ValueUse};
use shoal_protocol::trust::MAX_CONFIG;

use super::super::tree::{Position, Tree};
use super::service::Service;
use super::{label_of, values};
use crate::publish::volume::{Mounted, volume};
use crate::publish::{container, given};

/// All that is mounted.
#[derive(Default)]
pub(super) struct Mounts {
    pub volumes: Vec<Mounted>,
    pub tmpfs: Vec<Tmpfs>,
    /// Files of the publisher.
    pub configs: Vec<ValueUse>,
}

/// A mount as the file has it.
struct Written<'a> {
    kind: &'a str,
    source: &'a str,
    target: &'a str,
    read_only: bool,
}

pub(super) fn read(service: &mut Service<'_>) -> Mounts {
    let mut mounts = Mounts::default();
    let items = service.find("volumes").and_then(Tree::as_list).unwrap_or_default();
    for (index, item) in items.iter().enumerate() {
        let field = format!("volumes[{index}]");
        let added = match item.as_text() {
            Some(text) => Some(short(service, item.at, &field, text)),
            None => long(item, &mut mounts).transpose(),
        };
        let written = match added {
            Some(Ok(written)) => written,
            Some(Err(why)) => {
                service.refuse(item.at, &field, why);
                continue;
            }
            None => continue,
        };
        let is_here = written.kind == "bind" && !written.source.starts_with(['/', '~']);
        let added = match is_here {
            true => of_publisher(service, item.at, &field, &written)
                .map(|all| mounts.configs.extend(all)),
            false => {
                mounted(service, item.at, &field, &written).map(|mount| mounts.volumes.push(mount))
            }
        };
        if let Err(why) = added {
            service.refuse(item.at, &field, why);
        }
    }
    for (index, (at, text)) in
        service.get("tmpfs", values::texts).unwrap_or_default().into_iter().enumerate()
    {
        match tmpfs(&text) {
            Ok(it) => mounts.tmpfs.push(it),
            Err(why) => service.refuse(at, &format!("tmpfs[{index}]"), why),
        }
    }
    mounts
}

/// The parts of `[SOURCE:]TARGET[:OPTION,..]`.
pub(super) struct Short<'a> {
    pub kind: &'static str,
    pub source: &'a str,
    pub target: &'a str,
    pub options: &'a str,
}

/// Takes the short form apart. `h/x` is the name of a volume for Compose, and no legal one.
pub(super) fn parts(text: &str) -> Result<Short<'_>, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => ("", *target, ""),
        [source, target] => (*source, *target, ""),
        [source, target, options] => (*source, *target, *options),
        _ => return Err(format!("`{text}` is not of the form SOURCE:/PATH[:ro]")),
    };
    let is_path = source.contains(['/', '~']) || source == "." || source == "..";
    Ok(Short { kind: if is_path { "bind" } else { "volume" }, source, target, options })
}

/// Reads `[SOURCE:]TARGET[:OPTION,..]`.
fn short<'a>(
    service: &mut Service<'_>,
    at: Position,
    field: &str,
    text: &'a str,
) -> Result<Written<'a>, String> {
    let Short { kind, source, target, options } = parts(text)?;
    let mut read_only = false;
    for option in options.split(',').filter(|it| !it.is_empty()) {
        match option {
            "ro" => read_only = true,
            "rw" | "private" | "rprivate" => {}
            "z" | "Z" => service.degrade(at, field, "no label of SELinux is changed"),
            "cached" | "delegated" | "consistent" => {
                service.degrade(at, field, format!("`{option}` is only of other systems"));
            }
            _ => return Err(format!("`{option}` is none of ro and rw")),
        }
    }
    let is_letter = source.len() == 1 && source.bytes().all(|b| b.is_ascii_alphabetic());
    if is_letter && target.starts_with('/') {
        service.degrade(at, field, "a volume; Compose takes one letter for a drive of Windows");
    }
    Ok(Written { kind, source, target, read_only })
}

/// Reads the long form; nothing for files in memory, which are added.
fn long<'a>(item: &'a Tree, mounts: &mut Mounts) -> Result<Option<Written<'a>>, String> {
    let part = |name: &str| item.get(name).and_then(Tree::as_text).unwrap_or_default();
    let (kind, source, target) = (part("type"), part("source"), part("target"));
    let read_only = item.get("read_only").map(values::boolean).transpose()?.unwrap_or_default();
    if target.is_empty() {
        return Err("`target`, the path in the container, is missing".into());
    }
    match kind {
        "tmpfs" => {
            let size = item.at_path(&["tmpfs", "size"]).map(values::size).transpose()?;
            mounts.tmpfs.push(Tmpfs { path: target.to_owned(), size, exec: false });
            Ok(None)
        }
        "volume" | "bind" => Ok(Some(Written { kind, source, target, read_only })),
        other => Err(format!("the type `{other}` is none of volume, bind and tmpfs")),
    }
}

fn mounted(
    service: &mut Service<'_>,
    at: Position,
    field: &str,
    written: &Written<'_>,
) -> Result<Mounted, String> {
    let Written { kind, source, target, read_only } = written;
    let mode = if *read_only { ":ro" } else { "" };
    if *kind == "bind" {
        return match source.starts_with('/') {
            true => volume(&format!("{source}:{target}{mode}")),
            false => Err(format!(
                "`{source}` is in a home, and each node has its own: write the absolute path"
            )),
        };
    }
    if source.is_empty() {
        let name = label_of(&format!("anon{}", target.replace('/', "-")));
        let note = format!("it is kept under the name `{name}`");
        service.degrade(at, field, note);
        return volume(&format!("{name}:{target}{mode}"));
    }
    if service.shared.tree.at_path(&["volumes", source]).is_none() {
        return Err(format!(
            "the volume `{source}` is not declared: write `volumes: {{ {source}: {{}} }}` at the \
             top, or an absolute path"
        ));
    }
    let users = service.shared.volumes.get(*source);
    let others = users.into_iter().flatten().filter(|it| *it != service.name);
    let others: Vec<&str> = others.map(String::as_str).collect();
    if !others.is_empty() {
        return Err(format!(
            "`{source}` is used by {}, too, and here each replica has volumes of its own: the data \
             would not be the same. Put both programs into one service, or name a path of the \
             nodes",
            others.join(", ")
        ));
    }
    volume(&format!("{}:{target}{mode}", label_of(source)))
}

/// The most folders within one another of a path that becomes configs.
const MAX_DEPTH: usize = 8;

/// The files at a relative path as configs: no node has them.
fn of_publisher(
    service: &mut Service<'_>,
    at: Position,
    field: &str,
    written: &Written<'_>,
) -> Result<Vec<ValueUse>, String> {
    let Written { source, target, read_only, .. } = written;
    let wrong = |why: &str| {
        format!(
            "`{source}` is relative, and each node has folders of its own{why}: write the absolute \
             path of the nodes, a named volume, or put the files into the image"
        )
    };
    // Without the dots between its parts.
    let path: PathBuf = service.files.path(at, source).components().collect();
    let mut files = Vec::new();
    collect(&path, target.trim_end_matches('/'), MAX_DEPTH, &mut files)
        .map_err(|why| wrong(&why))?;
    if !(*read_only || service.shared.is_read_only) {
        return Err(format!(
            "`{source}` is relative, and each node has folders of its own. If its files are only \
             read, write `{source}:{target}:ro`, or once, at the top of the file,  x-shoal: {{ \
             files: read-only }}: they become configs. Data is in a named volume, or at an \
             absolute path of the nodes"
        ));
    }
    let mut uses = Vec::new();
    for (path, target) in files {
        let shown = path
            .strip_prefix(service.files.path(at, "").components().collect::<PathBuf>())
            .unwrap_or(&path);
        let name = config_name(service, shown, &path, at);
        let mode = std::fs::metadata(&path).map_or(0o444, |it| it.permissions().mode() & 0o777);
        if target.contains([',', '=']) {
            return Err(format!("`{target}`: no comma and no `=` are expected"));
        }
        uses.push(given::config(&format!("source={name},target={target},mode=0{mode:o}"))?);
    }
    let count = uses.len();
    let why = format!("as it is when published, and read only: {count} of its files are configs");
    service.degrade(at, field, why);
    Ok(uses)
}

/// A name that no other file has.
fn config_name(service: &mut Service<'_>, shown: &Path, path: &Path, at: Position) -> String {
    let label = label_of(&format!("file-{}", shown.display()));
    let mut name = label.clone();
    for number in 2.. {
        match service.files.mounted.get(&name) {
            Some((other, _)) if other != path => {
                let end = format!("-{number}");
                let kept: String = label.chars().take(63 - end.len()).collect();
                name = kept + &end;
            }
            _ => break,
        }
    }
    service.files.mounted.insert(name.clone(), (path.to_owned(), at));
    name
}

/// The files at a path, each with its place in the container.
fn collect(
    path: &Path,
    target: &str,
    depth: usize,
    files: &mut Vec<(PathBuf, String)>,
) -> Result<(), String> {
    let shown = path.display();
    let Ok(what) = std::fs::metadata(path) else { return Err(format!("; {shown} is not there")) };
    if what.is_file() {
        if what.len() > MAX_CONFIG as u64 {
            return Err(format!("; {shown} has more than {} KiB", MAX_CONFIG / 1024));
        }
        if what.len() == 0 {
            return Err(format!("; {shown} is empty"));
        }
        files.push((path.to_owned(), target.to_owned()));
        if files.len() > MAX_USES {
            return Err(format!("; it has more than {MAX_USES} files"));
        }
        return Ok(());
    }
    if !what.is_dir() || depth == 0 {
        return Err(format!("; {shown} is no file"));
    }
    let entries = std::fs::read_dir(path).map_err(|error| format!("; {shown}: {error}"))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|it| Some(it.ok()?.path())).collect();
    paths.sort();
    let before = files.len();
    for path in paths {
        let name = path.file_name().and_then(|it| it.to_str()).ok_or("; a name is no text")?;
        collect(&path, &format!("{target}/{name}"), depth - 1, files)?;
    }
    if depth == MAX_DEPTH && files.len() == before {
        return Err(format!("; {shown} has no files"));
    }
    Ok(())
}

/// Reads `PATH[:OPTION,..]` with docker's sizes.
fn tmpfs(text: &str) -> Result<Tmpfs, String> {
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    let mut ours = Vec::new();
    for option in options.split(',').filter(|it| !it.is_empty() && *it != "mode=1777") {
        match option.strip_prefix("size=") {
            Some(size) => {
                let wrong = || format!("`{option}` is no size, as in size=64m");
                ours.push(format!("size={}B", values::bytes(size).ok_or_else(wrong)?));
            }
            None => ours.push(option.to_owned()),
        }
    }
    container::tmpfs(&format!("{path}:{}", ours.join(",")))
}
