//! Disks for folders of nodes and engines that can be filled, or made to stall.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::net::missing_of;
use crate::real::cleanup::{self, Folder};
use crate::real::resources::{Resource, quietly};

/// MiB of a disk: room for a node's state, artifacts and compiled code above the 64 MiB that the
/// artifact store keeps free.
const MIB: u64 = 128;

/// A disk for a node's state. Drop unmounts and removes it; the node must be gone before.
pub struct Disk {
    mount: PathBuf,
    resource: Resource,
    // Dropped after the mount in it is removed.
    _folder: Folder,
}

impl Disk {
    /// The reason why [`Disk::small`] is not possible here, for people; none when it is.
    pub fn impossible() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("mounting a small disk needs root: run it as root".to_owned());
        }
        missing_of(&[("mount", "mount"), ("umount", "mount")])
    }

    /// The reason why [`Disk::stalling`] is not possible here, for people; none when it is.
    pub fn stalls_impossible() -> Option<String> {
        Self::impossible()
            .or_else(|| missing_of(&[("mkfs.ext4", "e2fsprogs"), ("fsfreeze", "util-linux")]))
    }

    /// Makes a small disk in memory.
    pub fn small() -> Result<Self> {
        let size = format!("size={MIB}m");
        Self::mounted(|_, mount| {
            let mut command = Command::new("mount");
            command.args(["-t", "tmpfs", "-o", &size, "shoal-chaos"]).arg(mount);
            Ok(command)
        })
    }

    /// Makes a disk that can be frozen: ext4 in a file.
    pub fn stalling() -> Result<Self> {
        Self::mounted(|folder, mount| {
            let image = folder.join("image");
            let file =
                File::create(&image).with_context(|| format!("cannot make {}", image.display()))?;
            file.set_len(MIB << 20).with_context(|| format!("cannot size {}", image.display()))?;
            quietly(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
            let mut command = Command::new("mount");
            command.args(["-o", "loop"]).arg(&image).arg(mount);
            Ok(command)
        })
    }

    fn mounted(how: impl FnOnce(&Path, &Path) -> Result<Command>) -> Result<Self> {
        let folder = Folder::new(false)?;
        let mount = folder.path().join("disk");
        fs::create_dir(&mount).with_context(|| format!("cannot make {}", mount.display()))?;
        let mut command = how(folder.path(), &mount)?;
        let resource = Resource::Mount(mount.clone());
        let disk = Disk { mount, resource: resource.clone(), _folder: folder };
        cleanup::create(resource, &mut command)?;
        Ok(disk)
    }

    /// The folder for a node's state.
    pub fn state(&self) -> PathBuf {
        self.folder("state")
    }

    /// A folder on it, which need not exist yet.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.mount.join(name)
    }

    /// Fills it to the last byte.
    pub fn fill(&self) -> Result<()> {
        let path = self.filler();
        let mut file =
            File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
        // Ever smaller pieces, so that not even a small file fits afterwards.
        for size in [1 << 20, 4096, 1] {
            let piece = vec![0xAA; size];
            for _ in 0..=(MIB << 20) / size as u64 {
                match file.write_all(&piece) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => bail!("cannot fill {}: {error}", path.display()),
                }
            }
        }
        Ok(())
    }

    /// Deletes the file that `fill` wrote.
    pub fn free(&self) -> Result<()> {
        let path = self.filler();
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))
    }

    fn filler(&self) -> PathBuf {
        self.mount.join("filler")
    }

    /// Blocks all writes and syncs on this disk until `resume`.
    pub fn stall(&self) -> Result<()> {
        quietly(Command::new("fsfreeze").arg("--freeze").arg(&self.mount))
    }

    /// Lets blocked writes go on.
    pub fn resume(&self) -> Result<()> {
        quietly(Command::new("fsfreeze").arg("--unfreeze").arg(&self.mount))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        cleanup::remove(&self.resource);
    }
}
