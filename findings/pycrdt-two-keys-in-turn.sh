#!/usr/bin/env bash
# pycrdt 0.14.13 (Yjs' types in Python): the space that overwritten values of a map take depends on
# whether two keys are written in turn. 10,000 writes of one key encode to 33 bytes, the same writes
# to two keys in turn to 50 KB.
#
# Expected: overwritten values leave little, as the documentation says of garbage collection,
# whichever keys they had.
# Seen: tombstones of consecutive writes are merged into one run; writes of two keys in turn have no
# neighbours to merge with.
# It matters to state that is written for years on small devices: status fields in one map grow
# without end.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder"
"$folder/bin/pip" --quiet --disable-pip-version-check install pycrdt==0.14.13
"$folder/bin/python" - <<'P'
from pycrdt import Doc, Map


def encoded(keys):
    document = Doc(client_id=1)
    document["map"] = values = Map({})
    for number in range(10_000):
        values[f"key{number % keys}"] = number
    return len(document.get_update())


one, two = encoded(1), encoded(2)
print(f"10,000 writes: to one key {one} bytes, to two keys in turn {two} bytes")
assert one < 100, one
assert two > 40_000, two
P
