#!/usr/bin/env bash
# Podman 4.3.1 (Debian 12): the archive of a container's files has no owners. As root, on Debian 12.
#
# Expected: GET /containers/ID/archive, the Docker API behind `docker cp`, gives each file with its
# owner, and copyUIDGID=true on the way in keeps the owners of an archive, as with Docker.
# Seen: a file of 999:998 in a volume is root's in the archive that comes out. An archive with
# 999:998 keeps its owners on the way in, and loses them with copyUIDGID=true, whose meaning is the
# contrary of Docker's: it gives the files to the container's user.
# It matters to backups of volumes through that API: restored, a database that runs as 999 cannot
# read its own files. No message says that owners were dropped.
set -eu
folder=$(mktemp -d)
service=
trap '[ -z "$service" ] || { kill "$service"; wait "$service" || true; }; rm -rf "$folder"' EXIT
cd "$folder"
apt-get -qq -o APT::Sandbox::User=root download podman=4.3.1+ds1-8+deb12u1+b3 conmon crun netavark \
    libsubid4 libgpgme11 libassuan0 libseccomp2 libdevmapper1.02.1 libyajl2 libcap2
for package in *.deb; do dpkg -x "$package" "$folder/root"; done
usr=$folder/root/usr
# Libraries that the device has come first.
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}:$usr/lib/$(uname -m)-linux-gnu
mkdir -p tmp store run net files
cat >containers.conf <<C
[containers]
[engine]
conmon_path = ["$usr/bin/conmon", "$usr/libexec/podman/conmon"]
runtime = "crun"
helper_binaries_dir = ["$usr/lib/podman"]
cgroup_manager = "cgroupfs"
events_logger = "file"
[engine.runtimes]
crun = ["$usr/bin/crun"]
[network]
network_config_dir = "$folder/net"
C
cat >storage.conf <<C
[storage]
driver = "vfs"
graphroot = "$folder/store"
runroot = "$folder/run"
C
export CONTAINERS_CONF=$folder/containers.conf CONTAINERS_STORAGE_CONF=$folder/storage.conf
podman() { "$usr/bin/podman" --tmpdir "$folder/tmp" "$@"; }
podman --version
tar -C files -cf empty.tar .
podman import --quiet empty.tar localhost/empty:1
podman create --name one --network none --volume data:/data localhost/empty:1 /none
podman system service --time 0 "unix://$folder/socket" &
service=$!
for _ in $(seq 100); do [ -S socket ] && break; sleep 0.1; done
api=http://podman/v1.41/containers/one/archive
call() { curl --silent --show-error --fail --unix-socket "$folder/socket" "$@"; }
put() { call --request PUT --header 'Content-Type: application/x-tar' --data-binary @file.tar "$@"; }
on_disk() { stat --format %u:%g "$(podman volume inspect --format '{{.Mountpoint}}' data)/file"; }
in_archive() { call "$api?path=/data/file" | tar --list --verbose --numeric-owner | awk '{ print $2 }'; }

echo text >files/file
tar -C files --owner=999 --group=998 --numeric-owner -cf file.tar file
put "$api?path=/data"
echo "put, no parameter: on disk $(on_disk), in the archive $(in_archive)"
[ "$(on_disk)" = 999:998 ]
[ "$(in_archive)" = 0/0 ]
put "$api?path=/data&copyUIDGID=true"
echo "put, copyUIDGID=true: on disk $(on_disk)"
[ "$(on_disk)" = 0:0 ]
