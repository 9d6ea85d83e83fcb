//! The files of secrets and configs: in a folder in memory that only this user can open, each bound
//! to its place in the container.
//!
//! **Nothing of them reaches a disk**: neither the image, nor the container's own layer, nor a
//! label. They are removed with the container, and are gone when the device restarts.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use bollard::models::{Mount, MountType};
use rustix::fs::{Access, statfs};
use shoal_protocol::model::Digest;

use super::refusal::Failure;
use crate::given::GivenFile;
use crate::model::{ContainerPayload, InstanceId, Launch};

/// The kernel's number of file systems in memory.
const TMPFS: i64 = 0x0102_1994;

/// The folder for the files of this node's containers, made when there is one; none where the
/// device has no place for it.
pub(super) fn folder(owner: &str) -> Option<PathBuf> {
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let places = own.into_iter().chain(["/run", "/dev/shm"].map(PathBuf::from));
    let name = format!("shoal-{}", Digest::of(owner.as_bytes()).short());
    let mut fit = places.filter(|place| is_in_memory(place) && can_write(place));
    fit.next().map(|place| place.join(&name))
}

fn can_write(place: &Path) -> bool {
    rustix::fs::access(place, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

fn is_in_memory(place: &Path) -> bool {
    // The width of the type differs between machines.
    #[allow(clippy::unnecessary_cast)]
    statfs(place).is_ok_and(|found| found.f_type as i64 == TMPFS)
}

/// Makes a folder that nobody else can open. One that is there must be so, too: in `/dev/shm`
/// anybody may have made it.
fn make(folder: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => return made,
    }
    let found = fs::symlink_metadata(folder)?;
    let is_own = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
    match is_own && found.mode() & 0o077 == 0 {
        true => Ok(()),
        false => Err(io::Error::new(ErrorKind::PermissionDenied, "somebody else made it")),
    }
}

fn of_instance(folder: &Path, id: &InstanceId) -> PathBuf {
    folder.join(Digest::of(id.as_str().as_bytes()).to_string())
}

/// The name of a file among those of its instance. Names of containers have no dots.
fn file_name(other: Option<&str>, at: usize) -> String {
    match other {
        None => at.to_string(),
        Some(other) => format!("{other}.{at}"),
    }
}

/// The files of a launch, or of another container of its group, as engines take them.
#[derive(Debug, Default)]
pub(super) struct Attached {
    /// Where the device has SELinux: only these say that a file is the container's own.
    pub binds: Vec<String>,
    /// Elsewhere: **an engine that does not see the file refuses**. For one of `binds` it makes an
    /// empty folder in its place, and the program finds a secret that is none.
    pub mounts: Vec<Mount>,
}

/// Where SELinux shows whether it acts.
const SELINUX: &str = "/sys/fs/selinux/enforce";

pub(super) fn attached(folder: Option<&Path>, launch: &Launch, other: Option<&str>) -> Attached {
    attach(folder, launch, other, Path::new(SELINUX).exists())
}

fn attach(
    folder: Option<&Path>,
    launch: &Launch,
    other: Option<&str>,
    is_labelled: bool,
) -> Attached {
    let Some(folder) = folder else { return Attached::default() };
    let own = of_instance(folder, &launch.id);
    let given = other.map_or(&launch.given, |other| launch.given.of(other));
    let files = given.files.iter().enumerate();
    let files = files.map(|(at, file)| (own.join(file_name(other, at)), file));
    if is_labelled {
        let bind = |(source, file): (PathBuf, &GivenFile)| {
            format!("{}:{}:ro,Z", source.display(), file.path)
        };
        return Attached { binds: files.map(bind).collect(), mounts: Vec::new() };
    }
    let mount = |(source, file): (PathBuf, &GivenFile)| Mount {
        target: Some(file.path.clone()),
        source: Some(source.display().to_string()),
        typ: Some(MountType::BIND),
        read_only: Some(true),
        ..Mount::default()
    };
    Attached { binds: Vec::new(), mounts: files.map(mount).collect() }
}

/// Writes the files of a launch, anew if there were some.
pub(super) fn write(
    folder: Option<&Path>,
    launch: &Launch,
    payload: &ContainerPayload,
) -> Result<(), Failure> {
    let main = (None, &payload.container, &launch.given);
    let others = payload.others.iter().map(|it| (Some(&*it.name), it, launch.given.of(&it.name)));
    let all: Vec<_> = [main].into_iter().chain(others).collect();
    if all.iter().all(|(_, _, given)| given.files.is_empty()) {
        return Ok(());
    }
    let Some(folder) = folder else {
        return Err(Failure::lasting(
            "this device has no file system in memory for its secrets: neither XDG_RUNTIME_DIR, \
             /run nor /dev/shm is one that shoal can write; give them as variables (env=NAME)",
        ));
    };
    remove(Some(folder), &launch.id);
    let own = of_instance(folder, &launch.id);
    let written = make(folder).and_then(|()| make(&own)).and_then(|()| {
        all.into_iter().try_for_each(|(other, container, given)| {
            let user = user(container.user.as_deref());
            let mut files = given.files.iter().enumerate();
            files.try_for_each(|(at, file)| write_one(&own.join(file_name(other, at)), file, user))
        })
    });
    written.map_err(|error| {
        remove(Some(folder), &launch.id);
        let hint = match error.kind() {
            ErrorKind::PermissionDenied => {
                "; a daemon that is not root cannot give them to the container's user: mode=0444 \
                 lets every user in the container read them"
            }
            _ => "",
        };
        Failure::passing(format!("its secrets and configs cannot be written: {error}{hint}"))
    })
}

/// The numbers of the container's user and group, where they are numbers.
fn user(text: Option<&str>) -> (Option<u32>, Option<u32>) {
    let Some(text) = text else { return (None, None) };
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    (user.parse().ok(), group.parse().ok())
}

fn write_one(path: &Path, file: &GivenFile, user: (Option<u32>, Option<u32>)) -> io::Result<()> {
    let mut out = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    out.write_all(file.bytes.reveal())?;
    let (uid, gid) = (file.uid.or(user.0), file.gid.or(user.1));
    if uid.is_some_and(|it| it != 0) || gid.is_some_and(|it| it != 0) {
        chown(path, uid, gid)?;
    }
    out.set_permissions(Permissions::from_mode(file.mode))
}

/// A file among those of an instance while its containers' hooks after the start run.
const HOOKS: &str = "hooks";

/// Notes that the hooks after the start of an instance's containers run, or no longer. A daemon
/// that ends meanwhile finds the note, and starts the containers anew. Without a folder there is no
/// note.
pub(super) fn note_hooks(folder: Option<&Path>, id: &InstanceId, run: bool) {
    let Some(folder) = folder else { return };
    let own = of_instance(folder, id);
    let noted = match run {
        true => make(folder).and_then(|()| make(&own)).and_then(|()| {
            OpenOptions::new().write(true).create(true).truncate(true).open(own.join(HOOKS))
        }),
        false => return drop(fs::remove_file(own.join(HOOKS))),
    };
    if let Err(error) = noted {
        tracing::warn!(%id, "its hooks are not run again if this program ends meanwhile: {error}");
    }
}

/// Whether the hooks of an instance's containers were running when this program ended.
pub(super) fn hooks_ran(folder: Option<&Path>, id: &InstanceId) -> bool {
    folder.is_some_and(|folder| of_instance(folder, id).join(HOOKS).exists())
}

/// Removes the files of an instance. Nothing can be done about a failure; the device's restart
/// removes them.
pub(super) fn remove(folder: Option<&Path>, id: &InstanceId) {
    let Some(folder) = folder else { return };
    match fs::remove_dir_all(of_instance(folder, id)) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(%id, "the files of its secrets stay in memory: {error}");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::create::tests::launch;
    use super::*;
    use crate::given::Hidden;
    use crate::model::Payload;

    fn with_file(mode: u32) -> Launch {
        let mut launch = launch();
        launch.given.files.push(GivenFile {
            path: "/run/secrets/db".into(),
            mode,
            uid: None,
            gid: None,
            bytes: Hidden::new(*b"hunter2"),
        });
        launch
    }

    fn payload(launch: &Launch) -> &ContainerPayload {
        let Payload::Container(payload) = &launch.payload else { panic!() };
        payload
    }

    #[test]
    fn files_are_private_have_their_mode_and_go_with_the_container() {
        let above = tempfile::tempdir().unwrap();
        let folder = above.path().join("shoal-1");
        let launch = with_file(0o440);
        for _ in 0..2 {
            write(Some(&folder), &launch, payload(&launch)).unwrap();
        }
        let labelled = attach(Some(&folder), &launch, None, true);
        let (source, rest) = labelled.binds[0].split_once(':').unwrap();
        assert_eq!(rest, "/run/secrets/db:ro,Z");
        let Attached { binds, mounts } = attach(Some(&folder), &launch, None, false);
        assert_eq!((binds.len(), mounts.len()), (0, 1));
        assert_eq!(mounts[0].source.as_deref(), Some(source));
        assert_eq!(mounts[0].target.as_deref(), Some("/run/secrets/db"));
        assert_eq!(mounts[0].read_only, Some(true));
        assert_eq!(fs::read(source).unwrap(), b"hunter2");
        assert_eq!(fs::metadata(source).unwrap().mode() & 0o7777, 0o440);
        let above = Path::new(source).parent().unwrap();
        assert_eq!(fs::metadata(above).unwrap().mode() & 0o777, 0o700);
        remove(Some(&folder), &launch.id);
        assert!(!above.exists());
    }

    /// Anybody can make a folder in `/dev/shm` before the daemon does.
    #[test]
    fn folder_that_others_can_open_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("shoal-1");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o755)).unwrap();
        assert!(make(&open).is_err());
        fs::set_permissions(&open, Permissions::from_mode(0o700)).unwrap();
        make(&open).unwrap();
    }

    #[test]
    fn device_without_memory_for_files_says_so() {
        let launch = with_file(0o400);
        let failure = write(None, &launch, payload(&launch)).unwrap_err();
        assert!(failure.reason.contains("env=NAME"), "{}", failure.reason);
    }
}
