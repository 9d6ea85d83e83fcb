//! The paths and devices that a container needs of its device. They are looked for before the
//! engine is asked, because engines make a folder where a path is missing, and name a missing
//! device in words of the kernel.

use std::io::ErrorKind;
use std::path::Path;

use shoal_protocol::model::spec::{Allowed, is_below};
use tokio::fs;

use super::refusal::Failure;
use crate::model::ContainerPayload;

/// Checks that all is there and allowed. **A link is followed first**: it must not lead out of what
/// the node allows.
pub(super) async fn check(payload: &ContainerPayload, allowed: &Allowed) -> Result<(), Failure> {
    for path in payload.containers().flat_map(|it| payload.device_paths_of(it)) {
        check_path(path, allowed).await?;
    }
    for device in payload.containers().flat_map(|it| &it.privileges.devices) {
        check_device(&device.host).await?;
    }
    Ok(())
}

async fn check_path(path: &str, allowed: &Allowed) -> Result<(), Failure> {
    let real = match fs::canonicalize(path).await {
        Ok(real) => real,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let reason = format!("the path {path} is not on this device; nothing made it");
            return Err(Failure::passing(reason));
        }
        Err(error) => {
            return Err(Failure::passing(format!("the path {path} cannot be looked at: {error}")));
        }
    };
    // An allowed path may be a link itself.
    let mut places = Vec::new();
    for place in allowed.paths() {
        places.extend(fs::canonicalize(place).await.ok());
    }
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let is_allowed = allowed.path(&text(&real))
        || places.iter().any(|place| is_below(&text(&real), &text(place)));
    if is_allowed {
        return Ok(());
    }
    let reason =
        format!("the path {path} leads to {}, which this node does not allow", real.display());
    Err(Failure::lasting(reason))
}

async fn check_device(path: &str) -> Result<(), Failure> {
    match fs::metadata(path).await {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(Failure::passing(format!("the device {path} is not here: is it plugged in?")))
        }
        Err(error) => {
            Err(Failure::passing(format!("the device {path} cannot be looked at: {error}")))
        }
    }
}
