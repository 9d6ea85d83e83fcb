//! `--mount` of docker, which says with names what `--volume` and `--tmpfs` say by position.

use shoal_protocol::model::spec::Tmpfs;

use super::volume::{Mounted, volume};
use crate::manifest::quantity;

/// A mount of any kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MountOption {
    /// A volume, or a path of the device.
    Volume(Mounted),
    /// Files in memory.
    Tmpfs(Tmpfs),
}

/// Reads `type=bind|volume|tmpfs,source=..,target=..[,readonly]` as docker has it.
///
/// # Errors
/// It has another form, or a part that has no meaning here; the error says what to write.
pub fn mount(text: &str) -> Result<MountOption, String> {
    let (mut kind, mut source, mut target) = ("volume", None, None);
    let (mut read_only, mut size) = (false, None);
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        match key {
            "type" => kind = value,
            "source" | "src" => source = Some(value),
            "target" | "destination" | "dst" => target = Some(value),
            "readonly" | "ro" => read_only = flag(key, value)?,
            "tmpfs-size" => {
                // Docker takes bytes without a unit.
                let bytes = value.parse::<u64>().map_err(|_| ());
                let bytes = bytes.or_else(|()| quantity::size(value).map_err(|it| it.to_string()));
                size = Some(bytes?);
            }
            // It says how other systems than Linux share files.
            "consistency" => {}
            _ => {
                return Err(format!(
                    "`{part}`: type, source, target, readonly and tmpfs-size are known"
                ));
            }
        }
    }
    let target = target.filter(|it| !it.is_empty());
    let target = target.ok_or("the path in the container is missing: target=/PATH")?;
    if !target.starts_with('/') || target.contains(':') {
        return Err(format!("`target={target}` is no absolute path without colons"));
    }
    let mode = if read_only { ":ro" } else { "" };
    match (kind, source.filter(|it| !it.is_empty())) {
        ("tmpfs", None) if !read_only => {
            Ok(MountOption::Tmpfs(Tmpfs { path: target.into(), size, exec: false }))
        }
        ("tmpfs", _) => Err("a tmpfs has no source and is not read-only".into()),
        (_, _) if size.is_some() => Err("tmpfs-size is for type=tmpfs".into()),
        ("bind", Some(source)) if source.starts_with('/') => {
            volume(&format!("{source}:{target}{mode}")).map(MountOption::Volume)
        }
        ("bind", _) => Err("type=bind takes an absolute path of the device: source=/PATH".into()),
        ("volume", Some(source)) if !source.contains(['/', ':']) => {
            volume(&format!("{source}:{target}{mode}")).map(MountOption::Volume)
        }
        ("volume", Some(source)) => {
            Err(format!("`{source}` is no volume's name; for a path of the device: type=bind"))
        }
        ("volume", None) => {
            Err("a volume without a name could not be found again: source=NAME".into())
        }
        _ => Err(format!("`type={kind}` is none of bind, volume and tmpfs")),
    }
}

fn flag(key: &str, value: &str) -> Result<bool, String> {
    match value {
        "" | "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("`{key}={value}` is neither true nor false")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_mean_what_the_short_options_mean() {
        let same = |text: &str, short: &str| {
            assert_eq!(mount(text), volume(short).map(MountOption::Volume), "{text}");
        };
        same("type=bind,source=/srv/www,target=/www,readonly", "/srv/www:/www:ro");
        same("type=volume,src=data,dst=/var/lib/db", "data:/var/lib/db");
        same("source=data,destination=/data,readonly=false", "data:/data");
        let tmpfs = |size| Ok(MountOption::Tmpfs(Tmpfs { path: "/run".into(), size, exec: false }));
        assert_eq!(mount("type=tmpfs,target=/run"), tmpfs(None));
        assert_eq!(mount("type=tmpfs,target=/run,tmpfs-size=65536"), tmpfs(Some(65536)));
        for (bad, why) in [
            ("type=bind,target=/www", "source=/PATH"),
            ("type=volume,target=/www", "source=NAME"),
            ("type=volume,source=/srv,target=/www", "type=bind"),
            ("type=bind,source=/srv", "target=/PATH"),
            ("type=bind,source=/a,target=/b,bind-propagation=shared", "bind-propagation"),
            ("type=npipe,source=a,target=/b", "none of bind, volume and tmpfs"),
            ("type=tmpfs,source=a,target=/b", "no source"),
        ] {
            let error = mount(bad).unwrap_err();
            assert!(error.contains(why), "{bad}: {error}");
        }
    }
}
