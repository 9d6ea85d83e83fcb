//! Volumes, devices and rights, as people give them in a manifest or to `shoal run`.

use shoal_protocol::model::spec::{
    Device, Mount, NO_NEW_PRIVILEGES, OnLoss, Volume, VolumeSource, is_plain_path,
};

use super::Workload;

/// A volume and its place in the program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mounted {
    volume: Volume,
    path: String,
    read_only: bool,
}

impl Mounted {
    /// A volume at a path of the container.
    pub fn of(volume: Volume, path: String, read_only: bool) -> Mounted {
        Mounted { volume, path, read_only }
    }

    /// The mount in the container.
    pub fn mount(&self) -> Mount {
        Mount {
            volume: self.volume.name.clone(),
            path: self.path.clone(),
            read_only: self.read_only,
        }
    }
}

/// A component with these volumes.
///
/// # Errors
/// As [`storage`].
pub fn folders(
    workload: Workload,
    all: &[Mounted],
    on_loss: Option<OnLoss>,
) -> Result<Workload, String> {
    let volumes = storage(all, on_loss)?;
    Ok(workload.folders(volumes, all.iter().map(Mounted::mount).collect()))
}

/// The volumes of a workload, each once.
///
/// # Errors
/// `on_loss` is given, and there is no volume that it could be about.
pub fn storage(all: &[Mounted], on_loss: Option<OnLoss>) -> Result<Vec<Volume>, String> {
    let mut volumes: Vec<Volume> = Vec::new();
    for Mounted { volume, .. } in all {
        match volumes.iter().find(|other| other.name == volume.name) {
            None => volumes.push(volume.clone()),
            Some(other) if other == volume => {}
            Some(_) => return Err(format!("volumes: two sources are called `{}`", volume.name)),
        }
    }
    let Some(on_loss) = on_loss else { return Ok(volumes) };
    let mut kept = volumes.iter_mut().filter(|it| it.source == VolumeSource::Kept).peekable();
    if kept.peek().is_none() {
        return Err("volume_on_loss: it has no volume of its own, as in `data:/var/lib/db`".into());
    }
    kept.for_each(|volume| volume.on_loss = on_loss);
    Ok(volumes)
}

/// Reads `SOURCE:PATH[:ro]` as docker has it: a source with a slash is a path of the device, any
/// other the name of a volume.
///
/// # Errors
/// It has another form.
pub fn volume(text: &str) -> Result<Mounted, String> {
    let wrong = || format!("`{text}` is not of the form NAME:/PATH[:ro] or /SOURCE:/PATH[:ro]");
    let mut parts = text.split(':');
    let (Some(source), Some(path)) = (parts.next(), parts.next()) else { return Err(wrong()) };
    let read_only = match parts.next() {
        None | Some("rw") => false,
        Some("ro") => true,
        Some(option) => return Err(format!("`{option}` is none of ro and rw")),
    };
    if parts.next().is_some() || source.is_empty() {
        return Err(wrong());
    }
    let path = trimmed(path);
    let volume = if source.starts_with(['.', '~']) {
        return Err(format!(
            "`{source}` is relative, and each node has folders of its own: give an absolute path"
        ));
    } else if source.contains('/') {
        let source = trimmed(source);
        if !is_plain_path(&source) {
            return Err(format!("`{source}` is no absolute path without `.`, `..` and `//`"));
        }
        let name = format!("path-{}", shoal_protocol::model::Digest::of(source.as_bytes()).short());
        Volume { name, source: VolumeSource::Device(source), on_loss: OnLoss::Wait }
    } else {
        Volume { name: source.into(), source: VolumeSource::Kept, on_loss: OnLoss::Wait }
    };
    Ok(Mounted { volume, path, read_only })
}

fn trimmed(path: &str) -> String {
    match path.trim_end_matches('/') {
        "" if !path.is_empty() => "/".into(),
        path => path.into(),
    }
}

/// Reads what is done when the node that keeps a volume is down.
///
/// # Errors
/// It is none of the known ways.
pub fn on_loss(text: &str) -> Result<OnLoss, String> {
    match text {
        "wait" => Ok(OnLoss::Wait),
        "empty" => Ok(OnLoss::Empty),
        _ => Err(format!("`{text}` is none of wait and empty")),
    }
}

/// Reads `PATH[:PATH][:rwm]` as docker has it.
///
/// # Errors
/// It has another form, or asks for less than all of `rwm`.
pub fn device(text: &str) -> Result<Device, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, path) = match parts.as_slice() {
        [host] | [host, "rwm"] => (host, host),
        [host, path] | [host, path, "rwm"] if path.starts_with('/') => (host, path),
        [_, rights] | [_, _, rights] if rights.bytes().all(|b| b"rwm".contains(&b)) => {
            return Err(format!("`{rights}`: a device is given with all of rwm, or not at all"));
        }
        _ => return Err(format!("`{text}` is not of the form /dev/NAME or /dev/NAME:/dev/OTHER")),
    };
    Ok(Device { host: (*host).into(), path: (*path).into() })
}

/// Reads an option of the engine's security modules.
///
/// # Errors
/// It is empty.
pub fn security(text: &str) -> Result<String, String> {
    // Forms that docker takes, and one engine refuses.
    let is_true = |text: &str| text == "no-new-privileges:true" || text == "no-new-privileges=true";
    match text {
        "" => Err("an option is expected, as in `no-new-privileges`".into()),
        text if is_true(text) => Ok(NO_NEW_PRIVILEGES.into()),
        text => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volume_is_read_as_docker_reads_it() {
        let data = volume("data:/var/lib/db/").unwrap();
        assert_eq!((data.volume.name.as_str(), data.path.as_str()), ("data", "/var/lib/db"));
        assert_eq!((data.volume.source.clone(), data.read_only), (VolumeSource::Kept, false));
        let path = volume("/srv/www/:/www:ro").unwrap();
        assert_eq!(path.volume.source, VolumeSource::Device("/srv/www".into()));
        assert!(path.read_only);
        for text in ["data", "/data", ":/x", "./data:/x", "a/../b:/x", "a:/x:ro:z", "a:/x:cached"] {
            assert!(volume(text).is_err(), "{text}");
        }
    }

    /// Two mounts of one source are one volume; `on_loss` is about those that are kept.
    #[test]
    fn storage_has_each_volume_once() {
        let all = ["data:/a", "data:/b", "/etc:/c", "/etc:/d"].map(|text| volume(text).unwrap());
        let volumes = storage(&all, Some(OnLoss::Empty)).unwrap();
        let policies: Vec<OnLoss> = volumes.iter().map(|it| it.on_loss).collect();
        assert_eq!(policies, [OnLoss::Empty, OnLoss::Wait]);
        assert!(storage(&all[2..], Some(OnLoss::Empty)).is_err());
    }

    #[test]
    fn device_is_given_whole() {
        let of = |host: &str, path: &str| Device { host: host.into(), path: path.into() };
        assert_eq!(device("/dev/ttyUSB0").unwrap(), of("/dev/ttyUSB0", "/dev/ttyUSB0"));
        assert_eq!(device("/dev/a:/dev/b:rwm").unwrap(), of("/dev/a", "/dev/b"));
        assert_eq!(device("/dev/a:rwm").unwrap(), of("/dev/a", "/dev/a"));
        assert!(device("/dev/a:r").unwrap_err().contains("all of rwm"));
        assert!(device("/dev/a:/dev/b:rw").unwrap_err().contains("all of rwm"));
        assert_eq!(security("no-new-privileges:true").unwrap(), NO_NEW_PRIVILEGES);
    }
}
