//! The container engine of this device, if there is one.

use std::path::{Path, PathBuf};

use shoal_runtimes::artifacts::ArtifactStore;
use shoal_runtimes::container::{Config, Containers, SetupError};

/// The setting that turns containers off.
const NONE: &str = "none";

/// The adapter of the engine that `setting` names: a socket, `none`, or the engine that is found.
/// A device without an engine runs components only; the log says why.
///
/// # Errors
/// The setting names a socket that cannot be used.
pub async fn connect(
    setting: Option<&str>,
    owner: String,
    logs: &Path,
    artifacts: ArtifactStore,
) -> Result<Option<Containers>, SetupError> {
    if setting == Some(NONE) {
        return Ok(None);
    }
    let socket = setting.map(|text| PathBuf::from(text.strip_prefix("unix://").unwrap_or(text)));
    match Containers::new(Config { socket, artifacts: Some(artifacts), ..Config::new(owner, logs) })
        .await
    {
        Ok(containers) => Ok(Some(containers)),
        Err(error) if setting.is_some() => Err(error),
        Err(error @ SetupError::NoEngine(_)) => {
            tracing::info!("this node runs no containers: {error}");
            Ok(None)
        }
        Err(error) => {
            tracing::warn!("this node runs no containers: {error}");
            Ok(None)
        }
    }
}
