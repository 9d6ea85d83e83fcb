//! The volumes of a service: of its own, paths of the device, and files in memory.

use shoal_protocol::model::spec::Tmpfs;

use super::super::tree::{Position, Tree};
use super::service::Service;
use super::{label_of, values};
use crate::publish::container;
use crate::publish::volume::{Mounted, volume};

/// All that is mounted.
#[derive(Default)]
pub(super) struct Mounts {
    pub volumes: Vec<Mounted>,
    pub tmpfs: Vec<Tmpfs>,
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
        match mounted(service, item.at, &field, &written) {
            Ok(mount) => mounts.volumes.push(mount),
            Err(why) => service.refuse(item.at, &field, why),
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
    if source.len() == 1 && target.starts_with('/') {
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
                "`{source}` is relative, and each node has folders of its own: write the absolute \
                 path of the nodes, put the files into the image, or make a single file a config \
                 (`configs: {{ site: {{ file: {source} }} }}`)"
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
