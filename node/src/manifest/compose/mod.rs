//! Compose files.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::bundle::{Bundle, Refusal};

/// The files of a project, and what they are read with.
pub struct Request<'a> {
    /// The files, in the order in which they are merged.
    pub files: Vec<PathBuf>,
    /// The text of standard input, where `-` is among the files.
    pub stdin: Option<String>,
    /// The environment of the shell.
    pub env: &'a BTreeMap<String, String>,
    /// Files of variables instead of `.env`.
    pub env_files: Vec<PathBuf>,
    /// The profiles that are on.
    pub profiles: Vec<String>,
    /// The project's name.
    pub project: Option<String>,
}

/// Reads a project.
pub fn load(_request: Request<'_>) -> Result<Bundle, Refusal> {
    Ok(Bundle::default())
}
