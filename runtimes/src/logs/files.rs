//! Two files an instance. All of it blocks.

use std::collections::{HashSet, VecDeque};
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shoal_protocol::model::Digest;

use super::{LogLine, LogStream};
use crate::model::InstanceId;

/// `<logs>/<id>/current.log` and `previous.log`. A line is `<unix milliseconds> <stream> <text>`.
#[derive(Clone)]
pub(super) struct Files {
    logs: PathBuf,
    folder: PathBuf,
}

impl Files {
    pub fn new(logs: &Path, id: &InstanceId) -> Self {
        Files { logs: logs.to_owned(), folder: logs.join(folder_name(id)) }
    }

    pub fn exist(&self) -> bool {
        self.folder.is_dir()
    }

    /// Adds encoded lines; rotates so that both files together stay within `bytes`. Returns whether
    /// the folder is new.
    pub fn append(&mut self, text: &str, bytes: u64) -> io::Result<bool> {
        let is_new = !self.exist();
        if is_new {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        }
        let current = self.folder.join("current.log");
        let len = match fs::metadata(&current) {
            Ok(meta) => meta.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        if len > 0 && len + text.len() as u64 > bytes / 2 {
            fs::rename(&current, self.folder.join("previous.log"))?;
        }
        let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&current)?;
        file.write_all(text.as_bytes())?;
        Ok(is_new)
    }

    /// The last lines of both files.
    pub fn last(&self, lines: usize) -> io::Result<Vec<LogLine>> {
        let mut last = VecDeque::new();
        for name in ["previous.log", "current.log"] {
            let file = match File::open(self.folder.join(name)) {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            for line in BufReader::new(file).split(b'\n') {
                // A power cut may leave half a line, or a line of zeros: skip it.
                let Some(line) = decode(&String::from_utf8_lossy(&line?)) else { continue };
                last.push_back(line);
                if last.len() > lines {
                    last.pop_front();
                }
            }
        }
        Ok(last.into())
    }

    /// Deletes the folders that were written longest ago, down to `instances`; folders of `open`
    /// logs stay and do not count.
    pub fn forget_oldest(&self, instances: usize, open: &[InstanceId]) {
        let Ok(entries) = fs::read_dir(&self.logs) else { return };
        let keep: HashSet<OsString> = open.iter().map(|id| folder_name(id).into()).collect();
        let mut folders: Vec<_> = entries
            .filter_map(|entry| {
                // Thousands may be open: read the metadata of the others only.
                let entry = entry.ok().filter(|entry| !keep.contains(&entry.file_name()))?;
                let path = entry.path();
                let written =
                    fs::metadata(path.join("current.log")).and_then(|meta| meta.modified());
                Some((written.unwrap_or(UNIX_EPOCH), path))
            })
            .collect();
        folders.sort();
        for (_, folder) in folders.iter().rev().skip(instances) {
            if let Err(error) = fs::remove_dir_all(folder) {
                tracing::warn!(folder = %folder.display(), %error, "an old log cannot be deleted");
            }
        }
    }
}

/// The id as a file name: bytes that might have a meaning in a file system are written as `%XX`.
fn folder_name(id: &InstanceId) -> String {
    let mut name = String::new();
    for byte in id.as_str().bytes() {
        match byte {
            b'.' if name.is_empty() => name.push_str("%2E"),
            byte if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') => {
                name.push(char::from(byte))
            }
            // Writing to a string cannot fail.
            byte => write!(name, "%{byte:02X}").unwrap_or_default(),
        }
    }
    // The longest file name of common file systems is 255 bytes.
    if name.len() <= 255 { name } else { Digest::of(id.as_str().as_bytes()).to_string() }
}

/// Appends the line in the files' format.
pub(super) fn encode(line: &LogLine, text: &mut String) {
    let at = line.at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let stream = line.stream.as_str();
    // Writing to a string cannot fail.
    writeln!(text, "{at} {stream} {}", line.text).unwrap_or_default();
}

pub(super) fn decode(line: &str) -> Option<LogLine> {
    let (at, rest) = line.split_once(' ')?;
    let (stream, text) = rest.split_once(' ')?;
    let at: SystemTime = UNIX_EPOCH.checked_add(Duration::from_millis(at.parse().ok()?))?;
    let stream = match stream {
        "stdout" => LogStream::Out,
        "stderr" => LogStream::Err,
        "system" => LogStream::System,
        _ => return None,
    };
    Some(LogLine { at, stream, text: text.to_owned() })
}
