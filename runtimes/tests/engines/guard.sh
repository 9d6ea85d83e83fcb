# Holds the network namespace of the tests, and ends the engines when the tests are over, however
# they ended: standard input is a pipe that the tests hold. Each line of it is the id of an engine's
# process. Bridges, addresses, firewall rules and kernel parameters of the network are in the
# namespace and vanish with it: nothing of the device's network is ever changed.
# Argument: the folder of everything.
folder=$1
trap '' INT TERM HUP
[ "$(readlink /proc/self/ns/net)" != "$(readlink /proc/$PPID/ns/net)" ] || exit 1
ip link set lo up
ip link add shoal0 type bridge
ip addr add 10.213.8.1/24 dev shoal0
ip link set shoal0 up
echo ready
pids=
while read -r pid; do pids="$pids $pid"; done

# The id is still that of an engine in our own folder.
is_engine() {
    tr '\0' ' ' 2>/dev/null < "/proc/$1/cmdline" | grep -qF "$folder/"
}

for pid in $pids; do is_engine "$pid" && kill -CONT "$pid"; done
for used in "$folder"/podman-*/used; do
    [ -e "$used" ] || continue
    of=${used%/used}
    CONTAINERS_CONF=$of/containers.conf CONTAINERS_STORAGE_CONF=$of/storage.conf \
        podman --root "$of/root" --runroot "$of/run" rm -fa -t 0
done
for pid in $pids; do is_engine "$pid" && kill "$pid"; done
tries=0
for pid in $pids; do
    while is_engine "$pid" && [ $tries -lt 300 ]; do sleep 0.1; tries=$((tries + 1)); done
    is_engine "$pid" && kill -KILL "$pid"
done
# Programs of killed engines that outlived them: each names our own folder among its arguments.
for pid in $(ps -eo pid=,args= | awk -v folder="$folder/" 'index($0, folder) { print $1 }'); do
    [ "$pid" != $$ ] && is_engine "$pid" && kill -KILL "$pid"
done
awk -v folder="$folder/" 'index($2, folder) == 1 { print $2 }' /proc/mounts | sort -r |
    while read -r mount; do umount -l "$mount"; done
rm -rf "$folder"
