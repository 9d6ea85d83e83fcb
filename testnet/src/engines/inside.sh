# The first process of an engine's own namespaces: it shows the engine a device of its own, runs it,
# and runs it again when asked to. When it ends, the kernel ends all the others.
# $1: the folder, which alone can be written to. The rest: the engine's command.
set -e
# Programs such as iptables are links through /etc.
cp -a /etc/alternatives "$1/alternatives" 2> /dev/null || mkdir -p "$1/alternatives"
mount --bind "$1" "$1"
mount -o remount,bind,ro /
mount -t tmpfs none /run
mount -t tmpfs none /etc
mount -t tmpfs none /dev/shm
: > /etc/hosts
: > /etc/resolv.conf
ln -s "$1/alternatives" /etc/alternatives
mkdir /etc/containers
echo '{"default":[{"type":"insecureAcceptAnything"}]}' > /etc/containers/policy.json
ip link set lo up
if ip link add shoal0 type bridge 2> /dev/null; then
    ip addr add 10.213.8.1/24 dev shoal0
    ip link set shoal0 up
fi
folder=$1
shift
export TMPDIR="$folder/tmp" CONTAINERS_CONF="$folder/containers.conf"
export CONTAINERS_STORAGE_CONF="$folder/storage.conf"
"$@" &
# Its children that end are taken note of while it waits for a sleep.
while :; do
    sleep 0.1
    if [ -e "$folder/again" ]; then
        rm "$folder/again"
        "$@" &
    fi
done
