//! Checks of containers, before anything of them is stored or sent.

use std::collections::BTreeSet;

use super::super::name::Label;
use super::allow::{NO_NEW_PRIVILEGES, is_capability, is_plain_path};
use super::container::{Container, Image, NetworkMode, Privileges};
use super::{InvalidSpec, Mount, OnLoss, Port, SpecForm, Volume, VolumeSource, check_env};

/// Bytes of all texts of one container but its environment: a change must fit one gossip message.
const MAX_TEXT: usize = 8 * 1024;
/// Layers of one image: the engines take no more than 127.
const MAX_LAYERS: usize = 127;
/// Platforms of one image.
const MAX_PLATFORMS: usize = 8;
/// Volumes of one workload, mounts, devices and capabilities of one container: far more than people
/// name.
const MAX_ITEMS: usize = 32;
/// Bytes of a path of the device: a node names it when it does not allow it.
const MAX_PATH: usize = 200;
/// The least memory limit of a container: engines refuse less.
const MIN_MEMORY: u64 = 6 << 20;
/// The limits that a Linux process has, without `RLIMIT_`.
const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Checks the containers of a program, whose memory limit is `memory` bytes, its volumes and its
/// ports.
pub(super) fn check(
    containers: &[Container],
    memory: u64,
    form: &SpecForm,
) -> Result<(), InvalidSpec> {
    let storage = &form.storage;
    if memory < MIN_MEMORY {
        return wrong("memory", format!("a container needs at least 6 MiB, not {memory} bytes"));
    }
    check_storage(storage)?;
    check_ports(&form.exposure.ports, containers)?;
    containers.iter().try_for_each(|container| {
        check_one(container)?;
        let taken = container.tmpfs.iter().map(|it| it.path.as_str()).collect();
        check_mounts(&container.mounts, taken, storage)?;
        check_privileges(&container.privileges)
    })
}

fn check_one(container: &Container) -> Result<(), InvalidSpec> {
    let Container {
        name: _,
        image,
        entrypoint,
        command,
        env,
        user,
        workdir,
        hostname,
        labels,
        network,
        http,
        mounts,
        tmpfs,
        read_only: _,
        init: _,
        stop_signal,
        stop_grace,
        shm_size,
        ulimits,
        sysctls,
        privileges,
        limit: _,
        member: _,
        extra: _,
        hooks: _,
    } = container;
    check_env(env)?;
    check_image(image)?;
    let words = entrypoint.iter().chain(command).flatten();
    let pairs = labels.iter().chain(sysctls).flat_map(|(name, value)| [name, value]);
    let paths = tmpfs.iter().map(|tmpfs| &tmpfs.path);
    let paths = paths.chain(mounts.iter().map(|mount| &mount.path));
    let rest = [user, workdir, hostname, stop_signal].into_iter().flatten();
    let devices = privileges.devices.iter().flat_map(|it| [&it.host, &it.path]);
    let rights = privileges.cap_drop.iter().chain(&privileges.cap_add).chain(&privileges.security);
    let texts: Vec<&String> =
        words.chain(pairs).chain(paths).chain(rest).chain(devices).chain(rights).collect();
    let bytes: usize = texts.iter().map(|text| text.len() + 1).sum();
    if bytes > MAX_TEXT {
        return wrong(
            "container",
            format!("{bytes} bytes of options, at most {MAX_TEXT} are allowed"),
        );
    }
    if let Some(text) = texts.iter().find(|text| text.contains('\0')) {
        return wrong("container", format!("{text:?} contains a NUL byte"));
    }
    let paths = workdir.iter().chain(tmpfs.iter().map(|tmpfs| &tmpfs.path));
    if let Some(path) = paths.into_iter().find(|path| !path.starts_with('/')) {
        return wrong("container", format!("`{path}` is not an absolute path"));
    }
    if let Some(name) = labels.keys().find(|name| name.is_empty() || name.contains('=')) {
        return wrong("labels", format!("`{name}` is no name: it is empty or contains `=`"));
    }
    if let Some(name) = labels.keys().find(|name| name.starts_with("shoal.")) {
        return wrong("labels", format!("`{name}` is set by shoal itself: `shoal.` is reserved"));
    }
    if let Some(name) = ulimits.keys().find(|name| !ULIMITS.contains(&name.as_str())) {
        return wrong("ulimits", format!("`{name}` is none of {}", ULIMITS.join(", ")));
    }
    if let Some((name, limit)) = ulimits.iter().find(|(_, limit)| {
        limit.soft < -1 || limit.hard < -1 || (limit.hard != -1 && limit.soft > limit.hard)
    }) {
        return wrong(
            "ulimits",
            format!("`{name}`: soft {} is above hard {}, or below -1", limit.soft, limit.hard),
        );
    }
    if let Some(signal) = stop_signal.as_ref().filter(|signal| !is_signal(signal)) {
        return wrong("stop_signal", format!("`{signal}` is no signal, as `SIGTERM` is one"));
    }
    if stop_grace.is_some_and(|grace| grace.as_secs() > 3_600) {
        return wrong("stop_grace", "more than an hour".into());
    }
    if *http == Some(0) {
        return wrong("http", "port 0 is no port".into());
    }
    if http.is_some() && *network == NetworkMode::None {
        return wrong("http", "a container without a network answers no requests".into());
    }
    if *shm_size == Some(0) || tmpfs.iter().any(|tmpfs| tmpfs.size == Some(0)) {
        return wrong("container", "a file system in memory of 0 bytes".into());
    }
    if hostname.as_ref().is_some_and(|name| !is_host_name(name)) {
        return wrong("hostname", "1 to 63 letters, digits, `-` and `.` are expected".into());
    }
    Ok(())
}

fn check_storage(storage: &[Volume]) -> Result<(), InvalidSpec> {
    if storage.len() > MAX_ITEMS {
        let count = storage.len();
        return wrong("volumes", format!("there are {count}, at most {MAX_ITEMS} are allowed"));
    }
    let mut names = BTreeSet::new();
    for Volume { name, source, on_loss } in storage {
        if let Err(error) = name.parse::<Label>() {
            return wrong("volumes", error.to_string());
        }
        if !names.insert(name) {
            return wrong("volumes", format!("two are called `{name}`"));
        }
        if let VolumeSource::Device(path) = source
            && !is_device_path(path)
        {
            return wrong("volumes", not_a_path(path));
        }
        if *source == VolumeSource::Scratch && *on_loss != OnLoss::Wait {
            let why = format!("`{name}` goes with its replica: nothing of it can be lost");
            return wrong("volumes", why);
        }
    }
    Ok(())
}

fn check_ports(ports: &[Port], containers: &[Container]) -> Result<(), InvalidSpec> {
    if ports.len() > MAX_ITEMS {
        let count = ports.len();
        return wrong("ports", format!("there are {count}, at most {MAX_ITEMS} are allowed"));
    }
    if ports.iter().any(|it| it.device == 0 || it.replica == 0) {
        return wrong("ports", "0 is no port; give the device's port and the container's".into());
    }
    let mut taken = BTreeSet::new();
    if let Some(twice) = ports.iter().find(|it| !taken.insert((it.device, it.udp))) {
        return wrong("ports", format!("port {} of the device stands there twice", twice.device));
    }
    let has_none = |it: &Container| it.network != NetworkMode::Bridge;
    if !ports.is_empty() && containers.iter().any(has_none) {
        let why = "only a container in the network `bridge` has ports of the device lead to it";
        return wrong("ports", why.into());
    }
    Ok(())
}

/// Checks the volumes of a component, which it has as folders at these places.
pub(super) fn check_folders(mounts: &[Mount], storage: &[Volume]) -> Result<(), InvalidSpec> {
    check_storage(storage)?;
    check_mounts(mounts, BTreeSet::new(), storage)?;
    if let Some(Volume { name, source, .. }) =
        storage.iter().find(|it| it.source != VolumeSource::Kept)
    {
        let what = match source {
            VolumeSource::Device(_) => "is a path of the device",
            VolumeSource::Kept | VolumeSource::Scratch => "goes with its replica",
        };
        return wrong("volumes", format!("`{name}` {what}, and a component gets none"));
    }
    let is_placed = |volume: &&Volume| mounts.iter().any(|mount| mount.volume == volume.name);
    match storage.iter().find(|volume| !is_placed(volume)) {
        Some(Volume { name, .. }) => wrong("volumes", format!("`{name}` has no place in it")),
        None => Ok(()),
    }
}

fn check_mounts<'a>(
    mounts: &'a [Mount],
    mut paths: BTreeSet<&'a str>,
    storage: &[Volume],
) -> Result<(), InvalidSpec> {
    if mounts.len() > MAX_ITEMS {
        let count = mounts.len();
        return wrong("volumes", format!("{count} mounts, at most {MAX_ITEMS} are allowed"));
    }
    for mount in mounts {
        if storage.iter().all(|volume| volume.name != mount.volume) {
            return wrong("volumes", format!("there is no volume `{}`", mount.volume));
        }
        if !is_plain_path(&mount.path) || mount.path == "/" {
            return wrong("volumes", not_a_path(&mount.path));
        }
        if !paths.insert(&mount.path) {
            return wrong("volumes", format!("two are mounted at {}", mount.path));
        }
    }
    Ok(())
}

fn check_privileges(privileges: &Privileges) -> Result<(), InvalidSpec> {
    let Privileges { privileged: _, cap_add, cap_drop: _, devices, security } = privileges;
    for (field, count) in
        [("cap_add", cap_add.len()), ("devices", devices.len()), ("security_opt", security.len())]
    {
        if count > MAX_ITEMS {
            return wrong(field, format!("there are {count}, at most {MAX_ITEMS} are allowed"));
        }
    }
    if let Some(name) = cap_add.iter().find(|name| !is_capability(name)) {
        return wrong("cap_add", format!("`{name}` is no capability, as `NET_ADMIN` is one"));
    }
    for device in devices {
        let is_device = is_device_path(&device.host) && device.host.starts_with("/dev/");
        if !is_device {
            let host = &device.host;
            return wrong("devices", format!("`{host}` is no device, as `/dev/ttyUSB0` is one"));
        }
        if !is_plain_path(&device.path) {
            return wrong("devices", not_a_path(&device.path));
        }
    }
    // Engines take further ones in forms of their own, or not at all.
    let is_option = |option: &&String| {
        *option == NO_NEW_PRIVILEGES
            || *option == "seccomp=unconfined"
            || ["apparmor=", "label="].iter().any(|name| {
                option.strip_prefix(name).is_some_and(|value| !value.is_empty() && value.is_ascii())
            })
    };
    if let Some(option) = security.iter().find(|option| !is_option(option)) {
        return wrong(
            "security_opt",
            format!(
                "`{option}` is none of no-new-privileges, seccomp=unconfined, apparmor=PROFILE \
                    and label=OPTION"
            ),
        );
    }
    Ok(())
}

fn is_device_path(path: &str) -> bool {
    path.len() <= MAX_PATH && is_plain_path(path)
}

fn not_a_path(path: &str) -> String {
    format!("`{path}` is no absolute path without `.`, `..`, `//` and a slash at its end")
}

fn check_image(image: &Image) -> Result<(), InvalidSpec> {
    let text = &image.reference;
    let fits = (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if !fits || text.starts_with('-') {
        return wrong("image", format!("{text:?} is no reference, as in `redis:7`"));
    }
    if image.platforms.len() > MAX_PLATFORMS {
        let count = image.platforms.len();
        return wrong("image", format!("{count} platforms, at most {MAX_PLATFORMS} are allowed"));
    }
    let mut archs: Vec<&str> = image.platforms.iter().map(|it| it.arch.as_str()).collect();
    archs.sort_unstable();
    if let Some(pair) = archs.windows(2).find(|pair| pair[0] == pair[1]) {
        return wrong("image", format!("two images for `{}`", pair[0]));
    }
    if let Some(it) = image.platforms.iter().find(|it| it.layers.len() > MAX_LAYERS) {
        let count = it.layers.len();
        return wrong("image", format!("{count} layers, at most {MAX_LAYERS} are allowed"));
    }
    for platform in &image.platforms {
        let digests = platform.layers.iter().map(|layer| u128::from(layer.pieces())).sum::<u128>();
        let listed = platform.pieces.map(|list| u128::from(list.size));
        if listed.is_some_and(|bytes| digests == 0 || bytes != digests * 32) {
            let why = "its list of pieces is not as long as its layers have pieces";
            return wrong("image", why.into());
        }
    }
    Ok(())
}

fn is_signal(text: &str) -> bool {
    let name = text.strip_prefix("SIG").unwrap_or_default();
    let is_number = text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
    is_number || (!name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+'))
}

fn is_host_name(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'))
        && !text.starts_with(['-', '.'])
}

fn wrong(field: &'static str, why: String) -> Result<(), InvalidSpec> {
    Err(InvalidSpec::Container { field, why })
}
