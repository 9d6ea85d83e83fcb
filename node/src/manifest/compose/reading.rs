//! The files of a project: found in a folder, read within bounds, and the folders to which the
//! paths in them are relative.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::tree::{FileId, Position, Sources};

/// Bytes of one file.
pub(super) const MAX_FILE: u64 = 1 << 20;
/// Files of one project, those of variables, configs and secrets as well.
const MAX_FILES: usize = 256;
/// The names that a Compose file has in its folder, the first that is there.
const NAMES: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// The Compose files of a folder: the first of the known names, and the file that overrides it.
pub fn files_in(folder: &Path) -> Vec<PathBuf> {
    let exists = |name: &str| Some(folder.join(name)).filter(|it| it.is_file());
    let Some(first) = NAMES.iter().find_map(|name| exists(name)) else { return Vec::new() };
    let overrides = ["compose.override", "docker-compose.override"];
    let names = overrides.iter().flat_map(|stem| [".yaml", ".yml"].map(|it| format!("{stem}{it}")));
    let over = names.into_iter().find_map(|name| exists(&name));
    std::iter::once(first).chain(over).collect()
}

/// The files that were read, and the variables of the project.
#[derive(Default)]
pub(super) struct Files {
    pub sources: Sources,
    /// The folder to which the paths of a file are relative, by the number of the file.
    bases: Vec<PathBuf>,
    /// The variables of the shell.
    pub shell: BTreeMap<String, String>,
    read: usize,
    /// Files that become configs because a service mounts them, by the names of the configs.
    pub mounted: BTreeMap<String, (PathBuf, Position)>,
}

impl Files {
    /// None so far.
    pub fn new(shell: BTreeMap<String, String>) -> Files {
        Files { sources: Sources::default(), bases: Vec::new(), shell, ..Files::default() }
    }

    /// Reads a file that another one names.
    pub fn open(&mut self, path: &Path) -> Result<Vec<u8>, String> {
        self.read += 1;
        if self.read > MAX_FILES {
            return Err(format!("the project has more than {MAX_FILES} files"));
        }
        let shown = path.display();
        let wrong = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => format!("the file {shown} is not there"),
            _ => format!("the file {shown} cannot be read: {error}"),
        };
        let file = std::fs::File::open(path).map_err(wrong)?;
        let what = file.metadata().map_err(wrong)?;
        if !what.is_file() {
            return Err(format!("{shown} is no file"));
        }
        let mut content = Vec::new();
        let most = MAX_FILE.saturating_add(1);
        std::io::Read::read_to_end(&mut std::io::Read::take(file, most), &mut content)
            .map_err(wrong)?;
        match u64::try_from(content.len()).is_ok_and(|bytes| bytes <= MAX_FILE) {
            true => Ok(content),
            false => Err(format!("the file {shown} is larger than 1 MiB")),
        }
    }

    /// The same for a text.
    pub fn open_text(&mut self, path: &Path) -> Result<String, String> {
        let content = self.open(path)?;
        let text = String::from_utf8(content);
        text.map_err(|_| format!("the file {} is no text in UTF-8", path.display()))
    }

    /// A path as it is meant where it stands.
    pub fn path(&self, at: Position, path: &str) -> PathBuf {
        let base = self.bases.get(usize::from(at.file.0)).cloned().unwrap_or_default();
        base.join(path)
    }

    pub fn add(&mut self, name: impl Into<String>, base: &Path) -> FileId {
        self.bases.push(base.to_owned());
        self.sources.add(name)
    }
}
